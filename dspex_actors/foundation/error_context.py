"""`error.context`: in which operation an error came up, and what led to it; plain data that goes where the error goes.

An error gets it at the innermost operation that it leaves, with what all operations around that one have noted by
then. As it leaves those, what they have noted meanwhile is added. One that comes from another process brings what was
noted there. An error that is raised again in another operation gets a new one.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from dspex_actors.foundation.brief import MOST, brief, brief_text

#: An error's context is at most so many bytes as JSON.
MAX_BYTES = 8192
#: So many of them are for the path, for the metadata, and for one note.
_PATH_BYTES, _METADATA_BYTES, _ROW_BYTES = 1500, 2000, 2000
_ELLIPSIS = "…"
#: Characters of a name.
_NAME = 80
#: Where it stands if the exception has a `context` of its own.
OTHER_NAME = "dspex_context"
_KEYS = frozenset({"operation", "correlation_id", "path", "breadcrumbs", "trace"})

#: Exceptions that end a loop or a generator, and are no errors.
_NO_ERRORS = (StopIteration, StopAsyncIteration)


class Place(Protocol):
    """An operation, as an error that leaves it needs it."""

    @property
    def parent(self) -> Any:
        """The operation that it belongs to; None: it is a first one."""

    @property
    def correlation_id(self) -> str:
        """What it belongs to."""

    @property
    def path(self) -> list[str]:
        """The names of the operations from the first one to this one."""

    @property
    def noted(self) -> int:
        """How many notes it has taken."""

    @property
    def breadcrumbs(self) -> list[dict[str, Any]]:
        """The last of its breadcrumbs."""

    @property
    def trace(self) -> list[dict[str, Any]]:
        """The last of its trace steps."""

    @property
    def metadata(self) -> Mapping[str, Any] | None:
        """What it was given."""


class ErrorContext(dict[str, Any]):
    """The context of an error, which remembers where it was made; it travels as a dict."""

    __slots__ = ("base", "noted", "place")

    def __init__(self, place: Place, base: dict[str, Any] | None) -> None:
        """Collect what is known.

        Args:
            place: the innermost operation of this process that the error has left.
            base: the context that it has brought from another process; None: it was raised here.
        """
        super().__init__(_collect(list(_around(place)), base))
        self.place, self.base, self.noted = place, base, _noted(place)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as a dict."""
        return dict, (dict(self),)


def context_of(error: BaseException) -> dict[str, Any] | None:
    """Return an error's context; None: it has none."""
    for name in ("context", OTHER_NAME):
        found = _attribute(error, name)
        if _is_context(found):
            return found  # type: ignore[no-any-return]
    return None


def add_context(error: BaseException, place: Place) -> None:
    """Note that an error leaves an operation, or goes no further in it. Nothing is raised here.

    Args:
        error: what is raised; only errors get a context, no KeyboardInterrupt or CancelledError.
        place: the operation.
    """
    if not isinstance(error, Exception) or isinstance(error, _NO_ERRORS):
        return
    with contextlib.suppress(Exception):
        known = context_of(error)
        if isinstance(known, ErrorContext) and _is_within(known.place, place):
            if known.noted != _noted(known.place):
                _attach(error, ErrorContext(known.place, known.base))
            return
        base = None
        if known is not None and not isinstance(known, ErrorContext):
            base = known if known["correlation_id"] == place.correlation_id else None
        _attach(error, ErrorContext(place, base))


def _attach(error: BaseException, context: ErrorContext) -> None:
    """Set it, whatever the class of the exception says about attributes; what it has under that name is kept."""
    name = "context" if _has_room(error) else OTHER_NAME
    try:
        BaseException.__setattr__(error, name, context)
    except Exception:  # a property that cannot be set
        BaseException.__setattr__(error, OTHER_NAME, context)


def _has_room(error: BaseException) -> bool:
    found = _attribute(error, "context")
    return found is None or _is_context(found)


def _is_context(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() >= _KEYS


def _attribute(error: BaseException, name: str) -> Any:
    try:
        return getattr(error, name, None)
    except Exception:
        return Ellipsis  # a property of its own


def _around(place: Place | None) -> Iterable[Place]:
    while place is not None:
        yield place
        place = place.parent


def _is_within(inner: Place, outer: Place) -> bool:
    return any(each is outer for each in _around(inner))


def _noted(place: Place) -> int:
    return sum(each.noted for each in _around(place))


# --- what is in it --------------------------------------------------------------------------------------------------


def _size(value: Any) -> int:
    return len(json.dumps(value))


def _collect(around: list[Place], base: dict[str, Any] | None) -> dict[str, Any]:
    place, base = around[0], base or {}
    path = _short_path(base.get("path") or place.path)
    context: dict[str, Any] = {
        "operation": brief_text("/".join(path), 300),
        "correlation_id": brief_text(place.correlation_id, 200),
        "path": path,
        "breadcrumbs": [],
        "trace": [],
    }
    metadata = {name: value for each in reversed(around) for name, value in (each.metadata or {}).items()}
    metadata.update(base.get("metadata") or {})
    if metadata:
        context["metadata"] = _fitting(metadata, _METADATA_BYTES)
    room = MAX_BYTES - _size(context)
    # The last ones say most.
    for kind, row in reversed(_rows(around, base)):
        shown = _fitting(row, _ROW_BYTES)
        room -= _size(shown) + 2
        if room < 0:
            break
        context[kind].insert(0, shown)
    return context


def _rows(around: list[Place], base: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return all that was noted, with its kind, in the order of time."""
    found = []
    for kind in ("breadcrumbs", "trace"):
        for rows in (base.get(kind) or (), *(getattr(each, kind) for each in around)):
            found += [(kind, row) for row in rows if isinstance(row, dict) and isinstance(row.get("at"), int | float)]
    return sorted(found, key=lambda item: item[1]["at"])


def _fitting(value: dict[str, Any], most: int) -> dict[str, Any]:
    """Return it in so many bytes."""
    for characters in (MOST, most // 4, most // 16):
        shown: dict[str, Any] = brief(value, characters)
        if _size(shown) <= most:
            return shown
    return {_ELLIPSIS: f"{len(value)} more"}


def _short_path(path: list[Any]) -> list[str]:
    """Return a path without names in its middle if it is too long."""
    names = [brief_text(str(name), _NAME) for name in path]
    while len(names) > 1 and _size(names) > _PATH_BYTES:
        del names[len(names) // 2]
    return names
