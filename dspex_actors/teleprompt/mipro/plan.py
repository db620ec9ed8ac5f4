"""How large a MIPROv2 is: its trials, candidates and batches. The numbers are DSPy's. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dspex_actors.foundation.config_errors import ConfigValueError

#: By `auto`: candidates, and how many examples of the valset are scored on at most.
AUTO = {"light": (6, 100), "medium": (12, 300), "heavy": (18, 1000)}
#: With `auto`, a valset that is not larger is scored on whole in each trial.
SMALL = 50
#: The part of a trainset that is scored on where there is no valset, and how many examples of it at most.
VAL_SHARE, VAL_MOST = 0.80, 1000
#: Demos that are shown to who proposes, where the program itself is to have none.
DEMOS_TO_SHOW = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to do.

    Args:
        trials: combinations that are tried.
        instructions: candidates for each predictor, its present one included.
        demo_sets: candidates for each predictor.
        val_size: examples of the valset that are used at most; None: all.
        minibatch: examples that a trial is scored on; None: all of the valset.
        full_every: after so many trials the best on average is scored on the whole valset.
    """

    trials: int
    instructions: int
    demo_sets: int
    val_size: int | None
    minibatch: int | None
    full_every: int

    @property
    def told(self) -> int:
        """Return how many candidates there are: the program as it is, trials, evaluations of the best on all."""
        return 1 + self.trials + sum(self.is_full_after(trial) for trial in range(1, self.trials + 1))

    def is_full_after(self, trial: int) -> bool:
        """Tell whether a whole evaluation comes after this trial, counted from 1."""
        return self.minibatch is not None and (trial % self.full_every == 0 or trial == self.trials)


def trials_for(candidates: int, predictors: int, *, zero_shot: bool) -> int:
    """Return how many trials so many candidates deserve."""
    variables = predictors if zero_shot else 2 * predictors
    return int(max(2 * variables * math.log2(candidates), 1.5 * candidates))


def make_plan(
    *,
    auto: str | None,
    num_candidates: int | None,
    num_trials: int | None,
    predictors: int,
    zero_shot: bool,
    val_count: int,
    minibatch: bool,
    minibatch_size: int,
    full_every: int,
) -> Plan:
    """Return the plan.

    Args:
        auto: "light", "medium", "heavy" or None.
        num_candidates: without `auto`.
        num_trials: without `auto`.
        predictors: how many the program has.
        zero_shot: it is to have no demos.
        val_count: examples in the valset.
        minibatch: trials are scored on a part of it; with `auto` its size decides.
        minibatch_size: how large a part.
        full_every: see `Plan`.

    Raises:
        ConfigError: the settings do not go together.
    """
    if auto is not None:
        if num_candidates is not None or num_trials is not None:
            raise ConfigValueError(
                f"num_candidates and num_trials are invalid: got {num_candidates} and {num_trials}, expected None "
                f"beside auto={auto!r}, which decides them; give auto=None, or leave them out"
            )
        candidates, val_size = AUTO[auto]
        trials = trials_for(candidates, predictors, zero_shot=zero_shot)
        val_count = min(val_size, val_count)
        minibatch = val_count > SMALL
        instructions = candidates if zero_shot else candidates // 2
    else:
        if num_candidates is None:
            raise ConfigValueError(
                "num_candidates is invalid: got None, expected a whole number of at least 1 with auto=None"
            )
        if num_trials is None:
            good = trials_for(num_candidates, predictors, zero_shot=zero_shot)
            raise ConfigValueError(
                f"num_trials is invalid: got None, expected a whole number from 1 with auto=None; for "
                f"num_candidates={num_candidates} about {good}"
            )
        candidates = instructions = num_candidates
        trials, val_size = num_trials, None
    if minibatch and minibatch_size > val_count:
        raise ConfigValueError(
            f"minibatch_size is invalid: got {minibatch_size}, expected at most the {val_count} examples of the valset"
        )
    return Plan(trials, instructions, candidates, val_size, minibatch_size if minibatch else None, full_every)


def split_at(count: int) -> int:
    """Return how many examples of a trainset stay for bootstraps where there is no valset.

    Raises:
        ConfigError: it is too small to be split.
    """
    if count < 2:
        raise ConfigValueError(f"trainset: expected at least 2 examples where there is no valset, got {count}")
    return count - min(VAL_MOST, max(1, int(count * VAL_SHARE)))
