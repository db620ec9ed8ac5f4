"""What goes between an interpreter and its child: JSON behind its length."""

from __future__ import annotations

import json
import struct
from typing import Any

_LENGTH = struct.Struct(">I")
#: Bytes that a message's length takes.
HEAD = _LENGTH.size


class BadFrame(ValueError):
    """What came is no message."""


def frame(message: dict[str, Any]) -> bytes:
    """Return a message as bytes.

    Raises:
        TypeError, ValueError: it is not JSON.
    """
    body = json.dumps(message, allow_nan=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
    return _LENGTH.pack(len(body)) + body


def length_of(head: bytes, most: int) -> int:
    """Return how long a message's body is.

    Raises:
        BadFrame: longer than allowed.
    """
    length: int = _LENGTH.unpack(head)[0]
    if length > most:
        raise BadFrame(f"a message of {length} bytes, where {most} are allowed")
    return length


def body_of(data: bytes) -> dict[str, Any]:
    """Return the message in a body. Who sends it may be the code itself: nothing in it is believed.

    Raises:
        BadFrame: it is none.
    """
    try:
        message = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadFrame(f"no JSON: {error}") from None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise BadFrame("no message")
    return message
