"""Where the events of this process go: to every outlet that is open, and nowhere while none is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.events.event import Event
from dspex_actors.foundation.events.record import Record, to_record
from dspex_actors.foundation.operation import Operation, Place, Remote, current_operation

#: What an event came from.
Parent = str | Event | Operation | Remote
#: So many of the last events of this process are known with their correlation ids.
RECENT = 1024
#: Takes an event, and the same as it is stored; must not block, and must not raise.
Outlet = Callable[[Event, Record], None]
_outlets: list[tuple[Outlet, object]] = []
_recent: dict[str, str] = {}
#: Where this process is: its node's name and its own.
_place: dict[str, str] = {}


def open_outlet(outlet: Outlet, of: object = None) -> Callable[[], None]:
    """Have the events of this process given to a function; return what ends that.

    Args:
        outlet: the function.
        of: what it tells; it does not get events that are emitted to something else. None: it gets all.
    """
    entry = (outlet, of)
    _outlets.append(entry)

    def close() -> None:
        if entry in _outlets:
            _outlets.remove(entry)

    return close


def set_place(node: str, actor: str) -> None:
    """Say where this process is: events show it."""
    _place.update(node=node, actor=actor)


def wanted() -> bool:
    """Say whether anybody takes events: who makes many asks before."""
    return bool(_outlets)


def emit(event: Event, parent: Parent | None = None, to: object = None) -> Event:
    """Emit an event from here.

    Args:
        event: what happened.
        parent: the event or operation that it came from, or its id; None: the open operation. It has the correlation
            id of one that was emitted here.
        to: only to what tells this (see `open_outlet`), and to those that get all; None: to everybody.

    Returns:
        The event with what was missing filled in.

    Raises:
        ConfigError: it cannot be stored, and names the field; or the parent is none.
    """
    missing = _missing(event, parent)
    if missing:
        event = event.model_copy(update=missing)
    record = to_record(event)
    _remember(event)
    for outlet, of in _outlets:
        if to is None or of is None or of is to:
            outlet(event, record)
    return event


def _missing(event: Event, parent: Parent | None) -> dict[str, str]:
    if not isinstance(event, Event):
        return {}  # refused as it is stored
    missing: dict[str, str] = {name: value for name, value in _place.items() if getattr(event, name) is None}
    if parent is None:
        parent = current_operation()
    elif not isinstance(parent, str | Event | Place):
        raise ConfigError(f"the parent is invalid: got {parent!r:.100}, expected an event, an operation or an id")
    if event.parent_id is None and parent is not None:
        parent_id = parent if isinstance(parent, str) else parent.id
        if parent_id != event.id:
            missing["parent_id"] = parent_id
    if event.correlation_id is None:
        found = _recent.get(parent) if isinstance(parent, str) else getattr(parent, "correlation_id", None)
        operation = current_operation()
        missing["correlation_id"] = found or (event.id if operation is None else operation.correlation_id)
    return missing


def _remember(event: Event) -> None:
    _recent[event.id] = event.correlation_id or event.id
    if len(_recent) > RECENT:
        with contextlib.suppress(KeyError, RuntimeError, StopIteration):  # another thread was faster
            del _recent[next(iter(_recent))]
