"""Leases that a worker keeps for the requests that come next, where limits are far away. Pure: time is a parameter."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from dspex_actors.lm.control.budget import COUNTED, units_of
from dspex_actors.lm.control.messages import Ask
from dspex_actors.lm.deployment import Limits

#: They are good for so many seconds; there are at most so many.
SPARE_SECONDS, MOST_SPARES = 0.25, 256
#: The same where limits are far away: they let as many through in this share of a second. Then more are fetched as soon
#: as only that share of them is left, and what is left stays.
FAR_SECONDS, FAR_MOST, FAR_SHARE, LOW_SHARE = 1.0, 512, 1 / 16, 1 / 4


class _Spare(NamedTuple):
    """One lease: since when and until when it is good, and for how many tokens."""

    lease: int
    since: float
    end: float
    tokens_in: int
    tokens_out: int


class Spares:
    """What a worker has of them, and how many requests have come since they were asked for."""

    def __init__(self) -> None:
        """Begin with none."""
        self._spares: deque[_Spare] = deque()
        self._over: list[int] = []
        #: As what they were asked for last, whether limits were far away then, and how many are few.
        self._ask: Ask = (0, 0, 0, 0.0, None, None)
        self._is_far, self._low = False, -1
        #: Turns that were wanted since they were asked for, and the largest request among them; and in the time before.
        self._wanted, self._before, self._largest = 0, 0, (0, 0)

    def want(self, tokens_in: int, tokens_out: int) -> None:
        """Take note of a request."""
        self._wanted += 1
        most_in, most_out = self._largest
        if tokens_in > most_in or tokens_out > most_out:
            self._largest = max(most_in, tokens_in), max(most_out, tokens_out)

    def wanted(self, limits: Limits, now: float, *, is_learnt: bool = False) -> tuple[Ask | None, int, list[int]]:
        """Return as what, and how many, are to be asked for, and those that go back; it begins to count anew.

        Args:
            limits: that hold here.
            now: monotonic seconds.
            is_learnt: a rate that nobody told holds, too: how far away it is nobody knows.
        """
        wanted, self._wanted = self._wanted, 0
        before, self._before = self._before, wanted
        (tokens_in, tokens_out), self._largest = self._largest, (0, 0)
        self._low = -1
        # They may come in waves, and this may be in the middle of one.
        count = min(FAR_MOST, wanted + before)
        self._is_far = is_far(limits, count, tokens_in, tokens_out)
        if not self._is_far:
            count = min(MOST_SPARES, wanted)
        # A window of a second knows no leases that are kept: they would be used in another second.
        if is_learnt or limits.rps is not None or count < 2:
            return None, 0, self.given_up()
        self._ask = (0, tokens_in, tokens_out, 0.0, None, None)
        back = self.over(now) if self._is_far else self.given_up()
        return self._ask, max(0, count - len(self._spares)), back

    def fill(self, leases: Sequence[int], asked_at: float, now: float, late: float) -> None:
        """Take in what came.

        Args:
            leases: their numbers.
            asked_at: when they were asked for.
            now: when they came.
            late: by how many seconds a request may be late for its turn.
        """
        end = asked_at + min(FAR_SECONDS if self._is_far else SPARE_SECONDS, late)
        _, tokens_in, tokens_out, *_ = self._ask
        self._spares.extend(_Spare(lease, now, end, tokens_in, tokens_out) for lease in leases)
        self._low = int(len(self._spares) * LOW_SHARE) if self._is_far and leases else -1

    def take(self, tokens_in: int, tokens_out: int, now: float) -> tuple[int, float] | None:
        """Return one for a request, and how old it is; None: there is none that is good for it."""
        spares = self._spares
        while spares:
            lease, since, end, most_in, most_out = spares[0]
            if now <= end and (tokens_in > most_in or tokens_out > most_out):
                return None
            spares.popleft()
            if now <= end:
                return lease, now - since
            self._over.append(lease)
        return None

    @property
    def run_low(self) -> bool:
        """Whether more should be fetched, before somebody has to wait."""
        return len(self._spares) <= self._low

    @property
    def end(self) -> float:
        """When the oldest is over; infinite: there is none."""
        return self._spares[0].end if self._spares else math.inf

    def over(self, now: float) -> list[int]:
        """Take out those that are good no longer: they go back."""
        spares, found, self._over = self._spares, self._over, []
        while spares and now > spares[0].end:
            found.append(spares.popleft().lease)
        return found

    def given_up(self) -> list[int]:
        """Take out all that nobody has taken: they go back."""
        left, self._over = [*self._over, *(spare.lease for spare in self._spares)], []
        self._spares.clear()
        self._low = -1
        return left


def is_far(limits: Limits, count: int, tokens_in: int, tokens_out: int) -> bool:
    """Tell whether so many requests of a size are little beside what all limits let through."""
    units = units_of(count, count * tokens_in, count * tokens_out)
    for name, (what, seconds) in COUNTED.items():
        limit = getattr(limits, name)
        if limit is not None and units[what] > FAR_SHARE * limit / seconds:
            return False
    return True
