"""Operations: what is being done, for whom, and what led to it; an error that leaves one says so.

::

    with operation("answer", customer=7) as op:
        op.breadcrumb("looked it up", hits=3)
        triage(ticket=text)                     # a child operation of its own

One is open per context: tasks that the code inside starts are in it, and so is what other processes do for it, since
it goes with every call and cast (`supervisors.terms.carried`). A program is an operation by itself.

Most are never looked at, and there is one for every example of a run: whatever is not asked for is not made.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Self

import msgpack

from dspex_actors.foundation.brief import brief
from dspex_actors.foundation.config_errors import ConfigRuntimeError, ConfigValueError
from dspex_actors.foundation.error_context import add_context
from dspex_actors.foundation.ids import new_id
from supervisors import carried

#: An operation keeps its last so many breadcrumbs, and as many trace steps.
KEPT = 32
#: So many names of a path go to another process: the first, and the last ones; each with so many bytes.
PATH_KEPT, NAME_KEPT = 16, 200
#: Characters of a correlation id.
MAX_CORRELATION_ID = 128

#: Called with an operation that is recorded when it starts (False), and when it ends (True; with its error, if it
#: failed). What it raises is not heard of.
Observer = Callable[["Operation", BaseException | None, bool], None]
_observers: list[Observer] = []


class Place:
    """Where something is done: what an operation of this process and one of another have in common."""

    #: What it was given.
    metadata: Mapping[str, Any] | None = None
    #: The operation that it belongs to.
    parent: Place | None = None
    #: What all operations that belong together share.
    correlation_id: str
    #: Its id, and that of the event of its start.
    id: str
    #: The names of the operations from the first one to this one.
    path: list[str]
    #: Whether its start and its end are events.
    is_recorded: bool
    #: How many notes it has taken.
    noted: int = 0
    _name: str
    _breadcrumbs: deque[dict[str, Any]] | None = None
    _trace: deque[dict[str, Any]] | None = None
    _packed: bytes | None = None

    @property
    def breadcrumbs(self) -> list[dict[str, Any]]:
        """The last of its breadcrumbs: `text`, `data`, `operation`, `at` (wall-clock seconds)."""
        return [] if self._breadcrumbs is None else list(self._breadcrumbs)

    @property
    def trace(self) -> list[dict[str, Any]]:
        """The last of its trace steps: `step`, `data`, `operation`, `at` (wall-clock seconds)."""
        return [] if self._trace is None else list(self._trace)

    def child(self, name: str, /, **metadata: Any) -> Operation:
        """Return an operation that belongs to this one, to open with `with` or `async with`, here or in any thread."""
        return Operation(_checked_name(name), metadata, parent=self)

    def breadcrumb(self, text: str, /, **data: Any) -> None:
        """Leave a note of what happened; errors show the last ones.

        Args:
            text: what happened.
            **data: plain data; anything else is shown by its `repr`, and long data cut.
        """
        if self._breadcrumbs is None:
            self._breadcrumbs = deque(maxlen=KEPT)
        self._note(self._breadcrumbs, {"text": _text(text), "data": brief(data)})

    def add_trace_step(self, step: str, data: Any = None, /) -> None:
        """Enter a step of the work, with what it took in or gave.

        Args:
            step: its name.
            data: plain data; anything else is shown by its `repr`, and long data cut.
        """
        if self._trace is None:
            self._trace = deque(maxlen=KEPT)
        self._note(self._trace, {"step": _text(step), "data": brief(data)})

    def _note(self, rows: deque[dict[str, Any]], row: dict[str, Any]) -> None:
        row["operation"], row["at"] = self._name, time.time()
        rows.append(row)
        self.noted += 1

    def to_bytes(self) -> bytes:
        """Return what other processes are told of it."""
        if self._packed is None:
            path = self.path
            if len(path) > PATH_KEPT:
                path = [path[0], *path[1 - PATH_KEPT :]]
            names = [name.encode("utf-8", "backslashreplace")[:NAME_KEPT].decode("utf-8", "ignore") for name in path]
            self._packed = msgpack.packb([self.correlation_id, self.id, names, self.is_recorded])
        return self._packed

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel, in a closure say, as what other processes are told of it."""
        return opened, (self.to_bytes(),)


class Operation(Place):
    """One thing that is done; made by `operation(...)`.

    Args:
        name: what is done, for people.
        metadata: of it; plain data.
        parent: the operation it belongs to; None: it is a first one.
        correlation_id: None: the parent's, and of a first one a new one.
        is_recorded: whether its start and its end are events; None: as the parent's, and of a first one true.
        kind: what it is: operation, module, lm, example, step, ... decides which events it makes.
        inputs: what it took in, for its events.
    """

    #: What it gave, for its events.
    outputs: Any = None
    #: Monotonic seconds; 0.0: not yet.
    started = ended = 0.0
    _id: str | None = None
    _before: Any = None

    def __init__(
        self,
        name: str,
        metadata: Mapping[str, Any] | None = None,
        parent: Place | None = None,
        correlation_id: str | None = None,
        is_recorded: bool | None = None,
        kind: str = "operation",
        inputs: Any = None,
    ) -> None:
        """Prepare it; it starts with `with`."""
        self.name, self.kind, self.parent, self.inputs = name, kind, parent, inputs
        self._correlation_id = correlation_id
        if metadata is not None:
            self.metadata = metadata
        if is_recorded is None:
            is_recorded = parent is None or parent.is_recorded
        self.is_recorded: bool = is_recorded

    @property
    def id(self) -> str:  # type: ignore[override]
        """Its id, and that of the event of its start."""
        if self._id is None:
            self._id = new_id()
        return self._id

    @property
    def correlation_id(self) -> str:  # type: ignore[override]
        """What all operations that belong together share."""
        if self._correlation_id is None:
            self._correlation_id = new_id() if self.parent is None else self.parent.correlation_id
        return self._correlation_id

    @property
    def parent_id(self) -> str | None:
        """The id of the operation that it belongs to; None: it is a first one."""
        return None if self.parent is None else self.parent.id

    @property
    def path(self) -> list[str]:  # type: ignore[override]
        """The names of the operations from the first one to this one."""
        return [self.name] if self.parent is None else [*self.parent.path, self.name]

    @property
    def _name(self) -> str:  # type: ignore[override]
        return self.name

    @property
    def duration(self) -> float:
        """Seconds since it started, or that it took; 0.0 before."""
        return (self.ended or time.monotonic()) - self.started if self.started else 0.0

    def __enter__(self) -> Self:
        """Start it.

        Raises:
            ConfigRuntimeError: it was started before.
        """
        if self.started:
            raise ConfigRuntimeError(
                f"operation {self.name!r} was entered before: open a new one with operation(...) or op.child(...)"
            )
        self._before = carried.get()
        carried.set(self)
        self.started = time.monotonic()
        if self.is_recorded and _observers:
            self._tell(None, False)
        return self

    def __exit__(self, kind: object, error: BaseException | None, frames: object) -> None:
        """End it; what goes wrong leaves with `error.context`."""
        self.ended = time.monotonic()
        # In another task than it was started in, or with one open that is not over, there is nothing to put back.
        if carried.get() is self:
            before = self._before
            while type(before) is Operation and before.ended:  # left before this one: a generator's
                before = before._before
            carried.set(before)
        if error is not None:
            add_context(error, self)
        if self.is_recorded and _observers:
            self._tell(error, True)

    def _tell(self, error: BaseException | None, has_ended: bool) -> None:
        for observer in tuple(_observers):
            with contextlib.suppress(Exception):
                observer(self, error, has_ended)

    async def __aenter__(self) -> Self:
        """Start it."""
        return self.__enter__()

    async def __aexit__(self, kind: object, error: BaseException | None, frames: object) -> None:
        """End it."""
        self.__exit__(kind, error, frames)

    def __repr__(self) -> str:
        """Show its path."""
        return f"<operation {'/'.join(self.path)}>"


class Remote(Place):
    """An operation of another process, as it came with a message; what is noted here stays here.

    Raises:
        ValueError: `data` is not what `to_bytes` has made.
    """

    def __init__(self, data: bytes) -> None:
        """Open it."""
        match msgpack.unpackb(data):
            case [str(correlation_id), str(own), [str(), *_] as path, bool(is_recorded), *_]:
                self.correlation_id, self.id, self.is_recorded = correlation_id, own, is_recorded
                self.path = [str(name) for name in path]
            case _:
                raise ValueError("expected what an operation of another process is told as")
        self._packed = data

    @property
    def _name(self) -> str:  # type: ignore[override]
        return self.path[-1]

    def __repr__(self) -> str:
        """Show its path."""
        return f"<operation {'/'.join(self.path)} of another process>"


def opened(data: bytes) -> Remote | None:
    """Return the operation that came with a message; None: what came is none."""
    try:
        return Remote(data)
    except Exception:  # msgpack has an error for each kind of garbage
        return None


def operation(name: str, /, correlation_id: str | None = None, **metadata: Any) -> Operation:
    """Return an operation to open with `with` or `async with`; it belongs to the one that is open here.

    An error that leaves it has `error.context`, a dict: `operation` and `path` (where it came up), `correlation_id`,
    `breadcrumbs` and `trace` (what was noted before), `metadata` if there is some. Where the exception has a `context`
    of its own it is `error.dspex_context`.

    Args:
        name: what is done, for people.
        correlation_id: an id of the caller's own, at most 128 printable characters; None: that of the operation that
            is open here, or a new one.
        **metadata: plain data that its events and errors show.

    Raises:
        ConfigError: a name that is no text, or such a correlation id.
    """
    if correlation_id is not None and not (
        isinstance(correlation_id, str)
        and 0 < len(correlation_id) <= MAX_CORRELATION_ID
        and correlation_id.isprintable()
    ):
        raise ConfigValueError(
            f"correlation_id is invalid: got {correlation_id!r:.200}, "
            f"expected a text of 1 to {MAX_CORRELATION_ID} printable characters"
        )
    return Operation(_checked_name(name), metadata, parent=current_operation(), correlation_id=correlation_id)


def part(name: str, kind: str, inputs: Any = None) -> Operation:
    """Return an operation of dspex itself, which belongs to the one that is open here.

    Args:
        name: what is done.
        kind: module, lm, step, ...
        inputs: what it takes in; `outputs` is set when it has given something.
    """
    parent = carried.get()
    if type(parent) is not Operation:
        parent = current_operation()
    return Operation(name, None, parent, None, None, kind, inputs)


def _text(text: Any) -> str:
    shown = brief(text)
    return shown if type(shown) is str else str(shown)


def _checked_name(name: object) -> str:
    if isinstance(name, str) and name:
        return name
    raise ConfigValueError(f"the name of an operation is invalid: got {name!r:.200}, expected a text")


def current_operation() -> Operation | Remote | None:
    """Return the operation that is open here; None: none is."""
    found = carried.get()
    if type(found) is bytes:
        found = opened(found)
        carried.set(found)  # it is opened once
    return found if isinstance(found, Operation | Remote) else None


def correlation_id() -> str | None:
    """Return the correlation id of the operation that is open here; None: none is."""
    found = current_operation()
    return None if found is None else found.correlation_id


def breadcrumb(text: str, /, **data: Any) -> None:
    """Leave a note in the operation that is open here; nothing happens where none is."""
    found = current_operation()
    if found is not None:
        found.breadcrumb(text, **data)


def note_error(error: BaseException) -> None:
    """Give an error that goes no further the context of the operation that is open here."""
    found = current_operation()
    if found is not None:
        add_context(error, found)


def observe(observer: Observer) -> Callable[[], None]:
    """Have a function called at the start and the end of every recorded operation; return what ends that."""
    _observers.append(observer)
    return lambda: _observers.remove(observer)
