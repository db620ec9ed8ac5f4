"""Which candidate can win no more. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: What an example gives at most, and what a mean may be off that is told times 100 with two decimals.
MOST, ROUNDED = 1.0, 0.005 / 100


class Race:
    """Candidates that are scored on the same examples; the best wins, and of equals the one that was named first.

    A metric may give more than 1 for an example: as soon as that is seen nobody is beaten before the end. Who was
    stopped before it was seen stays stopped, so with such a metric it is not sure that the best one wins.
    """

    def __init__(self) -> None:
        """Begin."""
        self._best: tuple[float, tuple[int, ...]] | None = None
        self._is_bounded = True

    def through(self, place: tuple[int, ...], score: float | None, subscores: Sequence[float]) -> None:
        """Take in a candidate that was scored to the end.

        Args:
            place: how early it was named.
            score: the mean of its scores times 100, with two decimals; None: it was stopped.
            subscores: its scores.
        """
        if score is None:
            return
        if any(one > MOST for one in subscores):
            self._is_bounded = False
        if self._best is None or score > self._best[0] or (score == self._best[0] and place < self._best[1]):
            self._best = (score, place)

    def is_lost(self, place: tuple[int, ...], summary: Mapping[str, Any]) -> bool:
        """Tell whether a candidate is beaten, were all its other scores 1.

        Args:
            place: how early it was named.
            summary: of its run: `total`, `done`, and `score`, the mean of those that are done, times 100.
        """
        total, done, score = summary["total"], summary["done"], summary["score"]
        if self._best is None or not self._is_bounded or not total or not done or score is None:
            return False
        if score > 100 * MOST:
            return False
        best, early = self._best
        at_most = round(100 * (done * (score / 100 + ROUNDED) + (total - done) * MOST) / total, 2)
        return bool(at_most <= best if place > early else at_most < best)
