"""Which annotations hold types of ours: their values are checked, and brought into the type, before a call."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dspex_actors.types.base import Type
from dspex_actors.types.history import History


def typed_fields(fields: Mapping[str, FieldInfo]) -> dict[str, FieldInfo]:
    """Return those fields that have a `Type` or a `History` in their types."""
    return {name: field for name, field in fields.items() if holds_types(field.annotation)}


def holds_types(annotation: Any, seen: frozenset[Any] = frozenset(), kinds: tuple[type, ...] = (Type, History)) -> bool:
    """Tell whether a `Type` or a `History` (or another kind) stands in a type, in the fields of its models too."""
    if isinstance(annotation, type) and typing.get_origin(annotation) is None:
        if issubclass(annotation, kinds):
            return True
        if not issubclass(annotation, BaseModel) or annotation in seen:
            return False
        inside = seen | {annotation}
        return any(holds_types(field.annotation, inside, kinds) for field in annotation.model_fields.values())
    return any(holds_types(part, seen, kinds) for part in typing.get_args(annotation))
