"""Before anything is known of a provider's limits: requests begin spread out, and refusals are noticed. Pure.

Hundreds of requests at once would tell what the limit is, and all beyond it would be asked in vain. Spread over
the time that one answer takes, ever faster, the first refusals come back before many have gone.
A provider without limits is at full speed after about one answer's time.
"""

from __future__ import annotations

import math
from collections import deque

#: In the time that an answer takes, and at most in so many seconds, requests that may begin grow by this factor.
FACTOR, LONGEST = 20.0, 1.0
#: After the first refusal nobody begins for so many seconds: others come back, or the client actor knows what to do.
HOLD_SECONDS = 0.3
#: From so many requests on nothing is spread any more.
ENOUGH = 1024
#: So many refusals within the last second are a pattern, if they are more than this share of all answers in it; ...
LEAST, SHARE = 3, 0.12
#: ... or so many of the last ten answers.
OF_LAST_TEN = 6
#: Answers that are looked back at.
KEPT = 512


class Ramp:
    """Spreads the first requests of a session: each may begin a little sooner after the one before it.

    Args:
        is_over: nothing is spread.
    """

    __slots__ = ("_has_held", "_next", "_pace", "_sent", "held_until", "is_over")

    def __init__(self, *, is_over: bool = False) -> None:
        """Begin before the first answer."""
        self._pace: float | None = None
        self._next = -math.inf
        self._sent = 1
        self._has_held = False
        #: Until then nobody begins, monotonic seconds.
        self.held_until = -math.inf
        #: Whether all may begin as they come.
        self.is_over = is_over

    def answered(self, latency: float) -> None:
        """Take in an answer; the first one says how long they take."""
        if self._pace is None:
            self._pace = min(max(latency, 1e-3), LONGEST) / math.log(FACTOR)

    def refused(self, now: float) -> None:
        """Take in a refusal: the first one holds up all who have not begun."""
        if not self._has_held and not self.is_over:
            self._has_held = True
            self.held_until = self._next = now + HOLD_SECONDS
            self._sent = max(1, self._sent // 4)

    def wait(self, now: float) -> float:
        """Return the seconds until the next request may begin, which counts as begun."""
        if self._pace is None:
            return 0.0
        at = max(now, self._next)
        self._next = at + self._pace / self._sent
        self._sent += 1
        self.is_over = self._sent > ENOUGH
        return at - now


class Noticed:
    """Answers and refusals of the last time: whether refusals are a pattern, and how much was admitted."""

    __slots__ = ("_answered", "_last_ten", "_refused")

    def __init__(self) -> None:
        """Begin with none."""
        self._answered: deque[float] = deque(maxlen=KEPT)
        self._refused: deque[float] = deque(maxlen=KEPT)
        self._last_ten: deque[bool] = deque(maxlen=10)

    def answered(self, sent: float) -> None:
        """Take note that a request that was sent then was admitted."""
        self._answered.append(sent)
        self._last_ten.append(False)

    def refused(self, now: float) -> bool:
        """Take note of a refusal; return whether it is one of many."""
        self._refused.append(now)
        self._last_ten.append(True)
        refused = sum(1 for at in self._refused if at > now - 1.0)
        if refused < LEAST:
            return False
        return refused > SHARE * (self.admitted(now) + refused) or sum(self._last_ten) >= OF_LAST_TEN

    def admitted(self, now: float) -> int:
        """Return how many of those that were sent in the last second were answered."""
        return sum(1 for at in self._answered if at > now - 1.0)
