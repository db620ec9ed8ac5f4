"""The programs of a SIMBA with what they scored, and the draws among them. Pure; numpy is loaded where it is used."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dspex_actors.programs.module import Module

#: How many demos a program is taken to hold where none are wanted, for how many of them go.
HELD = 3


@dataclass(slots=True)
class Pool:
    """All programs so far; the first is the program as it was.

    Args:
        programs: by number.
        scores: of each, on the batches that it was scored on; empty: it counts as 0.
    """

    programs: list[Module]
    scores: list[list[float]] = field(default_factory=lambda: [[]])

    def add(self, program: Module, scores: list[float]) -> None:
        """Take in a program with its scores."""
        self.programs.append(program)
        self.scores.append(scores)

    def mean(self, number: int) -> float:
        """Return a program's mean score; without any it is 0."""
        scores = self.scores[number]
        return sum(scores) / len(scores) if scores else 0.0

    def top(self, count: int) -> list[int]:
        """Return the numbers of the best, the first program always among them."""
        best = sorted(range(len(self.programs)), key=self.mean, reverse=True)[:count]
        if best and 0 not in best:
            best[-1] = 0
        return best

    def draw(self, rng: random.Random, numbers: Sequence[int], temperature: float) -> int:
        """Draw one of the programs, the better the likelier (softmax of their means)."""
        import numpy

        with numpy.errstate(over="ignore", invalid="ignore"):
            weights = [numpy.exp(self.mean(number) / temperature) for number in numbers]
            total = sum(weights)
        if not numpy.isfinite(total):
            # Scores far above 1: the same weights, told so that they are finite.
            most = max(map(self.mean, numbers))
            weights = [numpy.exp((self.mean(number) - most) / temperature) for number in numbers]
            total = sum(weights)
        if total <= 0:
            return rng.choice(list(numbers))
        return rng.choices(list(numbers), weights=[weight / total for weight in weights], k=1)[0]


def drop_demos(program: Module, most: int, rng: random.Random, chance: Any) -> int:
    """Take demos, drawn at random, out of a program: more the more it has. Return how many were drawn.

    Args:
        program: loses the same places in every predictor.
        most: how many demos a predictor may hold; 0: none are wanted.
        rng: draws which.
        chance: a generator of numpy's, draws how many.
    """
    most = most or HELD
    predictors = program.predictors()
    count = max((len(predictor.demos) for predictor in predictors), default=0)
    drawn = min(max(int(chance.poisson(count / most)), int(count >= most)), count)
    gone = {rng.randrange(count) for _ in range(drawn)}
    for predictor in predictors:
        predictor.demos = [demo for place, demo in enumerate(predictor.demos) if place not in gone]
    return drawn


def spread(last: int, count: int) -> list[int]:
    """Return so many numbers from 0 to `last`, evenly spread, each once."""
    if last < 1:
        return [0]
    return list(dict.fromkeys(round(number * last / (count - 1)) for number in range(count)))
