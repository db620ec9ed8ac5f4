"""What an optimiser takes of what one gives it: what it would only drop is refused, before anything is paid."""

from __future__ import annotations

import inspect
from typing import Any

from dspex_actors.dspy.program import DSPyProgram
from dspex_actors.dspy.student import is_theirs
from dspex_actors.errors import ConfigError
from dspex_actors.teleprompt.optimizer import Optimizer
from dspex_actors.teleprompt.trainset import title


def takes_metric(kind: type[Optimizer]) -> bool:
    """Whether an optimiser's class can be given a metric."""
    parameters = inspect.signature(kind).parameters
    return "metric" in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values())


def check_metric_taken(kind: type[Optimizer], metric: Any, optimizer: Any = None) -> None:
    """Refuse a metric for an optimiser that would not look at it.

    Args:
        kind: its class.
        metric: None: there is none.
        optimizer: the optimiser itself, if it is made already.

    Raises:
        ConfigError: it takes none.
    """
    if metric is None or takes_metric(kind) or getattr(optimizer, "metric", None) is metric:
        return
    got = getattr(metric, "__name__", None) or repr(metric)
    raise ConfigError(
        f"metric: {kind.__name__} takes none, so expected None, got {got:.80}: leave it out, or choose an optimizer "
        "that compares programs by it, such as 'random_search'"
    )


def check_valset_taken(kind: type[Optimizer], valset: Any) -> None:
    """Refuse a valset for an optimiser that would not look at it.

    Raises:
        ConfigError: it takes none.
    """
    if valset is not None and "valset" not in inspect.signature(kind.compile).parameters:
        raise ConfigError(
            f"valset: {kind.__name__} takes none: leave it out; what it looks at, it finds in the trainset"
        )


def check_as_it_runs(kind: type[Optimizer], program: Any) -> None:
    """Refuse a program of DSPy's for an optimiser that makes a program which chooses as it runs.

    Raises:
        ConfigError: it is one; says what does it.
    """
    if isinstance(program, DSPyProgram) or is_theirs(program):
        called, got = kind.__name__, title(program)
        raise ConfigError(
            f"program: {called} takes programs of dspex's (dspex.Module), got {got}, one of DSPy's: call "
            f"dspy.{called}(...).compile(program)"
        )
