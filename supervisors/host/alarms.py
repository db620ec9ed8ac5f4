"""Alarms to come, the next one first. Pure: time is a parameter, and whoever has them asks for what is due."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

#: Alarms that mean nothing any more are cleared away when there are so many, beside two for each that did at last.
SWEEP_AT = 256

What = TypeVar("What")


class Alarms(Generic[What]):
    """A heap of alarms. None is ever taken back: one that means nothing any more is passed over when its time comes.

    Args:
        matters: told the time of an alarm and what it is about; whether it still means something.
    """

    def __init__(self, matters: Callable[[float, What], bool]) -> None:
        """Have none."""
        self._matters = matters
        self._heap: list[tuple[float, int, What]] = []
        self._ids = itertools.count()
        self._sweep_at = SWEEP_AT

    def __len__(self) -> int:
        """Return how many there are, those without meaning too."""
        return len(self._heap)

    def set(self, at: float, what: What) -> None:
        """Add an alarm for a point in time, in seconds of the clock of `due`. Equal times keep the order of `set`."""
        if len(self._heap) >= self._sweep_at:
            self._heap = [alarm for alarm in self._heap if self._matters(alarm[0], alarm[2])]
            heapq.heapify(self._heap)
            self._sweep_at = SWEEP_AT + 2 * len(self._heap)
        heapq.heappush(self._heap, (at, next(self._ids), what))

    def next_at(self) -> float | None:
        """Return when the next alarm that means something is due; None: there is none."""
        while self._heap and not self._matters(self._heap[0][0], self._heap[0][2]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> Iterator[What]:
        """Take out what is due at `now`, one after the other: what is done about one may make the next meaningless."""
        while self._heap and self._heap[0][0] <= now:
            at, _, what = heapq.heappop(self._heap)
            if self._matters(at, what):
                yield what
