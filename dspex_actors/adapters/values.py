"""Values of fields: from the LM's text to Python, and from Python to the prompt's text.

Reading is as forgiving as DSPy's, in its order: JSON (repaired if need be), then a Python literal, then the
bare text; what comes out goes through pydantic. `Literal` and `Enum` have rules of their own, because
models quote and wrap them.
"""

from __future__ import annotations

import ast
import enum
import json
import types
import typing
from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Any, Literal, Union

import json_repair
import orjson
from pydantic import TypeAdapter
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
    if origin is Literal:
        allowed = typing.get_args(annotation)
        return lambda value: literal_value(allowed, value)
    validate = type_adapter(annotation).validate_python
    arguments = typing.get_args(annotation)
    if origin in (Union, types.UnionType) and str in arguments and types.NoneType in arguments:
        # Optional text is text: `12` or `null` must stay what the LM wrote.
        return validate
    return lambda value: validate(read_structure(value) if isinstance(value, str) else value)


def read_structure(text: str) -> Any:
    """Read text as JSON, repaired if need be, else as a Python literal, else leave it as it is."""
    found: Any = json_repair.loads(text)
    if found != "" or text == "":
        return found
    # The repairer's way to say that there is no JSON in it.
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def literal_value(allowed: tuple[Any, ...], value: Any) -> Any:
    """Return the member of a Literal that `value` stands for.

    Quotes around it and a `Literal[...]` wrapper are taken off, and `"3"` stands for 3. Case and full stops
    count.

    Raises:
        ValueError: it stands for none.
    """
    for member in allowed:
        if value == member and type(value) is type(member):
            return member
    if isinstance(value, str):
        text = value.strip()
        if text.startswith(("Literal[", "str[")) and text.endswith("]"):
            text = text[text.index("[") + 1 : -1].strip()
        if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
            text = text[1:-1]
        for member in allowed:
            if text == member:
                return member
        for member in allowed:
            if not isinstance(member, str) and text == str(_jsonable(member)):
                return member
    raise ValueError(f"{value!r} is not one of {'; '.join(repr(member) for member in allowed)}")


def enum_member(kind: type[enum.Enum], value: Any) -> enum.Enum:
    """Return the member of an Enum: by value first, then by name, exactly as written.

    Raises:
        ValueError: there is none.
    """
    for member in kind:
        if member is value or member.value == value:
            return member
    if isinstance(value, str) and value in kind.__members__:
        return kind[value]
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
    return plain
