"""The budget of one LM deployment: when may the next request go out? Pure; time is a parameter.

Requests and tokens per minute are paced evenly (`foundation.gcra`): a request may start at most one second's worth
ahead of what was reserved.
"""

from __future__ import annotations

from dspex_actors.foundation.gcra import Gcra

#: How many seconds' worth of the rate may go out at once.
BURST_SECONDS = 1.0


class Budget:
    """Requests and tokens per minute of one deployment, for the whole cluster.

    Args:
        rpm: requests per minute; None: no limit.
        tpm: tokens per minute; None: no limit.
        now: monotonic seconds.
    """

    def __init__(self, rpm: float | None, tpm: float | None, now: float) -> None:
        """Start without a burst: the budget before it, which may have died a moment ago, has perhaps given one."""
        self._requests = _paced(None, rpm, now)
        self._tokens = _paced(None, tpm, now)

    def limit(self, rpm: float | None, tpm: float | None, now: float) -> None:
        """Go on at other rates; what was reserved stays so."""
        self._requests = _paced(self._requests, rpm, now)
        self._tokens = _paced(self._tokens, tpm, now)

    def reserve(self, tokens: list[int], now: float) -> list[float]:
        """Reserve one request per item, first come first served.

        Args:
            tokens: estimated tokens of each.
            now: monotonic seconds.

        Returns:
            For each the seconds from now at which it may start, ascending.
        """
        delays = []
        for amount in tokens:
            limits = [(self._requests, 1.0), (self._tokens, float(amount))]
            delays.append(max([0.0, *(limit.delay(now) for limit, _ in limits if limit is not None)]))
            for limit, units in limits:
                if limit is not None:
                    limit.take(units, now)
        return delays

    def refund_tokens(self, amount: int, now: float) -> None:
        """Correct an estimate: `amount` tokens were not used (negative: used beyond the estimate)."""
        if self._tokens is not None:
            self._tokens.give_back(amount, now)


def _paced(old: Gcra | None, rate: float | None, now: float) -> Gcra | None:
    if rate is None:
        return None
    if old is not None and old.per_minute == rate:
        return old
    # Without a burst: what went out a moment ago was counted at another rate, or not at all.
    start = now + BURST_SECONDS
    return Gcra(rate, BURST_SECONDS, start if old is None else max(start, old.used_up_at))
