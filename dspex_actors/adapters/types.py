"""Types in words: how a prompt names a field's type and what it asks of a value of it."""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, Union

from pydantic import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError
from pydantic.fields import FieldInfo

from dspex_actors.adapters.values import dump_json
from dspex_actors.signatures.fields import constraints_text, description_of
from dspex_actors.types.base import Type
from dspex_actors.types.code import Code
from dspex_actors.types.tool_calls import ToolCalls
from dspex_actors.types.validators import type_adapter


def type_name(annotation: Any) -> str:
    """Return the type as a Python programmer writes it: `str`, `list[int]`, `Literal['a', 'b']`."""
    if annotation is None or annotation is types.NoneType:
        return "None"
    if annotation is Ellipsis:
        return "..."
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin is Literal:
        return f"Literal[{', '.join(repr(_member(value)) for value in arguments)}]"
    if origin in (Union, types.UnionType):
        return f"Union[{', '.join(type_name(part) for part in arguments)}]"
    if origin is typing.Annotated:
        return type_name(arguments[0])
    if isinstance(annotation, type) and issubclass(annotation, Type) and annotation.is_text:
        return "str"
    if origin is not None:
        name = getattr(origin, "__name__", str(origin))
        return f"{name}[{', '.join(_part(part) for part in arguments)}]" if arguments else name
    return str(getattr(annotation, "__name__", annotation))


def _part(part: Any) -> str:
    return f"[{', '.join(map(type_name, part))}]" if isinstance(part, list) else type_name(part)


def _member(value: Any) -> Any:
    return value.value if isinstance(value, enum.Enum) else value


def value_note(field: FieldInfo) -> str:
    """Return what a value of an output field has to look like; empty for text, which may be anything."""
    annotation: Any = field.annotation
    if annotation is str or _is_told(annotation):
        return ""
    if annotation is bool:
        return "write True or False"
    if annotation in (int, float):
        return f"write one {annotation.__name__} value and no other text"
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return f"write one of: {'; '.join(str(member.value) for member in annotation)}"
    if typing.get_origin(annotation) is Literal:
        members = "; ".join(str(_member(value)) for value in typing.get_args(annotation))
        return f"write, letter by letter and without quotes, one of: {members}"
    try:
        schema = type_adapter(annotation).json_schema()
    except (PydanticInvalidForJsonSchema, PydanticSchemaGenerationError):
        return f"write a value of the Python type {type_name(annotation)}"
    return f"write JSON that fits the schema {dump_json(_sorted(schema))}"


def _is_told(annotation: Any) -> bool:
    """Whether a type's own words say how a value is written."""
    return isinstance(annotation, type) and (
        issubclass(annotation, Code) or (issubclass(annotation, Type) and annotation.is_text)
    )


def type_words(annotation: Any) -> str:
    """Return what types of the user's and of ours say about themselves, a line for each."""
    kinds = Type.extract_custom_type_from_annotation(annotation)
    told = [(type_name(kind), kind.description()) for kind in kinds]
    return "".join(f"\n    About {name}: {words}" for name, words in told if words)


def placeholder(name: str, field: FieldInfo) -> str:
    """Return what stands for an output's value in the layout, with what is asked of it."""
    note = value_note(field)
    return f"{{{name}}}        # note: {note}" if note else f"{{{name}}}"


def type_hint(field: FieldInfo) -> str:
    """Return the type in brackets, for the request to write a field; empty for text."""
    if field.annotation is ToolCalls:
        return ' (as a JSON object like {"tool_calls": [{"name": "...", "args": {...}}]})'
    return "" if field.annotation is str else f" (as a valid Python {type_name(field.annotation)})"


def listed_fields(fields: Mapping[str, FieldInfo]) -> str:
    """Return the fields as a numbered list: name, type, description, constraints."""
    lines: list[str] = []
    for number, (name, field) in enumerate(fields.items(), 1):
        lines.append(f"{number}. `{name}` ({type_name(field.annotation)}): {description_of(name, field)}".rstrip())
        if words := type_words(field.annotation):
            lines.append(words.removeprefix("\n"))
        rules = constraints_text(field)
        if rules:
            lines.append(f"Constraints: {rules}")
    return "\n".join(lines)


def _sorted(schema: Any) -> Any:
    """Sort keys, `type` first: the same type always gives the same prompt, and providers' prompt caches
    hit."""
    if isinstance(schema, dict):
        return {key: _sorted(schema[key]) for key in sorted(schema, key=lambda key: (key != "type", key))}
    if isinstance(schema, list):
        return [_sorted(item) for item in schema]
    return schema
