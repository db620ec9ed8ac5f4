"""Inputs brought into their types: an address in an Image's field becomes an Image, a function a Tool, and so on."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from dspex_actors.foundation.config_errors import ConfigValueError
from dspex_actors.types.base import told_in_a_line
from dspex_actors.types.tool import Tool
from dspex_actors.types.validators import type_adapter


def given(signature: str, name: str, field: FieldInfo, value: Any, *, is_shown: bool = False) -> Any:
    """Return the value of an input whose type has types of ours in it.

    Args:
        signature: what the signature is called, for the error.
        name: the field.
        field: its type.
        value: an instance, or what one is made from.
        is_shown: the value is only shown: a tool may be the text that stands for it in a saved program.

    Raises:
        ConfigValueError: it is none, and none can be made of it.
    """
    if value is None or type(value) is field.annotation:
        return value
    try:
        return type_adapter(field.annotation).validate_python(value)
    except ValidationError as error:
        why = told_in_a_line(error)
    if is_shown and isinstance(value, str | list) and Tool.extract_custom_type_from_annotation(field.annotation):
        return value
    raise ConfigValueError(f"input {name!r} of {signature} is invalid: {why}")


def revived(fields: Mapping[str, FieldInfo], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a saved demo, with those of types of ours in them again; what is none of them stays.

    Args:
        fields: those with types of ours.
        values: by name, as they were saved.
    """
    found = dict(values)
    for name, field in fields.items():
        if found.get(name) is not None:
            with contextlib.suppress(ValidationError):
                found[name] = type_adapter(field.annotation).validate_python(found[name])
    return found
