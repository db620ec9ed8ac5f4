"""Instances of a signature: values of its fields, each checked and brought into its type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError, create_model
from pydantic.fields import FieldInfo

from dspex_actors.foundation.config_errors import ConfigValueError


def checked(name: str, fields: Mapping[str, FieldInfo], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of all fields.

    Args:
        name: of the signature, for the error.
        fields: its fields.
        values: by name; defaults stand for those that are missing, other names are ignored.

    Raises:
        ConfigValueError: one without a default is missing, or does not fit its type.
    """
    kinds: dict[str, Any] = {name: (field.annotation, field) for name, field in fields.items()}
    check: type[BaseModel] = create_model(name, **kinds)
    try:
        made = check(**{name: value for name, value in values.items() if name in fields})
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise ConfigValueError(f"{name}: {told}") from None
    return {name: getattr(made, name) for name in fields}
