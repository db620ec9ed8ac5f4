"""The identity of an LM: a digest of its settings that every process computes alike."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson


def digest(settings: dict[str, Any]) -> str:
    """Return the digest of an LM's settings (`LM.to_dict`, with the server in force)."""
    text = orjson.dumps(_canonical(settings), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(b"dspex-lm-1\n" + text).hexdigest()[:32]


def _canonical(value: Any) -> Any:
    """Make 1 and 1.0 the same number, as they are to Python and to every provider."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    return value
