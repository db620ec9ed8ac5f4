"""Decides whether and when a failed request is made again. Pure: no clock, no sleep, no network."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

from dspex_actors.errors import (
    CircuitOpen,
    ContextWindowExceeded,
    DeadlineExceeded,
    LMError,
    Overloaded,
    RateLimited,
    StreamTruncated,
    Timeout,
)

#: First backoff's upper bound, and the highest one; seconds.
BASE = 0.5
CAP = 30.0
#: Widest spread of those who return from a wait that the provider asked for; seconds.
WIDEST = 8.0

#: Failed requests of a call at most, by what failed. A limit on speed is no failure: it is waited for as long as the
#: call may.
ATTEMPTS: dict[type[LMError], int | None] = {
    RateLimited: None,
    Overloaded: 6,
    StreamTruncated: 4,
    Timeout: 3,
}


@dataclass(frozen=True, slots=True)
class Retry:
    """Ask again after `delay` seconds."""

    delay: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Do not ask again; `error` is what the caller gets."""

    error: LMError


def kind_of(error: LMError) -> type[LMError]:
    """Return the kind of failure that `ATTEMPTS` counts an error as."""
    return next((cls for cls in ATTEMPTS if isinstance(error, cls)), Overloaded)


def is_retryable(error: LMError) -> bool:
    """Tell whether the same request may succeed later: by what the error says, else by its type."""
    if isinstance(error, ContextWindowExceeded):
        return False
    if error.retryable is not None:
        return error.retryable
    return type(error) in ATTEMPTS


def passes(error: LMError) -> bool:
    """Tell whether another call, elsewhere or later, may succeed where this one has given up."""
    if error.retryable is None and isinstance(error, DeadlineExceeded | CircuitOpen):
        return True
    return is_retryable(error)


def backoff(attempt: int, rng: random.Random) -> float:
    """Return a wait with full jitter: uniform between 0 and BASE · 2^(attempt - 1), at most CAP seconds.

    Source: "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
    """
    return rng.random() * min(CAP, BASE * 2.0 ** min(attempt - 1, 30))


def spread(wait: float, attempt: int = 1) -> float:
    """Return over how many seconds to spread those who wait `wait` seconds: they must not return as one.

    A quarter of the wait, doubled with each further attempt: who has waited as asked and is refused again is
    one of too many.
    """
    return min(WIDEST, max(0.05, wait / 4) * 2.0 ** min(attempt - 1, 30))


def next_step(error: LMError, attempt: int, elapsed: float, deadline: float, rng: random.Random) -> Retry | GiveUp:
    """Decide what follows a failed request.

    In this order: an error that time does not cure ends the call; so does the last attempt that its type
    allows; a wait that the provider asked for is obeyed if it fits the rest of the deadline, else the call
    ends at once (nobody should wait for an answer that cannot come); without one, exponential backoff with
    full jitter.

    Args:
        error: what the request failed with.
        attempt: how many requests of the call have failed in this way (`kind_of`), this one included; from 1. Waits
            for a limit on speed do not use up the attempts of a server that is down.
        elapsed: seconds since the call began.
        deadline: seconds the call may take in all.
        rng: source of the jitter.

    Returns:
        `Retry` with a delay below what is left of the deadline, or `GiveUp` with the error to raise.
    """
    most = ATTEMPTS[kind_of(error)]
    if not is_retryable(error):
        return GiveUp(error)
    if most is not None and attempt >= most:
        return GiveUp(error)
    left = deadline - elapsed
    asked_for = error.retry_after
    if asked_for is not None and asked_for > 0:
        if asked_for >= left:
            return GiveUp(error)
        # Not sooner than asked, and not all at once; the jitter gives way to the deadline, the wait does not.
        return Retry(min(asked_for + rng.random() * spread(asked_for, attempt), (asked_for + left) / 2))
    delay = backoff(attempt, rng)
    if delay >= left:
        return GiveUp(out_of_time(deadline, error))
    return Retry(delay)


def out_of_time(deadline: float, last: LMError | None) -> DeadlineExceeded:
    """Return the error for a call whose total time is used up; it says what the last request failed with."""
    why = f"; the last request: {last.message}" if last is not None else "; no request was answered"
    return DeadlineExceeded(
        f"no answer within the call's {deadline:g} s{why}",
        status=last.status if last is not None else None,
        code=last.code if last is not None else None,
        request_id=last.request_id if last is not None else None,
    )


class RetryBudget:
    """How many requests of calls outside of runs are made again: a share of what is asked, and a few in any case.

    Where a server fails most of what it is asked, asking everything again doubles its load. A run has so many requests
    in flight whatever fails, so its calls need no such limit.

    Source: "Site Reliability Engineering", 2016, chapter 21: a retry budget of 10 % for each client.
    """

    #: Share of the requests of a window, and how many at least.
    SHARE: ClassVar[float] = 0.1
    LEAST: ClassVar[int] = 50
    #: Seconds.
    WINDOW: ClassVar[float] = 60.0

    __slots__ = ("_before", "_now", "_since")

    def __init__(self, now: float) -> None:
        """Begin with nothing asked."""
        #: Requests and retries of this half of the window, and of the one before.
        self._now, self._before = [0, 0], [0, 0]
        self._since = now

    def asked(self, now: float) -> None:
        """Take note of a request."""
        self._turn(now)
        self._now[0] += 1

    def take(self, now: float) -> bool:
        """Say whether a request that failed may be made again, and count it."""
        self._turn(now)
        requests, retries = self._now[0] + self._before[0], self._now[1] + self._before[1]
        if retries + 1 > max(self.LEAST, self.SHARE * requests):
            return False
        self._now[1] += 1
        return True

    def _turn(self, now: float) -> None:
        half = self.WINDOW / 2
        if now - self._since >= half:
            self._before = self._now if now - self._since < 2 * half else [0, 0]
            self._now, self._since = [0, 0], now


def spent(error: LMError) -> LMError:
    """Return the error of a call that may not ask again: too much has failed lately."""
    error.message = f"{error.message}; not asked again: too many requests have failed lately"
    error.args = (error.message,)
    return error
