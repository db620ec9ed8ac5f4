"""Values as bytes: msgpack, with the types of this library by number, and anything else by cloudpickle.

Plain data, tuples, sets, references, reasons, specs and views travel as msgpack and come back as what they were.
A value that is none of these (a user's object, a class from a notebook) travels as a cloudpickle inside it;
`unpack(..., trusted=False)` refuses those, and processes that only pass messages on never open them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import msgpack

from supervisors.terms.dynamic import DynamicSupervisorSpec
from supervisors.terms.errors import CallFailed, SupervisorsError, from_record
from supervisors.terms.partition import PartitionSupervisorSpec
from supervisors.terms.reason import ExitReason
from supervisors.terms.ref import Caller, Down, Ref
from supervisors.terms.spec import Backoff, ChildSpec, SealedStart, SupervisorSpec, spec_fields
from supervisors.terms.tasks import TaskSupervisorSpec
from supervisors.terms.via import Via
from supervisors.terms.views import ChildCounts, ChildInfo, Report
from supervisors.wire import pickles
from supervisors.wire.codec import MAX_FRAME

#: Version of everything in this file; a node refuses to talk to one of another version.
VERSION = 2

#: A value that is larger than this many bytes is refused where it is made; the rest of a frame is for envelopes.
MAX_VALUE = MAX_FRAME - (1 << 18)

_TUPLE, _SET, _FROZENSET, _INT, _ERROR, _TYPED, _PACKED, _PICKLED = 1, 2, 3, 4, 5, 6, 7, 100

#: Typed values by number. A number is never reused; a changed layout gets a new one.
_CODES: dict[type, int] = {
    ExitReason: 2,
    Down: 3,
    ChildSpec: 4,
    SupervisorSpec: 5,
    SealedStart: 6,
    Backoff: 7,
    ChildInfo: 8,
    ChildCounts: 9,
    Report: 10,
    DynamicSupervisorSpec: 20,
    TaskSupervisorSpec: 21,
    PartitionSupervisorSpec: 22,
    Via: 23,
    Caller: 30,
    Ref: 31,
}
_TYPES = {code: cls for cls, code in _CODES.items()}


def _make(cls: type, values: list[Any]) -> Any:
    if issubclass(cls, SupervisorSpec) and cls is not SupervisorSpec:  # its fields go by name
        return cls(**{item.name: value for item, value in zip(fields(cls), values, strict=True)})
    return cls(*values)


class Packed:
    """A user's value that is only passed on here: its bytes, opened where user code runs."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        """Carry it."""
        self.data = data

    def __repr__(self) -> str:
        """Return what can be said without opening it."""
        return f"<{len(self.data)} packed bytes>"


def packed(value: Any) -> Packed:
    """Return a user's value as one that processes which do not open it can pass on."""
    return value if type(value) is Packed else Packed(pack(value))


def _default(value: Any) -> msgpack.ExtType:
    kind = type(value)
    if kind is Packed:
        return msgpack.ExtType(_PACKED, value.data)
    if kind is Via:  # doors and supervisors pass its key and value on, whatever they are
        return msgpack.ExtType(_TYPED, pack([_CODES[Via], value.name, packed(value.key), packed(value.value)]))
    if kind is tuple:
        return msgpack.ExtType(_TUPLE, pack(list(value)))
    code = _CODES.get(kind)
    if code is not None:
        return msgpack.ExtType(_TYPED, pack([code, *(value if kind is Caller else spec_fields(value))]))
    if kind is set:
        return msgpack.ExtType(_SET, pack(list(value)))
    if kind is frozenset:
        return msgpack.ExtType(_FROZENSET, pack(list(value)))
    if kind is int:  # beyond 64 bits
        return msgpack.ExtType(_INT, str(value).encode())
    if isinstance(value, SupervisorsError):
        return msgpack.ExtType(_ERROR, pack(value.to_record()))
    return msgpack.ExtType(_PICKLED, pickles.dumps(value))


def pack(value: Any) -> bytes:
    """Return `value` as bytes.

    Raises:
        Exception: what cloudpickle raises for a value that cannot be sent (a socket, a lock).
    """
    return msgpack.packb(value, default=_default, strict_types=True, unicode_errors="surrogatepass")  # type: ignore[no-any-return]


def pack_value(value: Any, what: str) -> bytes:
    """Return a user's value as bytes.

    Args:
        value: anything.
        what: what it is, for the error: "request", "reply".

    Raises:
        CallFailed: it cannot be sent.
    """
    try:
        packed = pack(value)
    except Exception as error:
        raise CallFailed(f"the {what} cannot be sent: {type(error).__name__}: {error}") from None
    if len(packed) > MAX_VALUE:
        raise CallFailed(f"the {what} has {len(packed):,} bytes, at most {MAX_VALUE:,} can be sent: send it in pieces")
    return packed


def _hook(trusted: bool) -> Callable[[int, bytes], Any]:
    def open_ext(code: int, data: bytes) -> Any:
        match code:
            case 1:
                return tuple(unpack(data, trusted=trusted))
            case 6:
                number, *values = unpack(data, trusted=trusted)
                return _make(_TYPES[number], values)
            case 2:
                return set(unpack(data, trusted=trusted))
            case 3:
                return frozenset(unpack(data, trusted=trusted))
            case 4:
                return int(data)
            case 5:
                return from_record(unpack(data, trusted=trusted))
            case 7 if trusted:
                return unpack(data, trusted=True)
            case 7:
                try:
                    return unpack(data)
                except ValueError:
                    return Packed(data)
            case 100 if trusted:
                return pickles.loads(data)
        raise ValueError(f"a value of kind {code} is not accepted here")

    return open_ext


_TRUSTED, _PLAIN = _hook(True), _hook(False)


def unpack(data: bytes | memoryview, *, trusted: bool = False) -> Any:
    """Return the value that `pack` made `data` of.

    Args:
        data: the bytes.
        trusted: whether pickled user objects in it may be opened (only where user code runs).

    Raises:
        ValueError: not made by `pack`, or not accepted here.
    """
    return msgpack.unpackb(
        data, ext_hook=_TRUSTED if trusted else _PLAIN, strict_map_key=False, unicode_errors="surrogatepass"
    )


def with_extra(started: Any) -> Any:
    """Return what a start gave; what the server's init gave for whoever started it is opened."""
    return (started[0], unpack(started[1], trusted=True)) if isinstance(started, tuple) else started
