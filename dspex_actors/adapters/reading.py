"""What a text says: JSON, a Python literal, a member of a Literal or an Enum.

JSON and literals as they stand come before anything is repaired: a repairer guesses, and what needs no guess must not
get one.
"""

from __future__ import annotations

import ast
import decimal
import enum
import json
import typing
from collections.abc import Iterable
from typing import Any

import json_repair
from pydantic_core import PydanticSerializationError, to_jsonable_python

#: What `read_strictly` returns for text that is neither JSON nor a literal.
NOTHING: Any = object()

_CONSTANTS = ("True", "False", "None")

#: Not strict: models write line ends into texts.
_PLAIN = json.JSONDecoder(strict=False)
_EXACT = json.JSONDecoder(strict=False, parse_float=decimal.Decimal)


def read_strictly(text: str, exact: bool = False) -> Any:
    """Read text that is JSON or a Python literal as it stands.

    Args:
        text: what the LM wrote.
        exact: numbers with a point become Decimals.

    Returns:
        The value; `NOTHING` when it is neither.
    """
    try:
        return (_EXACT if exact else _PLAIN).decode(text)
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
    known = [(member, jsonable(value)) for member, value in members if not isinstance(value, str)]
    for member, value in known:
        if text == str(value):
            return member
    found = read_strictly(text)
    exact = (member for member, value in known if _equal(value, found))
    # 1 and 0 may stand for True and False, not the other way round.
    return next(exact, next((member for member, value in known if isinstance(value, bool) and value == found), NOTHING))


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
    equal = [member for member in allowed if _equal(member, value)]
    if equal:
        return next((member for member in equal if type(member) is type(value)), equal[0])
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


def jsonable(value: Any) -> Any:
    """Return a value as JSON data; as its text where JSON has no form for it."""
    try:
        return to_jsonable_python(value)
    except (PydanticSerializationError, ValueError):
        return str(value)
