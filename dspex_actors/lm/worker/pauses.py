"""When all calls of a session wait: the provider said that the key is too fast, or that every request is wrong."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

from dspex_actors.errors import LMError, RateLimited
from dspex_actors.lm.worker import retry
from dspex_actors.lm.worker.refusals import Refusals, Rejections

#: Longest time, in seconds, that 429s silence the whole session. After it somebody asks again: a wrong header must
#: not keep an LM away for hours.
PAUSE_MAX = 60.0
#: How long a 429 that names no wait does; seconds.
PAUSE_SHORT = 0.25


class Pauses:
    """The pauses of one session.

    Args:
        provider: who is asked, for messages.
        clock: monotonic seconds.
        sleep: waits so many seconds.
        rng: source of jitter.
    """

    def __init__(
        self,
        provider: str,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[object]],
        rng: random.Random,
    ) -> None:
        """Begin without one."""
        self._provider = provider
        self._clock, self._sleep, self._rng = clock, sleep, rng
        #: When the last one ends, in the clock's seconds.
        self.until = 0.0
        self._spread = 0.0
        self._refusals = Refusals()
        self._rejections = Rejections()

    def begin(self, wait: float | None) -> float:
        """Make every call wait.

        Args:
            wait: seconds; None: the provider did not say how long.

        Returns:
            The seconds that calls wait for it.
        """
        wait = min(wait, PAUSE_MAX) if wait else PAUSE_SHORT
        until = self._clock() + wait
        if until > self.until:
            self.until = until
            self._spread = retry.spread(wait)
        return wait

    def note(self, error: LMError | None, in_flight: int) -> float | None:
        """Take note of how a request was answered; return for how long all calls wait now, if that is a pattern."""
        if not isinstance(error, RateLimited) or error.retryable is False:
            self._refusals.answered()
        elif self._refusals.refused(in_flight):
            return self.begin(error.retry_after)
        return None

    def rejected(self, error: LMError) -> bool:
        """Take note of a failure; return whether a server that has answered nothing rejects what it is asked.

        Then one is asked at a time, with pauses.
        """
        wait = self._rejections.rejected(error)
        if wait is not None:
            self.until = max(self.until, self._clock() + wait)
        return wait is not None

    def answered(self) -> None:
        """Take note of an answer."""
        self._rejections.answered()

    async def wait_out(self, left: Callable[[], float]) -> None:
        """Wait until there is none.

        Args:
            left: the seconds that the call has left; raises when there are none.

        Raises:
            RateLimited: the pause is longer than the call may take.
        """
        while (pause := self.until - self._clock()) > 0:
            seconds = left()
            if pause >= seconds:
                raise RateLimited(
                    f"{self._provider} asked for {pause:.1f} s more, longer than this call may take",
                    retry_after=pause,
                    retryable=True,
                )
            await self._sleep(min(pause + self._rng.random() * self._spread, (pause + seconds) / 2))
