"""Validators of fields: functions that see a value, in a call's inputs or in an LM's answer, and may refuse it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, ValidationError
from pydantic.fields import FieldInfo

from dspex_actors.foundation.bridge import is_async
from dspex_actors.foundation.config_errors import ConfigRuntimeError, ConfigTypeError, ConfigValueError
from dspex_actors.types.base import told_in_a_line
from dspex_actors.types.validators import type_adapter


def validators_of(side: str, given: Any) -> list[AfterValidator]:
    """Return what a field's `validator` says, as pydantic has it.

    Args:
        side: input or output, for the error.
        given: a function of the value, or several: each returns the value, or another one, or raises ValueError.

    Raises:
        ConfigTypeError: one is no function of one value, or is async.
    """
    functions = list(given) if isinstance(given, list | tuple) else [given]
    for function in functions:
        call = function if inspect.isroutine(function) else getattr(function, "__call__", None)  # noqa: B004
        is_generator = inspect.isgeneratorfunction(call) or inspect.isasyncgenfunction(call)
        if not callable(function) or is_async(function) or is_generator or not takes(function, 1):
            raise ConfigTypeError(
                f"the validator of an {side} is invalid: got {function!r:.60}, expected a function of the value that "
                "returns it or raises ValueError"
            )
    return [AfterValidator(_returning(function)) for function in functions]


def takes(function: Callable[..., Any], count: int) -> bool:
    """Tell whether a function can be called with so many arguments."""
    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:
        pass  # written in C: it does not say
    return True


class _Returning:
    """A validator that has to return the value: who forgets it would have None for every value."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def __call__(self, value: Any) -> Any:
        try:
            found = self.function(value)
        except (ValueError, AssertionError):
            raise
        except Exception as error:
            raise ConfigRuntimeError(
                f"validator {_name(self.function)} has raised {type(error).__name__}: {error}; expected that it "
                "returns the value, or raises ValueError"
            ) from error
        if inspect.isawaitable(found) or inspect.isgenerator(found) or inspect.isasyncgen(found):
            if inspect.iscoroutine(found):
                found.close()
            raise ValueError(f"its validator {_name(self.function)} is async, or a generator: it returns the value")
        if found is None and value is not None:
            raise ValueError(f"its validator {_name(self.function)} returned None: it returns the value")
        return found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Returning) and self.function == other.function

    def __hash__(self) -> int:
        return hash(self.function)

    def __repr__(self) -> str:
        return f"validator {_name(self.function)}"


def _returning(function: Callable[[Any], Any]) -> _Returning:
    return _Returning(function)


def _name(function: Any) -> str:
    return getattr(function, "__qualname__", None) or type(function).__qualname__


def same_rules(one: FieldInfo, other: FieldInfo) -> bool:
    """Tell whether two fields have the same constraints and validators. Functions of one name may be two."""
    mine, theirs = _functions(one), _functions(other)
    return repr(one.metadata) == repr(other.metadata) and mine == theirs


def _functions(field: FieldInfo) -> list[Any]:
    return [rule.func for rule in field.metadata if isinstance(rule, AfterValidator)]


def validated_fields(fields: Mapping[str, FieldInfo]) -> dict[str, FieldInfo]:
    """Return those fields that have validators; nearly always none."""
    return {
        name: field
        for name, field in fields.items()
        if any(isinstance(rule, AfterValidator) and isinstance(rule.func, _Returning) for rule in field.metadata)
    }


def validated(signature: str, name: str, field: FieldInfo, value: Any) -> Any:
    """Return an input as its validators leave it.

    Raises:
        ConfigValueError: one refuses it, or it does not fit the field's type or constraints.
    """
    if value is None:
        return value
    rules = [rule for rule in field.metadata if rule is not None]
    try:
        return type_adapter(Annotated[(field.annotation, *rules)]).validate_python(value)
    except ValidationError as error:
        raise ConfigValueError(f"input {name!r} of {signature} is invalid: {told_in_a_line(error)}") from None
