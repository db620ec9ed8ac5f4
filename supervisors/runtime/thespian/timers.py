"""A supervisor's timers, over Thespian's wakeups."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable
from datetime import timedelta

from supervisors.supervisor.events import Tick

#: Timers of processes that are gone are cleared away when there are so many, beside a few for each process.
SWEEP_AT = 256
NEVER = float("inf")


class Timers:
    """Ticks to come, the next one first.

    Args:
        wake_up: has Thespian wake the actor after a time, with a payload. It cannot be taken back.
        wanted: whether a tick still means something.
    """

    def __init__(self, wake_up: Callable[[timedelta, float], object], wanted: Callable[[Tick], bool]) -> None:
        """Set none."""
        self._wake_up, self._wanted = wake_up, wanted
        self._heap: list[tuple[float, int, Tick]] = []
        self._ids = itertools.count()
        self._next_wake = NEVER
        self._sweep_at = SWEEP_AT

    def set(self, seconds: float, tick: Tick) -> None:
        """Have a tick come up after so many seconds."""
        if len(self._heap) >= self._sweep_at:
            self._heap = [timer for timer in self._heap if self._wanted(timer[2])]
            heapq.heapify(self._heap)
            self._sweep_at = SWEEP_AT + 2 * len(self._heap)
        heapq.heappush(self._heap, (time.monotonic() + seconds, next(self._ids), tick))
        self._wake_for_next()

    def due(self, payload: float) -> list[Tick]:
        """Return the ticks whose time has come, when a wakeup with this payload has."""
        if payload != self._next_wake:
            return []  # an earlier timer was set meanwhile, and this one anew
        self._next_wake = NEVER
        ready = []
        now = time.monotonic()
        while self._heap and self._heap[0][0] <= now + 0.001:
            ready.append(heapq.heappop(self._heap)[2])
        self._wake_for_next()
        return ready

    def _wake_for_next(self) -> None:
        if self._heap and self._heap[0][0] < self._next_wake:
            self._next_wake = self._heap[0][0]
            self._wake_up(timedelta(seconds=max(0.0, self._next_wake - time.monotonic())), self._next_wake)
