"""Limits of calendar days: when a day begins where the provider is, and how much of one is used. Pure.

A clock of the wall can be set, forwards and back, and a day must not be granted twice for it. So a new day begins when
two clocks say so: the wall's has another date, and the one that only grows has gone on for nearly a day since the last
one began.
"""

from __future__ import annotations

import datetime
import functools
import math
from collections.abc import Callable
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

#: wall-clock seconds since the epoch → the number of the day, and the seconds that are left of it.
Day = Callable[[float], tuple[int, float]]
#: Where what is given has to be written down before: that far ahead of it, as a share of the limit, and who has to wait
#: for that asks again after so many seconds.
AHEAD_SHARE, WRITE_SECONDS = 0.02, 0.3
#: The shortest day there is, where clocks are put forward, less a minute for clocks that are a little wrong.
SHORTEST = 23 * 3600.0 - 60.0
_DAY = 86_400.0


def utc(wall: float) -> tuple[int, float]:
    """Return the day of UTC."""
    number = math.floor(wall / _DAY)
    return number, (number + 1) * _DAY - wall


def day_of(zone: str) -> Day | None:
    """Return the days of a time zone; None where this host does not know it."""
    if zone == "UTC":
        return utc
    try:
        return functools.partial(_day, ZoneInfo(zone))
    except (ZoneInfoNotFoundError, OSError, ValueError):
        return None


def _day(zone: datetime.tzinfo, wall: float) -> tuple[int, float]:
    there = datetime.datetime.fromtimestamp(wall, zone)
    tomorrow = datetime.datetime.combine(there.date() + datetime.timedelta(days=1), datetime.time(), there.tzinfo)
    return there.date().toordinal(), tomorrow.timestamp() - wall


class Days:
    """How much of a provider's day is used.

    Args:
        limit: of each day.
        day: when days begin.
    """

    __slots__ = ("_begun_at", "_day", "_left", "_number", "_read_at", "_written", "limit", "used")

    def __init__(self, limit: float, day: Day) -> None:
        """Begin before any day."""
        self.limit, self._day = limit, day
        self.used = 0.0
        self._number: int | None = None
        # When this day began, by the clock that only grows.
        self._begun_at = -math.inf
        self._read_at, self._left = 0.0, _DAY
        # Up to what may be given of this day: so much is written down.
        self._written = math.inf

    def clock(self, now: float, wall: float) -> None:
        """Take note of what both clocks say."""
        number, left = self._day(wall)
        begun_at = now + left - _DAY
        if self._number is None:
            self._number, self._begun_at = number, begun_at
        elif number > self._number and now - self._begun_at >= SHORTEST:
            self._number, self.used = number, 0.0
            self._written = math.inf if self._written == math.inf else 0.0
            self._begun_at = max(begun_at, self._begun_at + SHORTEST)
        self._read_at, self._left = now, left

    def earliest(self, amount: float, now: float) -> float | None:
        """Return `now` if so much fits today, else when the next day begins; infinite if it never fits.

        Where it fits, and has to be written down first: a little later.
        """
        if amount > self.limit * (1 + 1e-9):
            return math.inf
        if self.used + amount <= self.limit * (1 + 1e-9):
            return now if self.used + amount <= self._written + 1e-6 else now + WRITE_SECONDS
        return self.next_at(now)

    def next_at(self, now: float) -> float:
        """Return when the next day begins, as far as both clocks can tell."""
        return max(now, self._read_at + self._left, self._begun_at + SHORTEST)

    def take(self, amount: float, at: float) -> None:
        """Use so much."""
        self.used += amount

    def give_back(self, amount: float, at: float, now: float) -> None:
        """Return so much, if it was taken today; a negative amount was used beyond what was taken."""
        if amount < 0 or at >= self._begun_at:
            self.used = max(0.0, self.used - amount)

    def move(self, amount: float, at: float, to: float) -> None:
        """It does not matter when, within a day."""

    def free(self, now: float) -> float:
        """Return how much is left of the day."""
        return max(0.0, self.limit - self.used)

    def correct(self, remaining: float, seconds: float, now: float) -> None:
        """Take note that only so much is left; that there is more is not heard."""
        self.used = max(self.used, self.limit - max(0.0, remaining))

    def is_idle(self, now: float) -> bool:
        """Tell whether nothing of the day is used."""
        return not self.used

    def kept(self) -> Any:
        """Return it as plain data."""
        return None if self._number is None else [self._number, self.used, self._begun_at]

    def restore(self, kept: Any) -> None:
        """Take over what another one has kept."""
        if kept is None:
            return
        number, used, begun_at = kept
        if number == self._number:
            self.used += used
        elif self._number is None or number > self._number:
            self._number, self.used, self._begun_at = number, used, begun_at

    # --- in a cluster what is given is written down before, for whoever follows an owner that dies ------------------

    def bound(self, written: Any) -> None:
        """Give nothing beyond what is written down.

        Args:
            written: as `to_write` returns it, of this day or an earlier one; None: nothing is.
        """
        number, amount, _ = written or (None, 0.0, 0.0)
        self._written = amount if number is not None and number == self._number else 0.0

    def unbound(self) -> None:
        """Give without anything written down."""
        self._written = math.inf

    def at_least(self, written: Any) -> None:
        """Take all to be used that another owner has written down: nobody knows what it gave of it."""
        number, amount, begun_at = written
        if self._number is None or number > self._number:
            self._number, self.used, self._begun_at = number, amount, begun_at
        elif number == self._number:
            self.used = max(self.used, amount)

    def to_write(self, wanted: float) -> Any:
        """Return what is to be written down before more is given: day, amount, when the day began; None: enough is.

        Args:
            wanted: what those who wait want.
        """
        if self._number is None or self._written == math.inf:
            return None
        share = max(1.0, AHEAD_SHARE * self.limit)
        if self._written + 1e-6 >= min(self.limit, self.used + max(wanted, share / 2)):
            return None
        return [self._number, min(self.limit, self.used + wanted + share), self._begun_at]
