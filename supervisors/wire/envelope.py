"""A user's message as it is sent: its packed value, and around it what the sender carries (`terms/carried.py`).

Where nothing is carried there is no envelope: the bytes are those of the value. An envelope is a value of a kind of its
own; doors, supervisors and mailboxes pass it on as any other.
"""

from __future__ import annotations

import logging
import struct
from typing import Any

from supervisors.terms.carried import MAX_CARRIED, carried
from supervisors.terms.errors import CallFailed
from supervisors.terms.showing import shown_error
from supervisors.wire.values import open_value, pack_value

#: msgpack's longest extension type (32 bits of length), of the kind 9; then how long what is carried is.
_HEAD = struct.Struct(">BIBH")
_EXT, _KIND = 0xC9, 9
_FIRST = bytes([_EXT])

_log = logging.getLogger("supervisors.carried")
_told: set[str] = set()


def pack_sent(value: Any, what: str) -> bytes:
    """Return a user's value as it is sent from here, with what is carried.

    What cannot be carried is left out, and the log says so once: a message never fails because of it.

    Args:
        value: anything.
        what: what it is, for the error: "request", "message".

    Raises:
        CallFailed: it cannot be sent.
    """
    data = pack_value(value, what)
    if carried.get() is None:
        return data
    load = load_here()
    if not load:
        return data
    return _HEAD.pack(_EXT, 2 + len(load) + len(data), _KIND, len(load)) + load + data


def load_here() -> bytes | None:
    """Return what is carried from here, as bytes; None: nothing, or nothing that can be."""
    load = carried.get()
    if load is None:
        return None
    try:
        data = load if isinstance(load, bytes) else load.to_bytes()
        if not isinstance(data, bytes):
            raise TypeError(f"expected bytes, got {type(data).__name__}")
        if len(data) > MAX_CARRIED:
            raise ValueError(f"it has {len(data):,} bytes, at most {MAX_CARRIED:,} go with a message")
    except Exception as error:
        kind = type(load).__qualname__
        if kind not in _told:
            _told.add(kind)
            _log.warning("what is carried (%s) does not go with messages from here: %s", kind, shown_error(error, 200))
        return None
    return data


def bare(data: bytes) -> bytes:
    """Return the packed value alone."""
    return _opened(data)[0] if data[:1] == _FIRST else data


def open_sent(data: bytes, what: str) -> tuple[Any, bytes | None]:
    """Return a user's value, and what came with it (None: nothing).

    Args:
        data: what `pack_sent` made.
        what: what it is, for the error.

    Raises:
        CallFailed: it cannot be opened here.
    """
    if data[:1] != _FIRST:
        return open_value(data, what), None
    value, load = _opened(data)
    return open_value(value, what), load


def _opened(data: bytes) -> tuple[bytes, bytes | None]:
    try:
        _, length, kind, size = _HEAD.unpack_from(data)
    except struct.error:
        return data, None
    if kind != _KIND:
        return data, None  # a value of another kind that is as long
    start = _HEAD.size + size
    if length != len(data) - _HEAD.size + 2 or start > len(data):
        raise CallFailed("the envelope of a message is damaged")
    return data[start:], data[_HEAD.size : start] if 0 < size <= MAX_CARRIED else None
