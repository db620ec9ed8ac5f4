"""Labels against outputs: a label is read as the type that the output has, and both are compared as plain values.

A label comes from a file or from the user's hands: text, JSON data, or an object. An output has the type of its field.
`"12.5"` is a Decimal's label, ISO text a date's, a dict or its JSON a model's, a list a set's, a value an Enum
member's. None is nothing but None.
"""

from __future__ import annotations

import dataclasses
import enum
import logging
import numbers
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from pydantic import BaseModel

from dspex_actors.adapters.reading import enum_member, read_structure
from dspex_actors.adapters.types import type_name
from dspex_actors.adapters.values import parse_value
from dspex_actors.foundation.codec import to_plain
from dspex_actors.types.code import Code
from dspex_actors.types.reasoning import Reasoning
from dspex_actors.types.validators import type_adapter

_log = logging.getLogger(__name__)
#: Warnings given already, by the names of both types: the classes are of scripts that come and go.
_warned: set[tuple[str, str]] = set()

#: Characters of a label that a warning shows.
_SHOWN = 200

_LISTS, _SETS = (list, tuple), (set, frozenset)


def same(got: Any, label: Any, normal: Callable[[str], str]) -> bool:
    """Tell whether an output is what a label says.

    Args:
        got: the output, typed.
        label: what it should be, in any form. Where the output is text and the label is not, it is the output that is
            read as the label's type.
        normal: the form in which texts are compared.
    """
    if type(got) is str and type(label) is str:
        return got == label or normal(got) == normal(label)
    got, label = unboxed(got), unboxed(label)
    if got is None or label is None:
        return got is label
    if _is_object(got) or _is_object(label):
        return _same_objects(got, label, normal)
    if isinstance(got, Mapping | list | tuple | set | frozenset):
        return _same_parts(got, _structure(label), normal)
    if isinstance(label, Mapping | list | tuple | set | frozenset):
        return _same_parts(_structure(got), label, normal)
    if is_number(got) or is_number(label):
        return _same_numbers(got, label)
    return normal(str(got)) == normal(str(label))


def unboxed(value: Any) -> Any:
    """Return the Python value in one of numpy's, or of a library like it, and the text of code and reasoning.

    Any other value as it is.
    """
    if isinstance(value, Code | Reasoning):
        return value.format()
    if type(value).__module__ in ("numpy", "torch", "jax") and hasattr(value, "tolist"):
        return value.tolist()
    return value


def is_number(value: Any) -> bool:
    """Tell whether a value is a number, and neither a bool nor a member of an Enum."""
    return isinstance(value, numbers.Real | Decimal) and not isinstance(value, bool | enum.Enum)


def read_label(label: Any, annotation: Any) -> Any:
    """Return a label as a value of an output field's type.

    Raises:
        ValueError: it cannot be read as one.
    """
    label = unboxed(label)
    if isinstance(label, str):
        return parse_value(label, annotation)
    if isinstance(label, enum.Enum) or _is_object(label):
        try:
            return type_adapter(annotation).validate_python(label)
        except ValueError:
            label = to_plain(label)
    return parse_value(list(label) if isinstance(label, _SETS) else label, annotation)


def _is_object(value: Any) -> bool:
    """Tell whether a value has a type of its own: neither text, nor a number, nor a container."""
    return not isinstance(value, str | int | float | Decimal | Mapping | list | tuple | set | frozenset) or isinstance(
        value, bool | enum.Enum
    )


def _same_objects(got: Any, label: Any, normal: Callable[[str], str]) -> bool:
    kind = type(got) if _is_object(got) else type(label)
    try:
        ours, theirs = _as_a(kind, got), _as_a(kind, label)
    except (ValueError, TypeError, ArithmeticError) as error:
        if normal(_text(got)) == normal(_text(label)):
            return True
        _warn(kind, label if _is_object(got) else got, error)
        return False
    if isinstance(ours, BaseModel) or dataclasses.is_dataclass(ours):
        return _same_parts(_fields(ours), _fields(theirs), normal)
    return bool(ours == theirs)


def _as_a(kind: type, value: Any) -> Any:
    if isinstance(value, kind):
        return value
    if issubclass(kind, enum.Enum):
        return enum_member(kind, value.value if isinstance(value, enum.Enum) else value)
    if issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind):
        return type_adapter(kind).validate_python(_structure(value))
    return type_adapter(kind).validate_python(value)


def _fields(value: Any) -> dict[str, Any]:
    if isinstance(value, BaseModel):
        return dict(value)
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _structure(value: Any) -> Any:
    return read_structure(value) if isinstance(value, str) else value


def _same_parts(got: Any, label: Any, normal: Callable[[str], str]) -> bool:
    if isinstance(got, Mapping) and isinstance(label, Mapping):
        return got.keys() == label.keys() and all(same(got[name], label[name], normal) for name in got)
    if isinstance(got, _SETS) or isinstance(label, _SETS):
        return _same_sets(got, label, normal)
    if isinstance(got, _LISTS) and isinstance(label, _LISTS):
        return len(got) == len(label) and all(same(*pair, normal) for pair in zip(got, label, strict=True))
    return not isinstance(got, Mapping) and not isinstance(label, Mapping) and normal(str(got)) == normal(str(label))


def _same_sets(got: Any, label: Any, normal: Callable[[str], str]) -> bool:
    if not isinstance(got, _SETS + _LISTS) or not isinstance(label, _SETS + _LISTS):
        return False
    left = list(label)
    for one in got:
        place = next((place for place, other in enumerate(left) if same(one, other, normal)), None)
        if place is None:
            return False
        del left[place]
    return not left


def _same_numbers(got: Any, label: Any) -> bool:
    try:
        # Not by float, to which large whole numbers that differ are one.
        if isinstance(got, Decimal | int) or isinstance(label, Decimal | int):
            return Decimal(str(got).strip()) == Decimal(str(label).strip())
        return float(got) == float(label)
    except (TypeError, ValueError, OverflowError, InvalidOperation):
        return False


def _text(value: Any) -> str:
    plain = to_plain(value)
    return plain if isinstance(plain, str) else str(plain)


def _warn(kind: type, value: Any, error: Exception) -> None:
    """Say once for two types that values of the one cannot be read as the other."""
    pair = type_name(kind), type_name(type(value))
    if pair not in _warned:
        _warned.add(pair)
        shown = repr(value)
        why = " ".join(str(error).split())[:200]
        _log.warning(
            "%s cannot be read as %s and equals none: the example counts as wrong (%s)",
            shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 1]}…",
            pair[0],
            why,
        )
