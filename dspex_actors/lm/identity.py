"""Digests of plain data that every process computes alike: the identity of an LM and of its parts."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson


def digest(data: dict[str, Any], what: str = "lm") -> str:
    """Return the digest of plain data.

    Args:
        data: an LM's settings (`LM.to_dict`, with the server in force), or those of a part of it.
        what: the kind of data; the same of another kind has another digest.
    """
    text = orjson.dumps(_canonical(data), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(f"dspex-{what}-1\n".encode() + text).hexdigest()[:32]


def _canonical(value: Any) -> Any:
    """Make 1 and 1.0 the same number, as they are to Python and to every provider."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    return value
