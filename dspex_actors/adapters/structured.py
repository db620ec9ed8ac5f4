"""What JSONAdapter asks a model for beside the prompt: JSON of the outputs' schema, any JSON object, or nothing."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict, PydanticInvalidForJsonSchema, PydanticSchemaGenerationError, create_model
from pydantic.fields import FieldInfo

from dspex_actors.types.tool_calls import ToolCalls

_log = logging.getLogger(__name__)

#: Any JSON object.
OBJECT: dict[str, Any] = {"type": "json_object"}
#: What the schema is called on the wire: DSPy's name.
_NAME = "DSPyProgramOutputs"


class _OpenEndedError(ValueError):
    """A type takes names that nobody knows before: no strict schema says that."""


def response_format(lm: Any, outputs: Mapping[str, FieldInfo]) -> dict[str, Any] | None:
    """Choose how a model is told to write JSON, before it is asked; None: it cannot be told.

    Args:
        lm: whom it is asked of.
        outputs: the fields that it has to write.
    """
    if "response_format" not in getattr(lm, "supported_params", ()):
        return None
    has_calls = any(field.annotation is ToolCalls for field in outputs.values())
    if has_calls or not outputs or not getattr(lm, "supports_response_schema", False):
        return dict(OBJECT)
    try:
        schema = strict_schema(outputs)
    except _OpenEndedError:
        return dict(OBJECT)
    except (ValueError, TypeError, PydanticInvalidForJsonSchema, PydanticSchemaGenerationError) as error:
        _log.warning("no JSON schema of the outputs (%s): any JSON object is asked for", " ".join(str(error).split()))
        return dict(OBJECT)
    return {"type": "json_schema", "json_schema": {"name": _NAME, "strict": True, "schema": schema}}


def strict_schema(outputs: Mapping[str, FieldInfo]) -> dict[str, Any]:
    """Return the JSON schema of an object of the outputs, as providers that keep to it exactly want it.

    Every property is required, and no other is allowed.

    Raises:
        ValueError: a type has no schema, or takes names that nobody knows before.
    """
    kinds: dict[str, Any] = {name: (field.annotation, ...) for name, field in outputs.items()}
    model = create_model(_NAME, __config__=ConfigDict(extra="forbid"), **kinds)
    schema: dict[str, Any] = model.model_json_schema()
    _tighten(schema)
    return schema


def _tighten(part: Any) -> None:
    if isinstance(part, list):
        for item in part:
            _tighten(item)
    if not isinstance(part, dict):
        return
    if part.get("type") == "object" or "properties" in part:
        properties = part.get("properties")
        # `additionalProperties: true` beside properties is a model that keeps what it does not know: it can do without.
        if not properties:
            raise _OpenEndedError("an open-ended mapping")
        part["required"] = list(properties)
        part["additionalProperties"] = False
        for schema in properties.values():
            _tighten(schema)
    part.pop("default", None)
    for key in ("items", "prefixItems", "anyOf", "oneOf", "allOf"):
        _tighten(part.get(key))
    for key in ("$defs", "definitions"):
        for schema in part.get(key, {}).values():
            _tighten(schema)
