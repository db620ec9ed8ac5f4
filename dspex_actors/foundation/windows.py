"""How much of a bucket is used: within a sliding window, paced evenly, or for good. Pure: time is a parameter.

Algorithm: a log of what was granted, as any sliding window needs, in slots of 1/256 of the window, so that it stays
small; whatever lies in a slot counts until the whole slot has left the window. What is to be paced evenly has beside
it the generic cell rate algorithm (ITU-T I.371), which spreads, and a log of its own for its burst.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

#: Slots of a window. More of them waste less of the limit, 1/256 here, and cost memory.
SLOTS = 256
#: A window is counted longer by this share of it, and at most by so many seconds: requests do not all travel alike.
SLACK_SHARE, SLACK_MOST = 0.025, 1.0
#: Floating-point dust must not refuse what fits exactly.
_DUST = 1e-9
_TRACE = 1e-6


class Used(Protocol):
    """How much of a bucket is used."""

    def earliest(self, amount: float, now: float) -> float | None:
        """Return when so much fits: from `now` on, infinite: never, None: when somebody gives back."""
        ...

    def take(self, amount: float, at: float) -> None:
        """Use so much, from `at` on."""
        ...

    def give_back(self, amount: float, at: float, now: float) -> None:
        """Return so much of what was granted for `at`; a negative amount was used beyond it, now."""
        ...

    def move(self, amount: float, at: float, to: float) -> None:
        """Take note that what was granted for `at` was begun later."""
        ...

    def free(self, now: float) -> float:
        """Return how much is free."""
        ...

    def correct(self, remaining: float, seconds: float, now: float) -> None:
        """Take note that only so much is left for so many seconds."""
        ...

    def is_idle(self, now: float) -> bool:
        """Tell whether nothing of it is in use."""
        ...

    def kept(self) -> Any:
        """Return it as plain data."""
        ...

    def restore(self, kept: Any) -> None:
        """Take over what another one has kept."""
        ...


class Window:
    """What was granted within any window of so many seconds. Grants come in the order of their times.

    Args:
        limit: how much at most.
        seconds: the length, slack included.
    """

    __slots__ = ("_bound", "_bound_ends", "_last", "_log", "_width", "limit", "seconds", "used")

    def __init__(self, limit: float, seconds: float) -> None:
        """Begin empty."""
        self.limit, self.seconds = limit, seconds
        self._width = seconds / SLOTS
        #: Slot → how much of it is used; in order.
        self._log: dict[int, float] = {}
        self._last = -math.inf
        self.used = 0.0
        # What somebody else has used, as the provider says, and until when that counts.
        self._bound, self._bound_ends = 0.0, -math.inf

    def _ends(self, slot: int) -> float:
        """Return when a slot has left the window."""
        return (slot + 1) * self._width + self.seconds

    def _forget(self, now: float) -> None:
        log = self._log
        while log:
            slot = next(iter(log))
            if self._ends(slot) > now:
                return
            self.used -= log.pop(slot)
        self.used = 0.0

    def earliest(self, amount: float, now: float, since: float = -math.inf) -> float | None:
        """Return the first moment, from `now` and `since` on, at which so much fits; infinite if it never does."""
        if amount > self.limit + _DUST * self.limit:
            return math.inf
        self._forget(now)
        at = max(now, since, self._last)
        missing = self.used + amount - self.limit - _DUST * self.limit
        if self._bound_ends > at:
            if missing + self._bound <= 0:
                return at
            at = self._bound_ends
        for slot, used in self._log.items():
            if missing <= 0:
                break
            missing -= used
            at = max(at, self._ends(slot))
        return at

    def take(self, amount: float, at: float) -> None:
        """Use so much, from `at` on."""
        at = self._last = max(at, self._last)
        slot = math.floor(at / self._width)
        self._log[slot] = self._log.get(slot, 0.0) + amount
        self.used += amount

    def give_back(self, amount: float, at: float, now: float) -> None:
        """Return so much of what was granted for `at`; a negative amount was used beyond it, now."""
        if amount < 0:
            self.take(-amount, now)
            return
        slot = math.floor(at / self._width)
        if slot in self._log:
            amount = min(amount, self._log[slot])
            self._log[slot] -= amount
            self.used -= amount

    def move(self, amount: float, at: float, to: float) -> None:
        """Take note that what was granted for `at` was begun later: it leaves the window later, too."""
        slot = math.floor(at / self._width)
        if self._log.get(slot, 0.0) >= amount:
            self._log[slot] -= amount
            self.used -= amount
            self.take(amount, to)

    def free(self, now: float) -> float:
        """Return how much is free."""
        self._forget(now)
        return max(0.0, self.limit - self.used - (self._bound if self._bound_ends > now else 0.0))

    def correct(self, remaining: float, seconds: float, now: float) -> None:
        """Take note that the provider lets only so much through for so many seconds; more than we think is not heard.

        A window with less in it than the provider has counted is not the only one that draws from it.
        """
        self._forget(now)
        seen = self.limit - self.used - remaining
        if self._bound_ends <= now:
            self._bound = 0.0
        if seen > self._bound:
            self._bound, self._bound_ends = seen, now + min(seconds, self.seconds)

    def is_idle(self, now: float) -> bool:
        """Tell whether nothing of it is in use."""
        self._forget(now)
        return not self._log

    def kept(self) -> Any:
        """Return it as plain data."""
        # A slot's end counts: its start would grant part of it twice.
        return [[(slot + 1) * self._width, amount] for slot, amount in self._log.items() if amount > 0]

    def restore(self, kept: Any) -> None:
        """Take over what another one has kept."""
        for at, amount in sorted(kept):
            self.take(amount, at)


class Paced:
    """A window that is used evenly: never more than a burst at once, and what was idle is not made up for.

    Args:
        limit: how much within the window at most.
        seconds: the window's length, slack included.
        burst: so many seconds' worth may go at once.
        now: it begins without a burst: whoever kept it before has perhaps given one a moment ago.
    """

    __slots__ = ("_burst", "_rate", "_short", "_used_up_at", "window")

    def __init__(self, limit: float, seconds: float, burst: float, now: float) -> None:
        """Begin empty, without a burst."""
        self._burst, self._rate = burst, limit / seconds
        self.window = Window(limit, seconds)
        # A burst's worth within a burst's time: whoever finds less in it may go.
        self._short = Window(self._rate * burst, burst)
        self._used_up_at = now + burst

    def earliest(self, amount: float, now: float) -> float | None:
        """Return the first moment, from `now` on, at which so much fits; infinite if it never does."""
        at = self.window.earliest(amount, now, self._used_up_at - self._burst)
        if at is None or at == math.inf:
            return at
        return self._short.earliest(_TRACE * self._short.limit, now, at)

    def take(self, amount: float, at: float) -> None:
        """Use so much, from `at` on."""
        self.window.take(amount, at)
        self._short.take(amount, at)
        self._used_up_at = max(self._used_up_at, at) + amount / self._rate

    def give_back(self, amount: float, at: float, now: float) -> None:
        """Return so much of what was granted for `at`; a negative amount was used beyond it, now."""
        self.window.give_back(amount, at, now)
        # Not in the short one: what has gone out has gone out.
        self._used_up_at = max(self._used_up_at - amount / self._rate, now)

    def move(self, amount: float, at: float, to: float) -> None:
        """Take note that what was granted for `at` was begun later."""
        self.window.move(amount, at, to)

    def free(self, now: float) -> float:
        """Return how much is free."""
        return self.window.free(now)

    def correct(self, remaining: float, seconds: float, now: float) -> None:
        """As `Window.correct`."""
        self.window.correct(remaining, seconds, now)

    def is_idle(self, now: float) -> bool:
        """Tell whether nothing of it is in use."""
        return self.window.is_idle(now)

    def kept(self) -> Any:
        """Return it as plain data."""
        return [self._used_up_at, self.window.kept()]

    def restore(self, kept: Any) -> None:
        """Take over what another one has kept."""
        used_up_at, log = kept
        self._used_up_at = max(self._used_up_at, used_up_at)
        self.window.restore(log)


class Amount:
    """What does not come back with time: places that are taken, money."""

    __slots__ = ("_is_held", "limit", "used")

    def __init__(self, limit: float, *, is_held: bool) -> None:
        """Begin with nothing used."""
        self.limit, self.used, self._is_held = limit, 0.0, is_held

    def earliest(self, amount: float, now: float) -> float | None:
        """Return `now` if so much fits, infinite if it never will, None if it does when somebody gives back."""
        if self.used + amount <= self.limit * (1 + _DUST):
            return now
        return None if self._is_held and amount <= self.limit else math.inf

    def take(self, amount: float, at: float) -> None:
        """Use so much."""
        self.used += amount

    def give_back(self, amount: float, at: float, now: float) -> None:
        """Return so much; a negative amount was used beyond what was taken."""
        self.used = max(0.0, self.used - amount)

    def move(self, amount: float, at: float, to: float) -> None:
        """It does not matter when."""

    def free(self, now: float) -> float:
        """Return how much is free."""
        return max(0.0, self.limit - self.used)

    def correct(self, remaining: float, seconds: float, now: float) -> None:
        """Nobody tells."""

    def is_idle(self, now: float) -> bool:
        """Tell whether nothing of it is in use."""
        return not self.used

    def kept(self) -> Any:
        """Return it as plain data: places go with who has taken them."""
        return 0.0 if self._is_held else self.used

    def restore(self, kept: Any) -> None:
        """Take over what another one has kept."""
        self.used += kept
