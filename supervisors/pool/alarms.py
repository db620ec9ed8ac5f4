"""The alarms of a pool: what is due when. Pure."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator
from typing import Any

#: (when, number, what, about whom)
Alarm = tuple[float, int, str, Any]

#: Alarms that ring for nothing are cleared away when there are so many beyond those that count.
SWEEP_AT = 256


class Alarms:
    """Alarms in the order in which they are due; one that does not matter any more is left out.

    Args:
        matters: `matters(at, what, about)`, whether an alarm still means anything.
    """

    def __init__(self, matters: Callable[[float, str, Any], bool]) -> None:
        """Begin with none."""
        self._matters = matters
        self._heap: list[Alarm] = []
        self._ids = itertools.count()

    def __len__(self) -> int:
        """Return how many are kept, those that ring for nothing included."""
        return len(self._heap)

    def set(self, at: float, what: str, about: Any, count: int) -> None:
        """Have an alarm ring at `at`; `count`: how many can matter at the same time."""
        if len(self._heap) > SWEEP_AT + count:
            self._heap = [alarm for alarm in self._heap if self._is_live(alarm)]
            heapq.heapify(self._heap)
        heapq.heappush(self._heap, (at, next(self._ids), what, about))

    def next_at(self) -> float | None:
        """Return when the next one is due."""
        while self._heap and not self._is_live(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> Iterator[tuple[str, Any]]:
        """Go through what is due, while others may be set."""
        while self._heap and self._heap[0][0] <= now:
            alarm = heapq.heappop(self._heap)
            if self._is_live(alarm):
                yield alarm[2], alarm[3]

    def _is_live(self, alarm: Alarm) -> bool:
        at, _, what, about = alarm
        return self._matters(at, what, about)
