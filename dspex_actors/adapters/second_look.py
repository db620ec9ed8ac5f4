"""The second look at a value that does not fit, before the LM is asked, and paid, a second time.

Models write `**Yes**.` for `yes`, `1,234` for 1234, `N/A` for nothing. What can mean two things is not read: `1,234` is
a whole number, and as a float it may be 1.234; `Red` is no member of an Enum that has both `RED` and `red`.
"""

from __future__ import annotations

import decimal
import enum
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal, Union

from pydantic import TypeAdapter, WrapValidator

from dspex_actors.adapters.reading import (
    literal_in_any_case,
    member_in_any_case,
    read_structure,
    undressed,
    without_thousands,
)

Parser = Callable[[Any], Any]

#: What models write where there is no value.
_NOTHING_SAID = ("", "none", "null", "n/a")
#: Characters of one value at most; a model that repeats itself writes more.
_LONGEST = 1000
_UNIONS = (Union, types.UnionType)
_CONTAINERS = (list, set, frozenset, tuple, dict)
_NUMBERS = (int, float, decimal.Decimal)


def twice(first: Parser, annotation: Any, structure: Callable[[str], Any] = read_structure) -> Parser:
    """Return a parser that looks a second time at what does not fit.

    Args:
        first: reads a value as it stands; its error is the one that is told.
        annotation: the type.
        structure: reads text as JSON.
    """
    second: list[Parser] = []  # made when it is needed: few answers need it

    def parse(value: Any) -> Any:
        try:
            return first(value)
        except ValueError:
            if not isinstance(value, str | list | dict):
                raise
            if not second:
                second.append(_second(first, annotation, structure))
            try:
                return second[0](value)
            except (ValueError, TypeError):
                pass
            raise

    return parse


def _second(first: Parser, annotation: Any, structure: Callable[[str], Any]) -> Parser:
    if (only := _of_choice(annotation)) is not None:
        return only
    parts = typing.get_args(annotation) if typing.get_origin(annotation) in _UNIONS else (annotation,)
    meant = [part for part in parts if part is not types.NoneType]
    is_whole, is_number = meant == [int], all(part in _NUMBERS for part in meant)
    choice = _of_choice(meant[0]) if len(meant) == 1 else None
    softer = _softened(annotation)
    # A list is looked at item by item.
    validate = None if softer is annotation else TypeAdapter(softer).validate_python

    def look(value: Any) -> Any:
        if isinstance(value, str):
            if choice is not None:
                try:
                    return choice(value)
                except ValueError:
                    pass
            bare = undressed(value)
            if types.NoneType in parts and bare.casefold() in _NOTHING_SAID:
                return None
            bare = without_thousands(bare, is_whole) if is_number else bare
            if validate is None and bare != value and len(bare) <= _LONGEST:
                return first(bare)
            value = bare if validate is None else structure(bare)
        if validate is None:
            raise ValueError(value)
        return validate(value)

    return look


def _of_choice(annotation: Any) -> Parser | None:
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return lambda text: member_in_any_case(annotation, text)
    if typing.get_origin(annotation) is Literal:
        allowed = typing.get_args(annotation)
        return lambda text: literal_in_any_case(allowed, text)
    return None


def _softened(annotation: Any) -> Any:
    """Return a type of lists and dicts whose choices and numbers are looked at twice; the same one if it has none."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in _UNIONS:
        meant = [part for part in arguments if part is not types.NoneType]
        if len(meant) != 1:
            return annotation  # of several, one could take what another one is
        soft = _softened(meant[0])
        return annotation if soft is meant[0] else Union[soft, None]  # noqa: UP007 - it is made here
    if origin not in _CONTAINERS:
        return annotation
    softer = tuple(_softened_part(one) for one in arguments)
    if all(one is other for one, other in zip(softer, arguments, strict=True)):
        return annotation
    return origin[softer]


def _softened_part(annotation: Any) -> Any:
    parts = typing.get_args(annotation) if typing.get_origin(annotation) in _UNIONS else (annotation,)
    meant = [part for part in parts if part is not types.NoneType]
    if len(meant) != 1 or (_of_choice(meant[0]) is None and meant[0] not in _NUMBERS):
        return _softened(annotation)
    soft: Any = _annotated(meant[0], WrapValidator(_looks_twice(meant[0])))
    return soft if len(parts) == 1 else Union[soft, None]  # noqa: UP007 - it is made here


def _annotated(annotation: Any, rule: WrapValidator) -> Any:
    return Annotated[annotation, rule]


def _looks_twice(annotation: Any) -> Callable[[Any, Parser], Any]:
    def check(value: Any, first: Parser) -> Any:
        return twice(first, annotation)(value)

    return check
