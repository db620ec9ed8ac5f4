"""The sets of demos to choose from: DSPy's `create_n_fewshot_demo_sets`, all sets made at once."""

from __future__ import annotations

import random
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from dspex_actors.example import Example
from dspex_actors.programs.module import Module
from dspex_actors.teleprompt.bootstrap import BootstrapFewShot
from dspex_actors.teleprompt.labeled import LabeledFewShot
from dspex_actors.teleprompt.steps import Together

#: The sets that are not drawn: without demos, with labelled ones only, bootstrapped from the trainset as it is.
ZERO_SHOT, LABELED, UNSHUFFLED = -3, -2, -1


@dataclass(frozen=True, slots=True)
class _Drawn:
    seed: int
    examples: list[Example]
    bootstrapped: int


class DemoSets:
    """Sets of demos of one program.

    Args:
        rng: shuffles the trainset for each set that is not one of the first three, and says how many demos it has.
        examples: the trainset.
        count: how many sets.
        bootstrap: its settings are those of every bootstrap; `max_bootstrapped_demos` is what one has at most.
        spare: so many examples may be tried in vain, by all bootstraps together, besides 5 % of the others.
    """

    def __init__(
        self, rng: random.Random, examples: list[Example], count: int, bootstrap: BootstrapFewShot, spare: int = 0
    ) -> None:
        """Draw."""
        self._examples, self._settings = examples, bootstrap
        most, self._drawn = bootstrap.max_bootstrapped_demos, []
        for seed in range(ZERO_SHOT, count + ZERO_SHOT):
            drawn, size = list(examples), most
            if seed > UNSHUFFLED or (seed == LABELED and not bootstrap.max_labeled_demos):
                rng.shuffle(drawn)
                # Without bootstrapped ones the sets differ by what is labelled; DSPy cannot do that.
                size = rng.randint(1, most) if most else 0
            self._drawn.append(_Drawn(seed, drawn, size))
        self._spare = spare // max(1, sum(one.seed > ZERO_SHOT for one in self._drawn))

    def steps(self, student: Module, teacher: Module | None) -> Generator[Any, Any, list[list[list[Any]]]]:
        """Yield the bootstraps, and return predictor's place → sets → demos.

        Args:
            student: the program.
            teacher: who tries the examples; None: the student.
        """
        programs: list[Module] = yield Together([self._one(drawn, student, teacher) for drawn in self._drawn])
        by_program = [[predictor.demos for predictor in program.predictors()] for program in programs]
        return [list(sets) for sets in zip(*by_program, strict=True)]

    def _one(self, drawn: _Drawn, student: Module, teacher: Module | None) -> Generator[Any, Any, Module]:
        settings = self._settings
        if drawn.seed == ZERO_SHOT:
            return student.reset_copy()
        if drawn.seed == LABELED and settings.max_labeled_demos:
            return LabeledFewShot(settings.max_labeled_demos).compile(student, trainset=self._examples)
        bootstrap = BootstrapFewShot(
            settings.metric,
            settings.metric_threshold,
            settings.teacher_settings,
            drawn.bootstrapped,
            settings.max_labeled_demos,
            settings.max_rounds,
            settings.max_errors,
        )
        return (yield from bootstrap.steps(student, drawn.examples, teacher, spare=self._spare))
