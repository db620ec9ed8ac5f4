"""LabeledFewShot: examples as they are become demos. No LM call."""

from __future__ import annotations

import random
from typing import Any, Unpack

from dspex_actors.foundation.checks import whole
from dspex_actors.teleprompt.optimizer import Optimizer, Options, Program, check_options
from dspex_actors.teleprompt.trainset import check_student, read_trainset


class LabeledFewShot(Optimizer):
    """Give every predictor some labelled examples as its demos.

    The algorithm is DSPy's `LabeledFewShot` (Khattab et al. 2023, "DSPy: Compiling Declarative Language Model
    Calls into Self-Improving Pipelines"): one generator seeded with 0 draws `k` examples per predictor, so
    predictors get different ones, and the same ones each time.

    Args:
        k: demos per predictor; a smaller trainset is used whole.
    """

    needs_metric = needs_inputs = False

    def __init__(self, k: int = 16) -> None:
        """Check `k`."""
        self.k = whole("k", k, 0)

    def compile(self, student: Program, *, trainset: Any, sample: bool = True, **options: Unpack[Options]) -> Program:
        """Return a copy of the program with demos.

        Args:
            student: the program; it stays as it is. The copy has no LM of its own.
            trainset: Examples, or a path to JSONL or CSV.
            sample: draw at random; False takes the first `k`.
            **options: taken as other optimisers take them; nothing is asked, so none of them matters.

        Raises:
            ConfigError: program or trainset are not usable.
        """
        check_options(options)
        check_student(student)
        program = student.reset_copy()
        examples = read_trainset(trainset, program)
        rng = random.Random(0)  # noqa: S311 - has to be repeatable, not secret
        size = min(self.k, len(examples))
        for predictor in program.predictors():
            predictor.demos = rng.sample(examples, size) if sample else examples[:size]
        return program

    def expected(self, student: Any, trainset: int | None = None, valset: int | None = None, **arguments: Any) -> int:
        """Return how many candidates there are: in a node its result counts as one."""
        return 1
