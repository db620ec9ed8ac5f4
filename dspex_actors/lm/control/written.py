"""How much of calendar days an owner of limits has written down before it gives it, for whoever follows it. Pure.

An owner that dies cannot say what it gave. Of minutes whoever follows takes all to be used; of a day that would stop
everything. So in a cluster an owner writes down ahead how far it may go, a fiftieth of the limit each time, and gives
nothing beyond; whoever follows takes that to be used. What is written down goes from host to host: when a day began is
told by its age, and by the wall's clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspex_actors.foundation.days import Days

#: Of so many buckets at most: limits of single users and tags beyond that are given without.
MOST_WRITTEN = 500


class Written:
    """What is written down of each bucket.

    Args:
        told: as `next` has returned it, on whatever host; None: nothing was written down.
        now: monotonic seconds here.
        wall: seconds since the epoch.
        as_used: nobody knows what was given of it.
    """

    def __init__(self, told: Mapping[str, list[Any]] | None, now: float, wall: float, *, as_used: bool = False) -> None:
        """Take note of what is written down."""
        #: Bucket → day, amount, when the day began, as `Days.to_write` has it.
        self._days: dict[str, list[Any]] = {}
        self.wrote(told or {}, now, wall)
        self._unknown = set(self._days) if as_used else set()

    def wrote(self, told: Mapping[str, list[Any]], now: float, wall: float) -> None:
        """Take note that this is written down now."""
        for name, (number, amount, age, at) in told.items():
            self._days[name] = [number, amount, now - age - max(0.0, wall - at)]

    def bound(self, name: str, days: Days) -> None:
        """Have a bucket give nothing beyond what is written down of it."""
        if name in self._unknown:
            self._unknown.discard(name)
            days.at_least(self._days[name])
        if name in self._days or len(self._days) < MOST_WRITTEN:
            days.bound(self._days.get(name))
        else:
            days.unbound()

    def next(
        self, days: Mapping[str, Days], wanted: Mapping[str, float], now: float, wall: float
    ) -> dict[str, list[Any]] | None:
        """Return what is to be written down before more can be given; None: enough is.

        Args:
            days: by bucket.
            wanted: bucket → what those who wait want.
            now: monotonic seconds.
            wall: seconds since the epoch.
        """
        more = {name: new for name, one in days.items() if (new := one.to_write(wanted.get(name, 0.0))) is not None}
        if not more:
            return None
        # What no limit asks for at present stays: it may be told again. Days that are over do not; a clock may be late.
        known = {**self._days, **more}
        newest = max(number for number, _, _ in known.values())
        lasting = sorted((name for name, one in known.items() if one[0] >= newest - 1), key=lambda name: ":" in name)
        return {
            name: [number, amount, now - begun_at, wall]
            for name in lasting[:MOST_WRITTEN]
            for number, amount, begun_at in [known[name]]
        }
