"""What a run is made of, as its user gives it: checked, and brought into the form in which it is sent."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from dspex_actors.data.dataset import Dataset
from dspex_actors.data.fields import split
from dspex_actors.data.opening import open_dataset
from dspex_actors.errors import ConfigError
from dspex_actors.example import Example
from dspex_actors.lm.lm import LM
from dspex_actors.runs.identity import input_names
from dspex_actors.runs.spec import dump_code

#: What a program's author does about a missing LM.
SET_AN_LM = 'no LM is set: dspex.connect(lm="openai/gpt-4o-mini"), evaluate(..., lm=...) or program.set_lm(...)'


def check_has_lm(program: Any, lm: LM | None, otherwise: str = SET_AN_LM) -> None:
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
    if lm is not None and not isinstance(lm, LM):
        raise ConfigError(f"lm takes a dspex.LM, got {lm!r}")


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


def code_of(value: Any, what: str) -> bytes:
    """Return a program or a metric as bytes.

    Raises:
        ConfigError: it cannot be pickled, or a key would go along.
    """
    try:
        return dump_code(value)
    except ConfigError as error:
        raise ConfigError(f"the {what} cannot be sent to the workers: {error.message}") from None
    except Exception as error:
        raise ConfigError(f"the {what} cannot be sent to the workers: {type(error).__name__}: {error}") from None
