"""Values of fields: from the LM's text to Python, and from Python to the prompt's text.

What DSPy reads is read here, to the same value: JSON (repaired if need be), a Python literal or the bare text, which go
through pydantic. JSON and literals as they stand come before anything is repaired, and where DSPy gives up the text gets
one more chance. `Literal` and `Enum` have rules of their own, because models quote and wrap them.
"""

from __future__ import annotations

import ast
import decimal
import enum
import json
import math
import types
import typing
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Annotated, Any, Literal, Union

import json_repair
import orjson
from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import PydanticSerializationError, to_jsonable_python

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
    if annotation is str or _is_enum(annotation) or typing.get_origin(annotation) is Literal:
        checked = type_adapter(_annotated(annotation, rules)).validate_python
        return lambda value: checked(parse(value))
    return _parser(_annotated(annotation, rules))


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


def _is_enum(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, enum.Enum)


def _parser(annotation: Any) -> Parser:
    if annotation is str:
        return str
    if _is_enum(annotation):
        return lambda value: enum_member(annotation, value)
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin is Literal:
        return lambda value: literal_value(arguments, value)
    validate = type_adapter(annotation).validate_python
    if origin in (Union, types.UnionType):
        if str in arguments:
            # Optional text is text: `12` or `null` must stay what the LM wrote.
            return validate if types.NoneType in arguments else _text_or(validate)
        if types.NoneType in arguments and len(arguments) == 2:
            only = next(part for part in arguments if part is not types.NoneType)
            if _is_enum(only) or typing.get_origin(only) is Literal:
                return _optional(_parser(only))
    if annotation is decimal.Decimal or arguments[:1] == (decimal.Decimal,):
        # As it was written: a float would have other digits.
        return _either(validate, lambda value: validate(read_structure(value) if isinstance(value, str) else value))
    exact = holds_decimals(annotation)

    def structured(value: Any) -> Any:
        return validate(read_structure(value, exact) if isinstance(value, str) else value)

    return _either(structured, validate)


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


def _text_or(validate: Parser) -> Parser:
    """Return the parser of a union with text in it: what is no whole JSON or literal that fits is text."""

    def parse(value: Any) -> Any:
        if not isinstance(value, str):
            return validate(value)
        found = read_strictly(value)
        if found is NOTHING and value.lstrip()[:1] in ("{", "[", "`"):
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


#: What `read_strictly` returns for text that is neither JSON nor a literal.
NOTHING: Any = object()

_CONSTANTS = ("True", "False", "None")


def read_strictly(text: str, exact: bool = False) -> Any:
    """Read text that is JSON or a Python literal as it stands.

    Args:
        text: what the LM wrote.
        exact: numbers with a point become Decimals.

    Returns:
        The value; `NOTHING` when it is neither.
    """
    try:
        return json.loads(text, strict=False, parse_float=decimal.Decimal if exact else None)
    except (ValueError, RecursionError):
        pass
    bare = text.strip()
    # Prose is not worth a parse.
    if bare[:1] in "{[(\"'-+.0123456789" or bare in _CONSTANTS:
        try:
            return ast.literal_eval(bare)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            pass
    return NOTHING


def read_structure(text: str, exact: bool = False) -> Any:
    """Read text as JSON or a Python literal, as JSON that needs repair, or leave it as it is."""
    found = read_strictly(text, exact) if text else text
    if found is not NOTHING:
        return found
    try:
        found = json_repair.loads(text)
    except (ValueError, RecursionError):
        return text
    # The repairer's way to say that there is no JSON in it.
    return text if found == "" else found


def _unwrapped(text: str, *wrappers: str) -> str:
    """Take off blanks, a wrapper such as `Literal[...]`, and quotes."""
    text = text.strip()
    if text.startswith(wrappers) and text.endswith("]"):
        text = text[text.index("[") + 1 : -1].strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1]
    return text


def _meant(members: Iterable[tuple[Any, Any]], text: str) -> Any:
    """Return the member whose value a text writes down, as text, JSON or a literal; `NOTHING` when none is."""
    known = [(member, _jsonable(value)) for member, value in members if not isinstance(value, str)]
    for member, value in known:
        if text == str(value):
            return member
    found = read_strictly(text)
    return next((member for member, value in known if _equal(value, found)), NOTHING)


def _equal(one: Any, other: Any) -> bool:
    """Compare values; True is no number."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def literal_value(allowed: tuple[Any, ...], value: Any) -> Any:
    """Return the member of a Literal that `value` stands for.

    Quotes around it and a `Literal[...]` wrapper are taken off, `"3"` and `"3.0"` stand for 3 and `"true"` for True.
    Case and full stops of texts count.

    Raises:
        ValueError: it stands for none.
    """
    for same in (lambda member: type(value) is type(member), lambda member: True):
        for member in allowed:
            if _equal(member, value) and same(member):
                return member
    if isinstance(value, str):
        text = _unwrapped(value, "Literal[", "str[")
        for member in allowed:
            if text == member:
                return member
        if (found := _meant(((member, member) for member in allowed), text)) is not NOTHING:
            return found
    raise ValueError(f"{value!r} is not one of {'; '.join(repr(member) for member in allowed)}")


def enum_member(kind: type[enum.Enum], value: Any) -> enum.Enum:
    """Return the member of an Enum: by value first, then by name, exactly as written, then without quotes, and by a
    value that is no text but written as one.

    Raises:
        ValueError: there is none.
    """
    for member in kind:
        if member is value or member.value == value:
            return member
    if isinstance(value, str):
        text = _unwrapped(value)
        for written in (value, text, text.removeprefix(f"{kind.__name__}.")):
            for member in kind:
                if member.value == written:
                    return member
            if written in kind.__members__:
                return kind[written]
        found: Any = _meant(((member, member.value) for member in kind), text)
        if found is not NOTHING:
            return typing.cast("enum.Enum", found)
    known = "; ".join(str(member.value) for member in kind)
    raise ValueError(f"{value!r} is not a {kind.__name__}; known are {known}")


def render_value(field: FieldInfo, value: Any) -> str:
    """Return the text that stands for `value` in a prompt.

    Text stays as it is; a list for a text field becomes numbered «passages»; anything structured becomes
    JSON.
    """
    if isinstance(value, str) and not isinstance(value, enum.Enum):
        return value
    if isinstance(value, list) and field.annotation is str:
        return _numbered(value)
    plain = _jsonable(value)
    return dump_json(plain) if isinstance(plain, dict | list) else str(plain)


def _jsonable(value: Any) -> Any:
    try:
        return to_jsonable_python(value)
    except (PydanticSerializationError, ValueError):
        return str(value)


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
