"""Values of fields: from the LM's text to Python, and from Python to the prompt's text.

What DSPy reads is read here, to the same value: JSON (repaired if need be), a Python literal or the bare text, which
go through pydantic. Where DSPy gives up, and asks and pays once more, the text gets one more chance: without the fence,
the bold or the full stop around it. `Literal` and `Enum` have rules of their own,
because models quote and wrap them.
"""

from __future__ import annotations

import decimal
import enum
import json
import math
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal, Union

import orjson
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticSerializationError, to_jsonable_python

from dspex_actors.adapters import second_look
from dspex_actors.adapters.parts import Told, collecting
from dspex_actors.adapters.reading import (
    NOTHING,
    enum_member,
    jsonable,
    literal_value,
    read_strictly,
    read_structure,
)
from dspex_actors.types.code import Code
from dspex_actors.types.reasoning import Reasoning
from dspex_actors.types.validators import type_adapter

Parser = Callable[[Any], Any]

#: Types whose values cannot change under a cached rendering.
ATOMS = (str, int, float, bool, types.NoneType, bytes, complex, enum.Enum)


def parser_for(field: FieldInfo) -> Parser:
    """Return the function that turns what the LM wrote for `field` into its type.

    Args:
        field: an output field; its constraints are checked too.

    Returns:
        A function of the text (or of a value that JSON gave already). It raises ValueError (pydantic's
        ValidationError is one) when the value does not fit.
    """
    annotation: Any = field.annotation
    rules = tuple(rule for rule in field.metadata if rule is not None)
    parse = _parser(annotation)
    if not rules:
        return parse
    # Read as its type is, and then checked: text that has to be short is text all the same.
    checked = type_adapter(_annotated(annotation, rules)).validate_python
    return lambda value: checked(parse(value))


def parse_value(value: Any, annotation: Any) -> Any:
    """Turn what an LM wrote into `annotation`.

    Args:
        value: text, or a value that JSON gave already.
        annotation: any type that pydantic can validate.

    Returns:
        The value.

    Raises:
        ValueError: it does not fit.
    """
    return _parser(annotation)(value)


def _annotated(annotation: Any, rules: tuple[Any, ...]) -> Any:
    return Annotated[(annotation, *rules)]


def _is_enum(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, enum.Enum)


def _parser(annotation: Any) -> Parser:
    if annotation is str:
        return str
    return second_look.twice(
        _first_look(annotation), annotation, lambda text: read_structure(text, holds_decimals(annotation))
    )


def _first_look(annotation: Any) -> Parser:
    if _is_enum(annotation):
        return lambda value: enum_member(annotation, value)
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin is Literal:
        return lambda value: literal_value(arguments, value)
    validate = type_adapter(annotation).validate_python
    if isinstance(annotation, type) and issubclass(annotation, Code | Reasoning):
        return _text_of(annotation, validate)
    if origin in (Union, types.UnionType):
        if str in arguments:
            # Optional text is text: `12` or `null` must stay what the LM wrote.
            if types.NoneType in arguments:
                return validate
            models = any(isinstance(part, type) and issubclass(part, BaseModel) for part in arguments)
            return _text_or(validate, models)
        if types.NoneType in arguments and len(arguments) == 2:
            only = next(part for part in arguments if part is not types.NoneType)
            if _is_enum(only) or typing.get_origin(only) is Literal:
                return _optional(_first_look(only))
    if annotation is decimal.Decimal or (origin is Annotated and arguments[0] is decimal.Decimal):
        # As it was written: a float would have other digits.
        return _either(validate, lambda value: validate(read_structure(value) if isinstance(value, str) else value))
    exact = holds_decimals(annotation)

    def structured(value: Any) -> Any:
        return validate(read_structure(value, exact) if isinstance(value, str) else value)

    return _either(structured, validate)


def _text_of(kind: type[Any], validate: Parser) -> Parser:
    """Return the parser of a type that is text: what is no object of its fields is the text itself."""

    def parse(value: Any) -> Any:
        found = read_strictly(value) if isinstance(value, str) and value.lstrip()[:1] == "{" else NOTHING
        is_one = isinstance(found, dict) and found.keys() == kind.model_fields.keys()
        return validate(found if is_one else value)

    return parse


def _either(first: Parser, second: Parser) -> Parser:
    """Return a parser that lets text be read in a second way; the first one's error is the one that is told."""

    def parse(value: Any) -> Any:
        try:
            return first(value)
        except ValueError:
            if not isinstance(value, str):
                raise
            try:
                return second(value)
            except ValueError:
                pass
            raise

    return parse


def _text_or(validate: Parser, models: bool) -> Parser:
    """Return the parser of a union with text in it: what is no whole JSON or literal that fits is text.

    With models in the union, an object inside of prose is looked at too: one that fits is hardly there by chance.
    """

    def parse(value: Any) -> Any:
        if not isinstance(value, str):
            return validate(value)
        found = read_strictly(value)
        if found is NOTHING and (value.lstrip()[:1] in ("{", "[", "`") or (models and "{" in value)):
            found = read_structure(value)
        try:
            return validate(value if found is NOTHING else found)
        except ValueError:
            return validate(value)

    return parse


def _optional(parse: Parser) -> Parser:
    def parse_or_none(value: Any) -> Any:
        try:
            return parse(value)
        except ValueError:
            if value is None or (isinstance(value, str) and value.strip() in ("null", "None")):
                return None
            raise

    return parse_or_none


def holds_decimals(annotation: Any, seen: frozenset[Any] = frozenset()) -> bool:
    """Tell whether there is a Decimal in a type: numbers in its JSON must not go through float."""
    if annotation is decimal.Decimal:
        return True
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if annotation in seen:
            return False
        inside = seen | {annotation}
        return any(holds_decimals(field.annotation, inside) for field in annotation.model_fields.values())
    return any(holds_decimals(part, seen) for part in typing.get_args(annotation))


def render_value(field: FieldInfo, value: Any) -> str:
    """Return the text that stands for `value` in a prompt.

    Text stays as it is; a list for a text field becomes numbered «passages»; anything structured becomes
    JSON. What is told in parts is a mark, while parts are collected.
    """
    if isinstance(value, str) and not isinstance(value, enum.Enum):
        return value.told(collecting.get()) if isinstance(value, Told) else value
    if isinstance(value, list) and field.annotation is str:
        return _numbered(value)
    plain = jsonable(value, collecting.get())
    return dump_json(plain) if isinstance(plain, dict | list) else str(plain)


def dump_json(value: Any) -> str:
    """Return JSON with a space after `,` and `:`, and text unescaped: what DSPy's prompts hold."""
    return json.dumps(value, ensure_ascii=False)


def _numbered(items: list[Any]) -> str:
    if not items:
        return "N/A"
    if len(items) == 1:
        return _passage(str(items[0]))
    return "\n".join(f"[{number}] {_passage(str(item))}" for number, item in enumerate(items, 1))


def _passage(text: str) -> str:
    if any(mark in text for mark in ("\n", "«", "»")):
        indented = text.replace("\n", "\n    ")
        return f"«««\n    {indented}\n»»»"
    return f"«{text}»"


def jsonable_state(value: Any) -> Any:
    """Return `value` as JSON data for a saved program.

    Raises:
        ValueError: it holds something that JSON has no form for.
    """
    try:
        plain = to_jsonable_python(value)
        orjson.dumps(plain, option=orjson.OPT_NON_STR_KEYS)
    except (PydanticSerializationError, TypeError) as error:
        raise ValueError(str(error)) from error
    return _finite(plain)


def _finite(value: Any) -> Any:
    """Put None in the place of NaN and the infinities, which JSON does not have; DSPy does the same."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value
