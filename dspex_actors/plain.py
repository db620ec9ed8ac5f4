"""Anything as plain data of bounded size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: In a record a text has so many characters, a collection so many items, and they are so deep, at most.
_CHARACTERS, _ITEMS, _DEPTH = 2000, 100, 8


def brief(value: Any, depth: int = 0) -> Any:
    """Return something as plain data of bounded size; what is none is named by its type."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth < _DEPTH:
        if hasattr(value, "_asdict"):
            value = value._asdict()
        if isinstance(value, Mapping):
            return {str(name)[:_CHARACTERS]: brief(one, depth + 1) for name, one in [*value.items()][:_ITEMS]}
        if isinstance(value, list | tuple):
            return [brief(one, depth + 1) for one in value[:_ITEMS]]
    text = value if isinstance(value, str) else f"<{type(value).__name__}>"
    return text if len(text) <= _CHARACTERS else text[:_CHARACTERS] + "…"
