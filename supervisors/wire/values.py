"""Values as bytes: msgpack, with the types of this library by number, and what is not plain data by cloudpickle.

Two kinds of bytes are made here. `pack` is for what processes of a node say to each other: plain data, references,
reasons, specs and views; user's values are in it only as bytes (`Packed`), and doors and supervisors never open them.
`pack_value` is for a user's value. A tree of plain data travels as msgpack and comes back as what it was; anything
else (a user's object, a class from a notebook, a cycle, a list that is in it twice) travels as one pickle.

Nothing that is opened here overflows a stack, whoever made it: how deep bytes are nested is bounded both ways.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any

import msgpack

from supervisors.terms.dynamic import DynamicSupervisorSpec
from supervisors.terms.errors import CallFailed, SupervisorsError, from_record
from supervisors.terms.letters import letter_of, opened
from supervisors.terms.partition import PartitionSupervisorSpec
from supervisors.terms.reason import ExitReason
from supervisors.terms.ref import Caller, Down, Ref
from supervisors.terms.showing import shown, shown_error
from supervisors.terms.spec import Backoff, ChildSpec, SealedStart, SupervisorSpec, spec_fields
from supervisors.terms.tasks import TaskSupervisorSpec
from supervisors.terms.via import Via
from supervisors.terms.views import ChildCounts, ChildInfo, Report
from supervisors.wire import pickles
from supervisors.wire.codec import MAX_FRAME
from supervisors.wire.shape import TooDeep, is_tree

#: Version of all that nodes and programs say to one another; a node refuses to talk to one of another version. It rises
#: with each change of what is said: tests/house/test_wire.py knows what that was.
VERSION = 6

#: A value that is larger than this many bytes is refused where it is made; the rest of a frame is for envelopes.
MAX_VALUE = MAX_FRAME - (1 << 18)

#: A packer that has packed more bytes than this is not used again.
KEPT = 16_384

#: Bytes in bytes in bytes: a tree of supervisors has three a level.
MAX_NESTED = 250
#: So far in, msgpack's quick function is used, which takes 40 KB of stack; then its slower object, which takes little.
QUICK_NESTED = 8

_TUPLE, _SET, _FROZENSET, _INT, _ERROR, _TYPED, _PACKED, _MESSAGE, _PICKLED = 1, 2, 3, 4, 5, 6, 7, 8, 100

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


def packed(value: Any, what: str = "value") -> Packed:
    """Return a user's value as one that processes which do not open it can pass on.

    Raises:
        CallFailed: it cannot be sent.
    """
    return value if type(value) is Packed else Packed(pack_value(value, what))


def packed_key(key: Any) -> Packed:
    """Return the key of a Via as one that processes which do not open it can pass on.

    Raises:
        CallFailed: it cannot be sent, or is endless.
    """
    check_tree(key, "key of a Via")
    return packed(key, "key of a Via")


def check_tree(value: Any, what: str) -> None:
    """Refuse what takes endless to look at: what contains itself, or the same over and over.

    Raises:
        CallFailed: it cannot be sent as plain data.
    """
    try:
        if is_tree(value):
            return
    except TooDeep:
        pass
    raise CallFailed(f"the {what} cannot be sent: expected what is not deep, and has nothing in it twice")


# --- packing --------------------------------------------------------------------------------------------------------


def _ext(code: int, data: bytes) -> Any:
    """Return what `ExtType(code, data)` does, without its checks: there is one for each tuple."""
    return tuple.__new__(msgpack.ExtType, (code, data))


class _NotPlain(TypeError):
    """A value is not plain data, or it is nested too deep for it."""


def _packer(nested: int, as_plain: Callable[[Any], Any]) -> Callable[[Any], bytes]:
    """Return what packs at one depth of nesting; `as_plain` makes plain data of what is none, or refuses it."""
    deeper: Callable[[Any], bytes] | None = None

    def pack_inner(value: Any) -> bytes:
        nonlocal deeper
        if deeper is None:
            if nested >= MAX_NESTED:
                raise TooDeep
            deeper = _packer(nested + 1, as_plain)
        return deeper(value)

    def default(value: Any) -> Any:
        kind = type(value)
        if kind is tuple:
            return _ext(_TUPLE, pack_inner(list(value)))
        letter = letter_of(kind)
        if letter is not None:
            return _ext(_MESSAGE, pack_inner([letter.number, letter.version, *letter.read(value)]))
        if kind is Packed:
            return msgpack.ExtType(_PACKED, value.data)
        if kind is Via:  # doors and supervisors pass its key and value on, whatever they are
            return msgpack.ExtType(
                _TYPED, pack_inner([_CODES[Via], value.name, packed_key(value.key), packed(value.value)])
            )
        code = _CODES.get(kind)
        if code is not None:
            return msgpack.ExtType(_TYPED, pack_inner([code, *(value if kind is Caller else spec_fields(value))]))
        if kind is set:
            return msgpack.ExtType(_SET, pack_inner(list(value)))
        if kind is frozenset:
            return msgpack.ExtType(_FROZENSET, pack_inner(list(value)))
        if kind is int:  # beyond 64 bits
            return msgpack.ExtType(_INT, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))
        if isinstance(value, SupervisorsError):
            return msgpack.ExtType(_ERROR, pack_inner(value.to_record()))
        return as_plain(value)

    options = {
        "default": default,
        "strict_types": True,
        "unicode_errors": "surrogatepass",
        "buf_size": 1024,  # the default is a megabyte, which the kernel gives and takes back each time
    }
    idle: list[msgpack.Packer] = []

    def pack_one(value: Any) -> bytes:
        try:
            packer = idle.pop()  # nobody else has it: another thread, or a value in this one, takes another
        except IndexError:
            packer = msgpack.Packer(**options)
        data: bytes = packer.pack(value)
        if len(data) <= KEPT:  # it keeps a buffer of that size
            idle.append(packer)
        return data

    return pack_one


def _plain(value: Any) -> Any:
    """Return what is of a subclass of plain data as that: a StrEnum as text, a scalar of numpy's as a number."""
    for kind, make in _PLAIN_TYPES:
        if isinstance(value, kind) and type(value) is not make:
            return make(value)
    raise _NotPlain(f"{shown(value, 200)} is no plain data")


_PLAIN_TYPES: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (numbers.Integral, int),
    (numbers.Real, float),
    ((bytes, bytearray), bytes),
    (tuple, tuple),
    (list, list),
    (dict, dict),
    (set, set),
    (frozenset, frozenset),
)


def _refuse(value: Any) -> Any:
    raise _NotPlain


_pack, _pack_tree = _packer(0, _plain), _packer(0, _refuse)


def pack(value: Any) -> bytes:
    """Return what processes of a node say to each other as bytes.

    Raises:
        ValueError, TypeError: it is nested too deep, or no plain data.
    """
    return _pack(value)


def pack_message(value: Any, what: str) -> bytes:
    """Do what `pack` does, for what a program has given.

    Raises:
        CallFailed: it cannot be sent.
    """
    return _sendable(_pack, value, what)


def pack_value(value: Any, what: str) -> bytes:
    """Return a user's value as bytes.

    Args:
        value: anything.
        what: what it is, for the error: "request", "reply".

    Raises:
        CallFailed: it cannot be sent.
    """
    return _sendable(_pack_any, value, what)


def _pack_any(value: Any) -> bytes:
    if is_tree(value):
        try:
            return _pack_tree(value)
        except _NotPlain:
            pass
    return _pack_tree(msgpack.ExtType(_PICKLED, pickles.dumps(value)))


def _sendable(pack: Callable[[Any], bytes], value: Any, what: str) -> bytes:
    try:
        packed = pack(value)
    except CallFailed:
        raise
    except Exception as error:
        raise CallFailed(f"the {what} cannot be sent: {shown_error(error)}") from None
    if len(packed) > MAX_VALUE:
        raise CallFailed(f"the {what} has {len(packed):,} bytes, at most {MAX_VALUE:,} can be sent: send it in pieces")
    return packed


# --- opening --------------------------------------------------------------------------------------------------------


def _opener(nested: int, trusted: bool) -> Callable[[bytes | memoryview], Any]:
    """Return what opens at one depth of nesting."""
    deeper: Callable[[bytes], Any] | None = None

    def open_ext(code: int, data: bytes) -> Any:
        nonlocal deeper
        if deeper is None:
            if nested >= MAX_NESTED:
                raise TooDeep
            deeper = _opener(nested + 1, trusted)
        match code:
            case 1:
                return tuple(deeper(data))
            case 6:
                number, *values = deeper(data)
                return _make(_TYPES[number], values)
            case 8:
                number, version, *values = deeper(data)
                return opened(number, version, values)
            case 2:
                return set(deeper(data))
            case 3:
                return frozenset(deeper(data))
            case 4:
                return int.from_bytes(data, "big", signed=True)
            case 5:
                return from_record(deeper(data))
            case 7:
                try:
                    return deeper(data)
                except Exception:  # not here: it is passed on as it is
                    return Packed(data)
            case 100 if trusted:
                return pickles.loads(data)
        raise ValueError(f"a value of kind {code} is not accepted here")

    options = {"ext_hook": open_ext, "strict_map_key": False, "unicode_errors": "surrogatepass"}
    if nested < QUICK_NESTED:
        return partial(msgpack.unpackb, **options)

    def open_slowly(data: bytes | memoryview) -> Any:
        unpacker = msgpack.Unpacker(read_size=1024, max_buffer_size=max(len(data), 1024), **options)
        unpacker.feed(data)
        value = unpacker.unpack()
        if unpacker.tell() != len(data):
            raise ValueError("there are bytes after the value")
        return value

    return open_slowly


_open_trusted, _open_plain = _opener(0, True), _opener(0, False)


def unpack(data: bytes | memoryview, *, trusted: bool = False) -> Any:
    """Return the value that `pack` or `pack_value` made `data` of.

    Args:
        data: the bytes.
        trusted: whether pickled user objects in it may be opened (only where user code runs).

    Raises:
        ValueError: not made by them, or not accepted here.
        Exception: whatever a user's object raises when it is opened.
    """
    return _open_trusted(data) if trusted else _open_plain(data)


def number_of(data: bytes) -> int | None:
    """Return the first item of a packed list, if it is a number, whatever else is in it; else None."""
    unpacker = msgpack.Unpacker(read_size=1024, max_buffer_size=max(len(data), 1024))
    unpacker.feed(data)
    try:
        number = unpacker.unpack() if unpacker.read_array_header() else None
    except Exception:
        return None
    return number if type(number) is int else None


def open_value(data: bytes, what: str) -> Any:
    """Return a user's value.

    Args:
        data: what `pack_value` made.
        what: what it is, for the error.

    Raises:
        CallFailed: it cannot be opened here (its class is not here, say).
    """
    try:
        return _open_trusted(data)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever code of a user's raises, sys.exit() too
        raise CallFailed(f"the {what} cannot be opened here: {shown_error(error)}") from None


def with_extra(started: Any) -> Any:
    """Return what a start gave; what the server's init gave for whoever started it is opened."""
    return (started[0], open_value(started[1], "Extra")) if isinstance(started, tuple) else started
