"""Whether a call whose request failed asks again, and when: the rules of `retry`, for one session."""

from __future__ import annotations

import random

from dspex_actors.errors import LMError, RateLimited
from dspex_actors.lm.worker import retry
from dspex_actors.lm.worker.call import Call


class Again:
    """The retries of one session.

    Args:
        rng: source of jitter.
        now: monotonic seconds.
    """

    def __init__(self, rng: random.Random, now: float) -> None:
        """Begin with nothing failed."""
        self._rng = rng
        self._budget = retry.RetryBudget(now)

    def delay(self, call: Call, error: LMError, now: float) -> float:
        """Return the seconds after which a call asks again.

        Args:
            call: the call.
            error: what its request failed with.
            now: monotonic seconds.

        Raises:
            LMError: it does not.
        """
        kind = retry.kind_of(error)
        count = call.failed[kind] = call.failed.get(kind, 0) + 1
        step = retry.next_step(error, count, now - call.start, call.deadline, self._rng)
        if isinstance(step, retry.GiveUp):
            raise step.error
        # A limit on speed is waited for; that asks no more of the server.
        if not call.in_run and not isinstance(error, RateLimited) and not self._budget.take(now):
            raise retry.spent(error)
        call.last = error
        return step.delay

    def begin(self, call: Call) -> None:
        """Take note of a call."""
        if not call.in_run:
            self._budget.asked(call.start)
