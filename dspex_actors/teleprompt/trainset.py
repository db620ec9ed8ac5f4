"""What an optimiser is given: the program, the examples themselves, in order, and LMs of its own."""

from __future__ import annotations

import dis
import inspect
import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dspex_actors.client.inputs import dataset_inputs, input_names
from dspex_actors.data.opening import open_dataset
from dspex_actors.dspy.program import DSPyProgram
from dspex_actors.dspy.student import is_theirs
from dspex_actors.errors import ConfigError
from dspex_actors.example import Example
from dspex_actors.foundation.checks import is_whole
from dspex_actors.foundation.config_errors import ConfigValueError
from dspex_actors.metrics import FieldMetric
from dspex_actors.programs.module import Module

_log = logging.getLogger(__name__)


def check_student(student: Any, what: str = "student") -> None:
    """Refuse what cannot be optimised.

    Args:
        student: the program.
        what: what errors call it.

    Raises:
        ConfigError: it is no program, or has no predictors.
    """
    if not isinstance(student, Module):
        if is_theirs(student):
            raise ConfigError(
                f"{what}: expected a program (dspex.Module), got {type(student).__name__}, one of DSPy's: "
                "dspex.optimize(program, trainset, metric, optimizer) takes it"
            )
        is_class = isinstance(student, type) and issubclass(student, Module)
        got = f"the class {student.__name__}" if is_class else type(student).__name__
        raise ConfigError(f"{what}: expected a program (dspex.Module), got {got}")
    if not student.predictors():
        raise ConfigError(f"{what}: {title(student)} has no predictors, so nothing can be optimised")


def title(student: Any) -> str:
    """Return what people call a program: the name of its class, of DSPy's where it is one of DSPy's."""
    return student._title() if isinstance(student, DSPyProgram) else type(student).__name__


def check_gives_something(metric: Any) -> None:
    """Refuse a metric whose code returns None, whatever it is given: a `return` was forgotten.

    Raises:
        ConfigError: it is such a one.
    """
    code = getattr(inspect.unwrap(metric), "__code__", None) if callable(metric) else None
    if code is None or code.co_flags & (inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR):
        return
    steps = list(dis.get_instructions(code))
    ends = [place for place, one in enumerate(steps) if one.opname in ("RETURN_VALUE", "RETURN_CONST")]
    if ends and all(_is_none(steps, place) for place in ends):
        name = getattr(metric, "__name__", type(metric).__name__)
        raise ConfigValueError(
            f"the metric is invalid: {name} returns None, whatever it is given; add a `return` to it"
        )


def _is_none(steps: Sequence[dis.Instruction], place: int) -> bool:
    """Whether the instruction that returns returns the constant None."""
    one = steps[place] if steps[place].opname == "RETURN_CONST" else steps[place - 1]
    return one.opname in ("RETURN_CONST", "LOAD_CONST") and one.argval is None


def checked_threads(count: Any) -> int | None:
    """Return DSPy's `num_threads`, on which nothing depends here.

    Raises:
        ConfigError: it is neither None nor a whole number from 1.
    """
    if count is not None and not is_whole(count, 1):
        raise ConfigValueError(f"num_threads is invalid: got {count!r:.100}, expected a whole number from 1, or None")
    return count  # type: ignore[no-any-return]


def checked_seeds(name: str, value: Any, there: Sequence[int]) -> list[int]:
    """Return those of some seeds that are asked for; None: all.

    Raises:
        ConfigError: none of them is, or it is something else.
    """
    if value is None:
        return list(there)
    several = isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)
    asked = list(value) if several else []
    found = [seed for seed in there if any(seed == one for one in asked)]
    if not found:
        got = asked if several else value
        raise ConfigValueError(f"{name} is invalid: got {got!r:.100}, expected seeds from {there[0]} to {there[-1]}")
    return found


def checked_lm(name: str, lm: Any) -> Any:
    """Return an LM that a setting has, or None.

    Raises:
        ConfigError: it is something else.
    """
    if lm is not None and not (callable(lm) and hasattr(lm, "acall")):
        hint = f"dspex.LM({lm!r})" if isinstance(lm, str) else "dspex.LM('provider/model')"
        raise ConfigValueError(f"{name} is invalid: got {lm!r:.100}, expected an LM, as {hint}, or None")
    return lm


def temperature(name: str, value: Any) -> float:
    """Return a temperature.

    Raises:
        ConfigError: it is none.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value < math.inf:
        raise ConfigValueError(f"{name} is invalid: got {value!r:.100}, expected a number from 0")
    return float(value)


def checked_folder(name: str, folder: Any) -> Path | None:
    """Return the folder that a setting has, absolute: in the node another one is the present one.

    Raises:
        ConfigError: it is no path.
    """
    if folder is None:
        return None
    if not isinstance(folder, str | os.PathLike) or isinstance(os.fspath(folder), bytes):
        raise ConfigValueError(f"{name} is invalid: got {folder!r:.100}, expected the path of a folder, or None")
    return Path(folder).absolute()


def make_folder(name: str, folder: Path | None) -> None:
    """Make the folder that something is to be written to in the end, before anything is paid.

    Raises:
        ConfigError: nothing can be written there.
    """
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".dspex-probe"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise ConfigValueError(
            f"{name} is invalid: got {folder}, where nothing can be written ({error.strerror}); expected another folder"
        ) from None


@contextmanager
def told_only(name: str, folder: Any) -> Iterator[None]:
    """Have a folder that can be written to no more be a warning: what was paid for is not lost by it."""
    try:
        yield
    except OSError as error:
        _log.warning("%s: %s could not be written: %s", name, folder, error.strerror or error)


def read_trainset(source: Any, program: Any, what: str = "trainset") -> list[Example]:
    """Return the examples of a trainset; all of them, because labelled demos are drawn from the whole.

    Args:
        source: Examples (kept as they are), dicts (get the program's inputs), or a path to JSONL or CSV.
        program: the program that they are for.
        what: what errors call it.

    Raises:
        ConfigError: it is none of these, or a file is not usable.
    """
    if isinstance(source, str | os.PathLike):
        source = open_dataset(source, input_names=dataset_inputs(source, program))
    if isinstance(source, Mapping) or not isinstance(source, Iterable):
        raise ConfigError(f"{what}: expected a list of Examples or a path to JSONL or CSV, got {type(source).__name__}")
    return [_example(item, place, program, what) for place, item in enumerate(source)]


def check_inputs(examples: Iterable[Example], what: str) -> None:
    """Refuse examples of which nobody has said what a program is given.

    Raises:
        ConfigError: one has no inputs.
    """
    for place, example in enumerate(examples):
        if example._input_keys is None:
            raise ConfigError(f"{what}[{place}]: its inputs are not marked: write Example(...).with_inputs('question')")


def check_labels(metric: Any, examples: Sequence[Any], what: str) -> None:
    """Refuse a metric that compares a field which no example has: it would fail each one, after it was paid.

    Raises:
        ConfigError: there is such a field; says which there are.
    """
    for name in getattr(metric, "fields", ()) if isinstance(metric, FieldMetric) else ():
        if not any(name in example for example in examples):
            there = ", ".join(dict.fromkeys(str(one) for example in examples for one in example.keys()))  # noqa: SIM118
            raise ConfigError(
                f"metric {metric!r}: no example of the {what} has a field {name!r}; there are {there:.200}"
            )


def _example(item: Any, place: int, program: Any, what: str) -> Example:
    if isinstance(item, Example):
        return item
    if not isinstance(item, Mapping):
        raise ConfigError(f"{what}[{place}]: expected an Example or a dict, got {type(item).__name__}")
    example, names = Example(item), input_names(program, item)
    return example if names is None else example.with_inputs(*names)
