"""JSON as it is sent and as it comes: strict where everybody is, lenient where the providers' own SDKs are."""

from __future__ import annotations

import json
from typing import Any

import orjson

#: What may follow the last bracket; NUL is the other half of one in UTF-16.
_BLANK = b" \t\r\n\0"


def dump(data: Any) -> bytes:
    """Return data as JSON; half a surrogate pair, which UTF-8 cannot hold, becomes U+FFFD.

    Raises:
        TypeError: it is not plain JSON data.
    """
    try:
        return orjson.dumps(data)
    except TypeError:
        pass  # only such a text, perhaps, or a number
    mended = _mended(data)
    try:
        return orjson.dumps(mended)
    except TypeError as exc:
        if "Integer exceeds" not in str(exc):
            raise
    # A model may write any number into the arguments of a call.
    return json.dumps(mended, ensure_ascii=False, separators=(",", ":")).encode()


def load(body: bytes) -> Any:
    """Return what a body says, also with a BOM, NaN, halves of surrogate pairs or bytes that are no UTF-8.

    A number that is none becomes None; half of a pair, and a byte that is no text, U+FFFD.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass  # the error holds the document; it must not become anybody's context
    # What is cut off is large, perhaps, and not worth a second, slower look.
    if body.rstrip(_BLANK)[-1:] in (b"}", b"]"):
        try:
            text = body.decode(json.detect_encoding(body), "replace").removeprefix("\ufeff")
            data = json.loads(text, parse_constant=_no_number)
            return _mended(data) if "\\ud" in text or "\\uD" in text else data
        except (ValueError, RecursionError):
            pass
    raise ValueError("not JSON")


def whole(text: str) -> str:
    """Return a text that UTF-8 can hold: two halves of a pair in a row are joined, a lone one becomes U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _mended(data: Any) -> Any:
    if isinstance(data, str):
        return whole(data)
    if isinstance(data, dict):
        return {whole(key) if isinstance(key, str) else key: _mended(value) for key, value in data.items()}
    return [_mended(item) for item in data] if isinstance(data, (list, tuple)) else data


def _no_number(_: str) -> None:
    return None
