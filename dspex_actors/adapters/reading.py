"""What a text says: JSON, a Python literal, a member of a Literal or an Enum.

JSON and literals as they stand come before anything is repaired: a repairer guesses, and what needs no guess must not
get one.
"""

from __future__ import annotations

import ast
import decimal
import enum
import json
import re
import typing
from collections.abc import Iterable
from typing import Any

from pydantic_core import PydanticSerializationError, to_jsonable_python

from dspex_actors.foundation.repairing import repaired

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
        found = repaired(text)
    except (ValueError, RecursionError):
        return text
    # The repairer's way to say that there is no JSON in it.
    return text if found == "" else found


#: Zero is not followed by thousands: 0,123 is a fraction as half of Europe writes it.
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})(,\d{3})*(\.\d+)?")


def undressed(text: str) -> str:
    """Return a value without what models put around one: blanks, a fence, bold, quotes of code, a full stop."""
    bare = _without_stop(unfenced(text))
    for mark in ("```", "**", "__", "`", "*", "_"):
        if len(bare) > 2 * len(mark) and bare.startswith(mark) and bare.endswith(mark):
            bare = _without_stop(bare[len(mark) : -len(mark)].strip())
    return bare


def unfenced(text: str) -> str:
    """Return a text without the fence around it; one that ends a fence which began before it, without that end."""
    bare = text.strip()
    if not bare.endswith("```"):
        return bare
    if bare.startswith("```"):
        language, _, inside = bare[3:-3].partition("\n")
        return bare if "`" in language or "```" in inside or not inside else inside.strip()
    return bare if "```" in bare[:-3] else bare[:-3].rstrip()


def _without_stop(text: str) -> str:
    """Take off a full stop; two are of something that was left out."""
    return text[:-1].rstrip() if text.endswith(".") and not text.endswith("..") else text


def without_thousands(text: str, whole: bool) -> str:
    """Return a number without the commas between its thousands; any other text as it is.

    Args:
        text: what was written.
        whole: it is a whole number. If it need not be, `1,234` may be one and a quarter nearly: then it stays as it is.
    """
    found = _THOUSANDS.fullmatch(text)
    if found is None or not (whole or found[2] or found[3]):
        return text
    return text.replace(",", "")


def _in_any_case(members: Iterable[tuple[Any, str]], text: str) -> Any:
    """Return the only member that is written like a text, but for capitals; `NOTHING` where there is none, or more."""
    folded = undressed(text).casefold()
    found = [member for member, written in members if undressed(written).casefold() == folded]
    return found[0] if folded and found and all(member is found[0] for member in found) else NOTHING


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


def literal_in_any_case(allowed: tuple[Any, ...], value: Any) -> Any:
    """Return the only member of a Literal that `value` is in another case, or in what models put around a value.

    Raises:
        ValueError: there is none, or more than one.
    """
    text = undressed(_unwrapped(value, "Literal[", "str[")) if isinstance(value, str) else ""
    if not text:
        return literal_value(allowed, value)
    if text in allowed:
        return text
    found = _in_any_case(((member, str(member)) for member in allowed), text)
    return literal_value(allowed, without_thousands(text, whole=True)) if found is NOTHING else found


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


def member_in_any_case(kind: type[enum.Enum], value: Any) -> enum.Enum:
    """Return the only member of an Enum whose value or name `value` is in another case, or in what models put around.

    Raises:
        ValueError: there is none, or more than one.
    """
    text = undressed(_unwrapped(value)).removeprefix(f"{kind.__name__}.") if isinstance(value, str) else ""
    if not text:
        return enum_member(kind, value)
    for member in kind:
        if member.value == text:
            return member
    written = [(member, str(member.value)) for member in kind]
    found = _in_any_case([*written, *((member, name) for name, member in kind.__members__.items())], text)
    if found is NOTHING:
        return enum_member(kind, without_thousands(text, whole=True))
    return typing.cast("enum.Enum", found)


def jsonable(value: Any, context: Any = None) -> Any:
    """Return a value as JSON data; as its text where JSON has no form for it.

    Args:
        value: the value.
        context: what serialisers of models see as the context.
    """
    try:
        return to_jsonable_python(value, context=context)
    except (PydanticSerializationError, ValueError):
        return str(value)
