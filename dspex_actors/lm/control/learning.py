"""Learns how fast a provider may be asked that has not said so. Pure: time is a parameter.

The rate grows additively, and is cut once for each period in which the provider has refused (TCP's additive increase
and multiplicative decrease; Chiu and Jain, 1989), with these changes for limits that lie still:

1. The first rate is what the provider admitted just before it began to refuse, less a margin. Until it refuses again
   the rate grows by two fifths each period: it is soon found.
2. A period with refusals shows the limit: what was admitted in it. The rate is cut to a little below that. Then it
   grows slowly to where the limit was, and from there ever faster (CUBIC; Ha, Rhee and Xu, 2008); the more often the
   limit proves to be where it was, the slower.
3. Where a cut changes nothing of the share that is refused, speed is not why: it is not cut any further.
4. Errors and timeouts stop the growth of their period and cut nothing. A rate that nobody uses up does not grow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

#: Seconds of a period: it is judged as a whole, and cut at most once.
PERIOD = 1.0
#: A provider that asks to wait for longer than this counts in longer windows: then they are the periods, up to this.
LONG, LONGEST_PERIOD = 5.0, 300.0
#: Of what was admitted before the first refusals, the first rate is this share; until it is found it grows so much.
FIRST, FINDING = 0.6, 1.4
#: A rate is cut to this share of what was admitted, and at most by half.
BELOW, MOST_CUT = 0.96, 0.5
#: After so many periods it is where the limit was; twice as many each time that it is there, at most the second.
NEAR_PERIODS, MOST_NEAR_PERIODS = 6.0, 48.0
#: A limit that shows again within this factor has not moved.
SAME = 1.06
#: Where more is asked than this part of the rate, it was asked before the rate held: that says nothing of it.
BEFORE = 1.3
#: Refusals of less than this share of a period are luck where the rate is far below the limit.
LUCK = 0.05
#: Cuts to less than this part of the rate have not helped if the share that is refused is still more than that part.
MUCH, HELPED = 0.75, 0.6
#: Where cuts do not help nothing is cut for so many seconds.
BLIND_SECONDS = 30.0
#: The lowest rate there is, in requests per second; the highest is a number, so that it can be written down.
LOWEST, HIGHEST = 1 / 60, 1e6


@dataclass(slots=True)
class _Count:
    answered: int = 0
    refused: int = 0
    failed: int = 0

    @property
    def share(self) -> float:
        """The share that was refused."""
        asked = self.answered + self.refused
        return self.refused / asked if asked else 0.0


class Learner:
    """The rate of one deployment, in requests per second.

    Args:
        rate: to begin with.
        now: monotonic seconds.
        limit: where the provider's limit was seen; None: not yet.
        near: how many periods it takes to come to it again.
        period: seconds of one.
    """

    def __init__(
        self, rate: float, now: float, limit: float | None = None, near: float = NEAR_PERIODS, period: float = PERIOD
    ) -> None:
        """Begin."""
        self._period = min(LONGEST_PERIOD, max(PERIOD, period))
        self.rate = min(HIGHEST, max(LOWEST, rate))
        self.limit = limit
        self._near = min(MOST_NEAR_PERIODS, max(NEAR_PERIODS, near))
        self._count = _Count()
        self._ends = now + self._period
        #: Of the last cuts, with no period without refusals since: the largest share that was refused, and the rate
        #: before the first of them.
        self._cut: tuple[float, float] | None = None
        self._blind_until = -math.inf
        #: How many periods it has grown since the last cut.
        self._grown = 0
        #: Requests that were sent before a cut are refused after it: a period says nothing of a rate that is so new.
        self._is_settling = False

    @classmethod
    def first(cls, admitted: float, seconds: float, retry_after: float | None, now: float) -> Learner:
        """Return a learner for a provider that has begun to refuse.

        Args:
            admitted: requests that it had admitted before, ...
            seconds: within so many; at least a second.
            retry_after: seconds that it asks to wait: its window is over then.
            now: monotonic seconds.
        """
        span = max(PERIOD, seconds) + min(retry_after or 0.0, 3600.0)
        rate = max(admitted, 1.0) / span
        # A long window shows only when it is over: its limit is what was admitted in it.
        learner = cls(BELOW * rate, now, rate, period=span) if span > LONG else cls(FIRST * rate, now)
        learner._is_settling = True
        return learner

    @classmethod
    def from_dict(cls, data: dict[str, Any], now: float) -> Learner:
        """Return a learner that goes on from what another one has learnt.

        Raises:
            LookupError, TypeError, ValueError: it is no such data.
        """
        rate, limit, near = float(data["rate"]), data.get("limit"), float(data.get("near", NEAR_PERIODS))
        period = float(data.get("period", PERIOD))
        if not (math.isfinite(rate) and rate > 0 and math.isfinite(near) and math.isfinite(period)):
            raise ValueError("rate")
        if limit is None:
            return cls(rate, now, period=period)
        limit = float(limit)
        if not (math.isfinite(limit) and limit > 0):
            raise ValueError("limit")
        return cls(min(rate, BELOW * limit), now, limit, near, period)

    def to_dict(self) -> dict[str, Any]:
        """Return what was learnt, as plain data."""
        return {"rate": self.rate, "limit": self.limit, "near": self._near, "period": self._period}

    def count(self, answered: int, refused: int, failed: int) -> None:
        """Take in how requests have ended since the last time.

        Args:
            answered: the provider has taken them on.
            refused: it said that they came too fast.
            failed: 5xx and timeouts.
        """
        self._count.answered += answered
        self._count.refused += refused
        self._count.failed += failed

    def tick(self, now: float, *, is_used_up: bool) -> bool:
        """Judge the period if it is over; return whether the rate has changed.

        Args:
            now: monotonic seconds.
            is_used_up: whether somebody had to wait for the rate.
        """
        if now < self._ends:
            return False
        # At a low rate a second sees hardly a request: a period has at least a few of them.
        seconds = max(now - self._ends + self._period, 1e-3)
        count = self._count
        if count.answered + count.refused < 4 and count.refused == 0 and seconds < 4 / self.rate:
            return False
        self._count, self._ends = _Count(), now + self._period
        before = self.rate
        if self._is_settling and count.refused:
            self._is_settling = False
            return False
        self._is_settling = False
        if count.refused and (count.answered + count.refused) / seconds > BEFORE * self.rate + 2:
            return False
        if count.refused:
            self._refused(count, seconds, now)
        elif not count.failed and count.answered and is_used_up:
            self._grow()
        self.rate = min(HIGHEST, max(LOWEST, self.rate))
        return self.rate != before

    def _refused(self, count: _Count, seconds: float, now: float) -> None:
        share = count.share
        first = self._cut
        if first is not None and share > HELPED * first[0] and self.rate < MUCH * first[1] and share < MOST_CUT:
            # It was cut far, and as many are refused as before: they are not refused for their speed.
            self.rate, self._cut = first[1], None
            self._blind_until = now + BLIND_SECONDS
            return
        if now < self._blind_until and share < MOST_CUT:
            return
        if not count.answered:
            # All of a long window is used up: that says when to stop, and nothing of the rate.
            self.limit = self.limit or self.rate
            self.rate *= MOST_CUT
            self._grown, self._is_settling = 0, True
            return
        admitted = count.answered / seconds
        is_far = self.limit is not None and self.rate < 0.8 * self.limit
        if is_far and share < LUCK:
            return
        self._cut = (share, self.rate) if first is None else (max(share, first[0]), first[1])
        # Of a rate that was not used up in this period less was admitted than might have been.
        seen = min(self.rate, max(admitted, self.rate * (1 - share)))
        is_same = self.limit is not None and self.limit / SAME <= seen <= self.limit * SAME
        self._near = min(MOST_NEAR_PERIODS, 2 * self._near) if is_same else NEAR_PERIODS
        self.limit = seen
        self.rate = max(MOST_CUT * self.rate, BELOW * seen)
        self._grown = 0
        self._is_settling = share > 0.2

    def _grow(self) -> None:
        self._cut = None
        if self.limit is None:
            self.rate *= FINDING
            return
        self._grown += 1
        at = self._grown / self._near - 1
        self.rate = max(self.rate, self.limit * (1 + (1 - BELOW) * at**3))
