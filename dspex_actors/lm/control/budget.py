"""The budget of one LM deployment: when may the next request go out? Pure; time is a parameter.

Requests and tokens per minute are paced evenly (GCRA, the generic cell rate algorithm of ITU-T I.371): each
reservation moves a *theoretical arrival time* on by its share of the rate, and a request may start at most one
second's worth ahead of it. There are no windows to game: no minute ever sees more than the limit and that burst.
"""

from __future__ import annotations

from dataclasses import dataclass

#: How many seconds' worth of the rate may go out at once.
BURST_SECONDS = 1.0


@dataclass
class Pacer:
    """One rate.

    Args:
        per_minute: requests or tokens.
        arrival: theoretical arrival time of the next one, monotonic seconds. A new pacer starts without a
            burst: the one before it, which may have died a moment ago, has perhaps given one.
    """

    per_minute: float
    arrival: float

    def earliest(self, now: float) -> float:
        """Return when the next reservation could start."""
        return max(now, self.arrival - BURST_SECONDS)

    def reserve(self, amount: float, now: float) -> None:
        """Take `amount` out of the budget."""
        self.arrival = max(self.arrival, now) + amount * 60.0 / self.per_minute

    def refund(self, amount: float, now: float) -> None:
        """Give back what was reserved and not used (negative: take what was used beyond it)."""
        self.arrival = max(self.arrival - amount * 60.0 / self.per_minute, now - BURST_SECONDS)


class Budget:
    """Requests and tokens per minute of one deployment, for the whole cluster.

    Args:
        rpm: requests per minute; None: no limit.
        tpm: tokens per minute; None: no limit.
        now: monotonic seconds.
    """

    def __init__(self, rpm: float | None, tpm: float | None, now: float) -> None:
        """Start without a burst."""
        start = now + BURST_SECONDS
        self._requests = None if rpm is None else Pacer(rpm, start)
        self._tokens = None if tpm is None else Pacer(tpm, start)

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
            pacers = [(self._requests, 1.0), (self._tokens, float(amount))]
            start = max([now, *(pacer.earliest(now) for pacer, _ in pacers if pacer is not None)])
            for pacer, cost in pacers:
                if pacer is not None:
                    pacer.reserve(cost, now)
            delays.append(start - now)
        return delays

    def refund_tokens(self, amount: int, now: float) -> None:
        """Correct an estimate: `amount` tokens were not used (negative: used beyond the estimate)."""
        if self._tokens is not None:
            self._tokens.refund(amount, now)
