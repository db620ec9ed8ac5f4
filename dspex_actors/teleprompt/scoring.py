"""What programs have scored on examples, so that an optimiser asks for nothing twice."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

from dspex_actors.errors import RunFailed
from dspex_actors.example import Example
from dspex_actors.programs.module import Module
from dspex_actors.runs.identity.parts import program_identity
from dspex_actors.teleprompt.steps import Evaluate, Scored, Together


def score_of(subscores: Sequence[float]) -> float:
    """Return the mean times 100 with two decimals, as evaluations tell it."""
    return round(100 * sum(subscores) / len(subscores), 2)


class Scores:
    """The scores of programs on the examples of one set.

    An example that a program has been scored on is not asked for again: an optimiser that scores programs on small
    batches, and the promising ones on all, pays for each example once. Programs are the same when they are made of the
    same: two candidates with equal instructions and demos are one. (DSPy's cache of answers comes to the same.)

    Args:
        examples: the set.
        metric: `metric(example, prediction, trace=None)`.
        lm: for predictors that have none; None: the one of the optimisation.
    """

    def __init__(self, examples: Sequence[Example], metric: Callable[..., Any], lm: Any = None) -> None:
        """Nothing is known."""
        self.examples, self._metric, self._lm = examples, metric, lm
        self._known: dict[str, dict[int, float]] = {}
        #: How many examples were asked for, all programs together.
        self.asked = 0

    def of(
        self, wanted: Sequence[tuple[Module, Sequence[int]]], *, may_fail: bool = True
    ) -> Generator[Any, Any, list[list[float]]]:
        """Yield what is still to evaluate, at once, and return what each program scores on each of its examples.

        Args:
            wanted: programs, each with the numbers of examples.
            may_fail: one whose run ends without a result (no example of it can be answered) scores 0, as in DSPy;
                False: that is an error.

        Raises:
            RunFailed: a run ended without a result, and it must not.
        """
        digests = [program_identity(program).digest for program, _ in wanted]
        missing: dict[str, tuple[Module, list[int]]] = {}
        for digest, (program, numbers) in zip(digests, wanted, strict=True):
            known, (_, asked) = self._known.setdefault(digest, {}), missing.setdefault(digest, (program, []))
            there = {*known, *asked}
            asked.extend(number for number in dict.fromkeys(numbers) if number not in there)
        asked_for = {digest: pair for digest, pair in missing.items() if pair[1]}
        if asked_for:
            yield Together(
                [self._evaluate(digest, *pair, may_fail=may_fail) for digest, pair in asked_for.items()],
            )
        return [
            [self._known[digest].get(number, 0.0) for number in numbers]
            for digest, (_, numbers) in zip(digests, wanted, strict=True)
        ]

    def _evaluate(
        self, digest: str, program: Module, numbers: list[int], *, may_fail: bool
    ) -> Generator[Any, Any, None]:
        self.asked += len(numbers)
        try:
            scored: Scored = yield Evaluate(
                program, [self.examples[number] for number in numbers], self._metric, lm=self._lm
            )
        except RunFailed:
            if not may_fail:
                raise
        else:
            self._known[digest].update(zip(numbers, scored.subscores, strict=True))
