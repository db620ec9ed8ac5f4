"""A run that goes through batches, at the side of who starts it: what cannot is refused before anything is asked."""

from __future__ import annotations

from typing import Any

from dspex_actors.errors import ConfigError
from dspex_actors.judging import AsksLM, Judge
from dspex_actors.lm.batches.settings import EXAMPLE_SECONDS, EXAMPLES, check_batch, refuse_unfit
from dspex_actors.programs.module import Module
from dspex_actors.runs.spec import EXAMPLE_SECONDS as EXAMPLE_SECONDS_AT_ONCE

#: Examples at once where nothing is said, of a run that does not go through batches.
EXAMPLES_AT_ONCE = 256


def batch_settings(batch: Any, max_in_flight: int | None, deadline: float | None) -> dict[str, Any]:
    """Return the settings of a run that its going through batches decides about: batch, max_in_flight, deadline.

    Args:
        batch: as it was given.
        max_in_flight: as it was given; None: nothing was.
        deadline: as it was given; None: nothing was.

    Raises:
        ConfigError: `batch` is not usable.
    """
    told = check_batch(batch)
    examples, seconds = (EXAMPLES_AT_ONCE, EXAMPLE_SECONDS_AT_ONCE) if told is None else (EXAMPLES, EXAMPLE_SECONDS)
    return {
        "batch": told,
        "max_in_flight": examples if max_in_flight is None else max_in_flight,
        "deadline": seconds if deadline is None else deadline,
    }


def refuse_nodes(requires: Any, nodes: Any) -> None:
    """Refuse a run that goes through batches on certain nodes.

    Raises:
        ConfigError: one of them is told.
    """
    for name, value in (("requires", requires), ("nodes", nodes)):
        if value is not None:
            raise ConfigError(
                f"{name} is invalid with batch: got {value!r:.100}, expected None: the node that keeps the run does it"
            )


def refuse_without_batches(program: Any, metric: Any, lm: Any) -> None:
    """Refuse a run that goes through batches with an LM that has none, as far as its LMs can be seen.

    Args:
        program: what is evaluated.
        metric: the metric; a judge asks an LM, too.
        lm: of predictors that have none of their own; None: nobody knows.

    Raises:
        ConfigError: names the LM.
    """
    predictors = program.predictors() if hasattr(program, "predictors") else []
    asked = [predictor.lm or lm for predictor in predictors] or [lm]
    if isinstance(metric, Judge):
        asked.append(metric.lm or lm)
    elif isinstance(metric, AsksLM) and isinstance(metric, Module):
        asked += [predictor.lm or lm for predictor in metric.predictors()]
    refuse_unfit(asked)
