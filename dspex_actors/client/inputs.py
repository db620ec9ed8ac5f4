"""What a run is made of, as its user gives it: checked, and brought into the form in which it is sent."""

from __future__ import annotations

import inspect
import numbers
import os
from collections.abc import Container, Iterable, Mapping
from typing import Any

from dspex_actors.data.dataset import Dataset
from dspex_actors.data.fields import split
from dspex_actors.data.opening import open_dataset
from dspex_actors.errors import ConfigError
from dspex_actors.example import Example
from dspex_actors.programs.module import Module, ways_of
from dspex_actors.runs.spec import dump_code
from dspex_actors.settings import check_lm

#: What a program's author does about a missing LM.
SET_AN_LM = 'no LM is set: dspex.connect(lm="openai/gpt-4o-mini"), evaluate(..., lm=...) or program.set_lm(...)'


def check_has_lm(program: Any, lm: Any, otherwise: str = SET_AN_LM) -> None:
    """Refuse a program that would have no LM to ask.

    Args:
        program: the program.
        lm: for predictors that have none of their own; None: none.
        otherwise: the error's text, which says what to do.

    Raises:
        ConfigError: a predictor has no LM, or `lm` is none.
    """
    predictors = program.predictors() if hasattr(program, "predictors") else []
    if lm is None and any(predictor.lm is None for predictor in predictors):
        raise ConfigError(otherwise)
    check_lm(lm)


def dataset_inputs(devset: Any, program: Any) -> list[str] | None:
    """Return which fields of a file are the program's inputs; Examples and dicts of a list say it themselves.

    Of the program's parameters with a default those are that the file's first row has.
    """
    if not isinstance(devset, str | os.PathLike):
        return None
    try:
        first = next(iter(open_dataset(devset, on_bad_line="skip")))
    except ConfigError:
        first = ()  # it is told by who opens it for good, and passes over it if that was asked for
    return input_names(program, first)


def with_inputs(devset: Any, program: Any) -> Any:
    """Give plain dicts of a list or generator the program's inputs; Examples keep their own."""
    if isinstance(devset, str | os.PathLike | Dataset) or not isinstance(devset, Iterable):
        return devset
    if isinstance(devset, list | tuple):
        plain = any(isinstance(item, dict) for item in devset)
        return [_example(item, program) for item in devset] if plain else devset
    return (_example(item, program) for item in devset)


def _example(item: Any, program: Any) -> Any:
    names = input_names(program, item) if isinstance(item, dict) else None
    if names is None:
        return item
    split(item, names)  # refuses one that lacks an input, and says which
    return Example(**item).with_inputs(*names)


def check_called(program: Any, metric: Any) -> None:
    """Refuse what no example could be done with, before anything is paid.

    Args:
        program: the program.
        metric: the metric; it is called with an example and its prediction.

    Raises:
        ConfigError: one is a class, or cannot be called, or the metric does not take two arguments.
    """
    check_object(metric, "metric")
    check_program(program)
    if not callable(metric):
        raise ConfigError(f"metric takes a function metric(example, prediction, trace=None), got {metric!r:.80}")
    try:
        signature = inspect.signature(metric)
    except (TypeError, ValueError):
        return  # written in C: it does not tell
    try:
        signature.bind(None, None)
    except TypeError:
        raise ConfigError(
            f"the metric is invalid: got the parameters {signature}, expected (example, prediction, trace=None)"
        ) from None


def check_program(program: Any) -> None:
    """Refuse what is no program.

    Raises:
        ConfigError: it is a class, or cannot be called.
    """
    check_object(program, "program")
    if not callable(program):
        raise ConfigError(f"the program is invalid: got {program!r:.80}, expected a Module or another callable")


def check_object(value: Any, what: str) -> None:
    """Refuse a class where an object of it is meant.

    Raises:
        ConfigError: it is a class.
    """
    if isinstance(value, type):
        name = value.__name__
        raise ConfigError(f"the {what} is invalid: got the class {name}, expected an object of it, as {name}() is")


def code_of(value: Any, what: str) -> bytes:
    """Return a program or a metric as bytes.

    Raises:
        ConfigError: it cannot be pickled, or a key would go along; it names the attribute that cannot be.
    """
    try:
        return dump_code(value)
    except ConfigError as error:
        raise ConfigError(f"the {what} cannot be sent to the workers: {error.message}") from None
    except Exception as error:
        path, said = _unsent(value, f"{type(error).__name__}: {error}")
        inside = f"its attribute {path!r} is what does not travel ({said}): make it where it is used" if path else said
        raise ConfigError(f"the {what} cannot be sent to the workers: {inside}") from None


def _unsent(value: Any, said: str) -> tuple[str, str]:
    """Return the path of the innermost attribute that cannot be pickled, and why; no path: no attribute is why."""
    path, seen = "", {id(value)}
    while True:
        for name, inner in _attributes(value).items():
            why = None if id(inner) in seen else _why_unsent(inner)
            if why is not None:
                path, value, said = path + name, inner, why
                seen.add(id(value))
                break
        else:
            return path.removeprefix("."), said


def _why_unsent(value: Any) -> str | None:
    try:
        dump_code(value)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def _attributes(value: Any) -> dict[str, Any]:
    """Return what there is in an object, by the words that lead to it."""
    if isinstance(value, dict):
        return {f"[{key!r:.40}]": inner for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return {f"[{place}]": inner for place, inner in enumerate(value)}
    return {f".{name}": inner for name, inner in getattr(value, "__dict__", {}).items()}


def plain_numbers(value: Any) -> Any:
    """Return settings with Python's own numbers in the place of numpy's and the like."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Mapping):
        return {name: plain_numbers(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain_numbers(one) for one in value]
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if type(value).__name__ in ("bool", "bool_") and hasattr(value, "item"):  # numpy's is no number to Python
        return bool(value)
    return value


def stands_for(program: Any) -> Any:
    """Return the program whose inputs are those of this one: the last of those that it only hands them on to."""
    while isinstance(program, Module) and (inner := program._stands_for()) is not None:
        program = inner
    return program


def input_names(program: Any, there: Container[str] = ()) -> list[str] | None:
    """Return the inputs of a program: its signature's, or the parameters of its forward or of the function.

    None where none of them tells.

    Args:
        program: the program.
        there: the fields of an example: a parameter that has a default is an input only if it is one of them.
    """
    program = stands_for(program)
    signature = getattr(program, "signature", None)
    if signature is not None:
        return list(signature.input_fields)
    for method in (*ways_of(program), None if isinstance(program, Module) else program):
        if callable(method):
            found = [
                p.name
                for p in inspect.signature(method).parameters.values()
                if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and (p.default is p.empty or p.name in there)
            ]
            if found:
                return found
    predictors = program.predictors() if isinstance(program, Module) else []
    return list(predictors[0].signature.input_fields) if predictors else None
