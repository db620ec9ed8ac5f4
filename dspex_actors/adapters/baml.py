"""BAMLAdapter: JSON answers, whose structure is told in a few lines instead of a JSON schema."""

from __future__ import annotations

import types
import typing
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dspex_actors.adapters.base import section
from dspex_actors.adapters.json import JSONAdapter
from dspex_actors.adapters.plan import Plans
from dspex_actors.adapters.values import render_value
from dspex_actors.signatures.signature import SignatureMeta
from dspex_actors.types.base import Type

_INDENT = "  "
_NAMES = {str: "string", int: "int", float: "float", bool: "boolean"}


class BAMLAdapter(JSONAdapter):
    """Tell the structure of outputs as BAML does: shorter than a JSON schema, and small models follow it better.

        {
          # Full name of the patient.
          name: string,
          age: int,
          address: {
            street: string,
          } or null,
        }

    What fields and models say about themselves (descriptions, docstrings) are comments. Inputs that are models are
    indented JSON. Otherwise it is a JSONAdapter.
    """

    shared_plans = Plans()

    def format_field_structure(self, signature: SignatureMeta) -> str:
        """Return a section per input and per output, with the output's structure in it."""
        inputs = [section(name, f"{{{name}}}") for name in signature.input_fields]
        outputs = [
            section(name, f"`{name}` is of this type: {type_text(field.annotation)}")
            for name, field in signature.output_fields.items()
        ]
        opening = "Every exchange has the layout below, with real values where the placeholders stand."
        return "\n\n".join([opening, *inputs, *outputs, "Outputs are one JSON object with these keys."])

    def format_value(self, field: FieldInfo, value: Any) -> str:
        """Return an input's value; models as indented JSON."""
        if isinstance(value, BaseModel) and not isinstance(value, Type):
            return value.model_dump_json(indent=2, by_alias=True)
        return render_value(field, value)


def type_text(annotation: Any, indent: int = 0, above: tuple[type, ...] = ()) -> str:
    """Return a type in BAML's short form.

    Args:
        annotation: the type.
        indent: how deep it stands.
        above: models that it stands in; one of them is told by its name.
    """
    if isinstance(annotation, type) and annotation in _NAMES:
        return _NAMES[annotation]
    if _is_model(annotation):
        return annotation.__name__ if annotation in above else _model_text(annotation, indent, above)
    origin, given = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        texts = [type_text(one, indent, above) for one in given if one is not type(None)]
        return " or ".join([*texts, "null"] if len(texts) < len(given) else texts)
    if origin is Literal:
        return " or ".join(_member_text(one) for one in given)
    if origin is list and given:
        if _is_model(given[0]) and given[0] not in above:
            return f"[\n{_model_text(given[0], indent + 1, above)}\n{_INDENT * indent}]"
        return f"{type_text(given[0], indent, above)}[]"
    if origin is dict and given:
        return f"dict[{', '.join(type_text(one, indent, above) for one in given)}]"
    return str(getattr(annotation, "__name__", annotation))


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and typing.get_origin(annotation) is None and issubclass(annotation, BaseModel)


def _member_text(member: Any) -> str:
    if isinstance(member, str):
        return f'"{member}"'
    return (
        {True: "true", False: "false"}[member]
        if isinstance(member, bool)
        else "null"
        if member is None
        else str(member)
    )


def _model_text(model: type[BaseModel], indent: int, above: tuple[type, ...]) -> str:
    outside, inside = _INDENT * indent, _INDENT * (indent + 1)
    lines = [*(_comments(model.__doc__, outside) if indent == 0 else ()), f"{outside}{{"]
    if not model.model_fields:
        lines.append(f"{inside}# No fields defined")
    for name, field in model.model_fields.items():
        if field.description:
            lines.append(f"{inside}# {field.description}")
        elif field.alias and field.alias != name:
            lines.append(f"{inside}# alias: {field.alias}")
        only = [one for one in typing.get_args(field.annotation) if one is not type(None)]
        is_union = typing.get_origin(field.annotation) in (typing.Union, types.UnionType)
        kind = only[0] if is_union and len(only) == 1 else field.annotation
        if _is_model(kind):
            lines += _comments(kind.__doc__, inside)
        lines.append(f"{inside}{name}: {type_text(field.annotation, indent + 1, (*above, model))},")
    return "\n".join([*lines, f"{outside}}}"])


def _comments(words: str | None, indent: str) -> list[str]:
    return [f"{indent}# {line.strip()}" for line in (words or "").strip().split("\n") if line.strip()]
