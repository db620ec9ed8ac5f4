"""Pydantic's validators of types, each made once."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter


def type_adapter(annotation: Any) -> TypeAdapter[Any]:
    """Return pydantic's validator of `annotation`; building one costs a hundred times more than using it."""
    try:
        # Unions of the same types in another order are equal, but do not validate alike: hence the repr.
        return _cached_adapter(annotation, repr(annotation))
    except TypeError:
        # Not hashable, such as a Literal of a list.
        return TypeAdapter(annotation)


@lru_cache(maxsize=1024)
def _cached_adapter(annotation: Any, _name: str) -> TypeAdapter[Any]:
    return TypeAdapter(annotation)
