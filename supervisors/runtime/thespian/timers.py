"""A supervisor's timers, over Thespian's wakeups."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from supervisors.host.alarms import Alarms
from supervisors.supervisor.events import Tick

NEVER = float("inf")
#: An actor is woken at least this often while it has timers, in seconds: a timedelta holds no more than some years.
MAX_WAIT = 86_400.0
#: A wakeup may come this much before its time, in seconds.
EARLY_SECONDS = 0.001


class Timers:
    """Ticks to come, the next one first.

    Args:
        wake_up: has Thespian wake the actor after a time, with a payload. It cannot be taken back.
        wanted: whether a tick still means something.
    """

    def __init__(self, wake_up: Callable[[timedelta, float], object], wanted: Callable[[Tick], bool]) -> None:
        """Set none."""
        self._wake_up = wake_up
        self._alarms: Alarms[Tick] = Alarms(lambda at, tick: wanted(tick))
        self._next_wake = NEVER

    def set(self, seconds: float, tick: Tick) -> None:
        """Have a tick come up after so many seconds."""
        self._alarms.set(time.monotonic() + seconds, tick)
        self._wake_for_next()

    def due(self, payload: float) -> list[Tick]:
        """Return the ticks whose time has come, when a wakeup with this payload has."""
        if payload != self._next_wake:
            return []  # an earlier timer was set meanwhile, and this one anew
        self._next_wake = NEVER
        ready = list(self._alarms.due(time.monotonic() + EARLY_SECONDS))
        self._wake_for_next()
        return ready

    def _wake_for_next(self) -> None:
        at = self._alarms.next_at()
        if at is not None and at < self._next_wake:
            self._next_wake = at
            self._wake_up(timedelta(seconds=min(max(0.0, at - time.monotonic()), MAX_WAIT)), at)
