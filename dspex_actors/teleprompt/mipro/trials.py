"""Which combination is tried next: Optuna's TPE by ask and tell. The study is in memory only.

An optimisation that goes on makes a new study and tells it the same again: its choices are the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

#: So many trials are drawn at random, whatever has been scored (DSPy has Optuna's number).
AT_RANDOM = 10


class Asked(NamedTuple):
    """A trial under way: its number, and the place of the choice for each parameter."""

    number: int
    choices: dict[str, int]


class Trials:
    """A study of categorical parameters, the larger score the better.

    What is under way counts as bad for who is asked meanwhile (the "constant liar"), so that several trials at once do
    not all try the same.

    Args:
        seed: of its chance.
        sizes: parameter → how many choices it has; in the order in which they are drawn.
    """

    def __init__(self, seed: int, sizes: Mapping[str, int]) -> None:
        """Make the study."""
        import optuna  # half a second, for those who optimise

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._sizes = sizes
        self._make = optuna.trial.create_trial
        self._kinds: dict[str, Any] = {
            name: optuna.distributions.CategoricalDistribution(range(size)) for name, size in sizes.items()
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                seed=seed, multivariate=True, constant_liar=True, n_startup_trials=AT_RANDOM
            )
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._asked: dict[int, Any] = {}
        #: Trials that have a score.
        self.known = 0

    def ask(self) -> Asked:
        """Return the next combination to try."""
        trial = self._study.ask()
        choices = {name: int(trial.suggest_categorical(name, range(size))) for name, size in self._sizes.items()}
        self._asked[trial.number] = trial
        return Asked(trial.number, choices)

    def tell(self, asked: Asked, score: float) -> None:
        """Say what a combination has scored."""
        self._study.tell(self._asked.pop(asked.number), score)
        self.known += 1

    def add(self, choices: Mapping[str, int], score: float) -> int:
        """Say what a combination has scored that was not asked for; return its number."""
        self._study.add_trial(self._make(params=dict(choices), distributions=self._kinds, value=score))
        self.known += 1
        return len(self._study.get_trials(deepcopy=False)) - 1


def drawn_at_random(
    seed: int, sizes: Mapping[str, int], trials: int, is_full_after: Callable[[int], bool]
) -> list[dict[str, int]]:
    """Return the first combinations that a study will ask for: those that are the same whatever has been scored.

    Args:
        seed: of the study.
        sizes: its parameters.
        trials: how many it asks for at most.
        is_full_after: told a trial's number from 1, whether one that was not asked for is added after it.
    """
    study = Trials(seed, sizes)
    study.add(dict.fromkeys(sizes, 0), 0.0)
    found: list[dict[str, int]] = []
    while len(found) < trials and study.known < AT_RANDOM:
        asked = study.ask()
        found.append(asked.choices)
        if is_full_after(len(found)):
            study.add(asked.choices, 0.0)
        study.tell(asked, 0.0)
    return found
