"""Patterns over registered values: wildcards, variables, guards. Pure.

A pattern is a value with holes: `ANY` fits everything, `Var("x")` too but the same in every place, tuples and lists fit
item by item, a dict fits one that has at least its keys, and anything else fits only its like (1 does not fit 1.0).
Guards narrow what was bound: `("x", ">", 1)`, `("x", "!=", Var("y"))`. As in Elixir's `Registry.match` and `select`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from supervisors.terms.errors import SpecError


@dataclass(frozen=True)
class Var:
    """A hole in a pattern; the same name stands for the same value. "_" stands for anything."""

    name: str


#: Fits every value.
ANY = Var("_")

#: (variable, operator, value or Var)
Guard = tuple[str, str, Any]

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": lambda left, right: strict(left) == strict(right),
    "!=": lambda left, right: strict(left) != strict(right),
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda left, right: strict(left) in [strict(item) for item in right],
}


def strict(value: Any) -> Any:
    """Return a stand-in for `value` that is equal only to that of the same value of the same type.

    1, 1.0 and True are three values, as are 0.0 and -0.0; NaN is like itself. Lists, dicts and sets have one too.

    Raises:
        SpecError: it holds an object that cannot be hashed.
    """
    kind = type(value)
    if kind is str or kind is int or kind is bytes:
        return kind, value
    if kind is float:
        return kind, value.hex()
    if kind is tuple or kind is list:
        return kind, tuple(strict(item) for item in value)
    if kind is set or kind is frozenset:
        return kind, frozenset(strict(item) for item in value)
    if kind is dict:
        return kind, frozenset((strict(key), strict(item)) for key, item in value.items())
    try:
        hash(value)
    except TypeError:
        raise SpecError.of("key", value, "plain data or an object that can be hashed") from None
    return kind, value


def bind(pattern: Any, value: Any) -> dict[str, Any] | None:
    """Fit a value into a pattern.

    Returns:
        What the variables stand for; None where the value does not fit.
    """
    bound: dict[str, Any] = {}
    return bound if _fit(pattern, value, bound) else None


def _fit(pattern: Any, value: Any, bound: dict[str, Any]) -> bool:
    if isinstance(pattern, Var):
        if pattern.name == "_":
            return True
        if pattern.name in bound:
            return _alike(bound[pattern.name], value)
        bound[pattern.name] = value
        return True
    if type(pattern) is not type(value):
        return False
    if isinstance(pattern, tuple | list):
        return len(pattern) == len(value) and all(
            _fit(part, item, bound) for part, item in zip(pattern, value, strict=True)
        )
    if isinstance(pattern, dict):
        items = {strict(key): item for key, item in value.items()}
        return all(strict(key) in items and _fit(part, items[strict(key)], bound) for key, part in pattern.items())
    return _alike(pattern, value)


def _alike(left: Any, right: Any) -> bool:
    try:
        return bool(strict(left) == strict(right))
    except SpecError:  # values, unlike keys, need not be hashable
        return type(left) is type(right) and bool(left == right)


def check_guards(guards: Iterable[Guard]) -> tuple[Guard, ...]:
    """Return the guards as a tuple.

    Raises:
        SpecError: one is not a (variable, operator, value), or its operator is not one of those above.
    """
    checked = []
    for guard in guards:
        if not isinstance(guard, tuple | list) or len(guard) != 3 or guard[1] not in _OPERATORS:
            raise SpecError.of(
                "guard", guard, f"(variable, operator, value) with one of {list(_OPERATORS)} as operator"
            )
        checked.append((guard[0], guard[1], guard[2]))
    return tuple(checked)


def holds(guards: Iterable[Guard], bound: dict[str, Any]) -> bool:
    """Whether every guard holds; what cannot be compared, or is not bound, does not."""
    for name, sign, right in guards:
        try:
            wanted = bound[right.name] if isinstance(right, Var) else right
            if not _OPERATORS[sign](bound[name], wanted):
                return False
        except (KeyError, TypeError, SpecError):
            return False
    return True


def fill(template: Any, bound: dict[str, Any]) -> Any:
    """Return the template with what its variables stand for.

    Raises:
        SpecError: a variable of it is not in the pattern.
    """
    if isinstance(template, Var):
        if template.name not in bound:
            raise SpecError.of("body", template, f"variables of the pattern, which binds {sorted(bound)}")
        return bound[template.name]
    if isinstance(template, tuple):
        return tuple(fill(part, bound) for part in template)
    if isinstance(template, list):
        return [fill(part, bound) for part in template]
    if isinstance(template, dict):
        return {key: fill(part, bound) for key, part in template.items()}
    return template
