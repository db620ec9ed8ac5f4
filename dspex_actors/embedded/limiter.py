"""A provider's rate limits: requests and tokens a minute, counted continuously.

Pure: time is a parameter. Source: the generic cell rate algorithm (ITU-T I.371), which needs one number per
limit: the moment at which everything admitted so far would have been used up at the steady rate.
"""

from __future__ import annotations

from dataclasses import dataclass

_MINUTE = 60.0
#: Floating-point dust must not refuse what fits exactly.
_DUST = 1e-9


class Gcra:
    """One limit of so many units a minute.

    Args:
        per_minute: the steady rate.
        burst_seconds: how many seconds' worth may come at once; at least one unit always may.
    """

    def __init__(self, per_minute: float, burst_seconds: float) -> None:
        """Start with the whole burst free."""
        self.per_minute = per_minute
        self._interval = _MINUTE / per_minute
        self._burst = max(burst_seconds, self._interval)
        self._used_up_at = float("-inf")

    def wait(self, units: float, now: float) -> float:
        """Return the seconds until `units` would be admitted, 0 for at once; takes nothing.

        More units than the burst holds are admitted when nothing else is in use, and paid off afterwards.
        """
        need = units * self._interval
        backlog = max(self._used_up_at - now, 0.0)
        missing = backlog + need - max(self._burst, need)
        return missing if missing > _DUST else 0.0

    def take(self, units: float, now: float) -> None:
        """Use `units` (negative ones give back), admitted or not."""
        self._used_up_at = max(self._used_up_at, now) + units * self._interval

    def remaining(self, now: float) -> int:
        """Return the whole units that would be admitted now."""
        return max(0, int((self._burst - max(self._used_up_at - now, 0.0) + _DUST) / self._interval))

    def reset_after(self, now: float) -> float:
        """Return the seconds until the whole burst is free again."""
        return max(self._used_up_at - now, 0.0)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that was not admitted: the limit it met, and the seconds after which it would be."""

    limit: str
    per_minute: float
    retry_after: float


class RateLimiter:
    """The two limits of an account. A request is admitted by both or charged to neither."""

    def __init__(self, rpm: float | None, tpm: float | None, burst_seconds: float = 2.0) -> None:
        """Make the limits that are given; None is no limit."""
        self.requests = Gcra(rpm, burst_seconds) if rpm else None
        self.tokens = Gcra(tpm, burst_seconds) if tpm else None

    def admit(self, tokens: int, now: float) -> Refusal | None:
        """Admit one request that may use so many tokens, or say why not. A refused request costs nothing."""
        worst: Refusal | None = None
        for name, limit, units in (("requests", self.requests, 1), ("tokens", self.tokens, tokens)):
            if limit is None:
                continue
            wait = limit.wait(units, now)
            if wait > (worst.retry_after if worst else 0.0):
                worst = Refusal(name, limit.per_minute, wait)
        if worst is None:
            if self.requests:
                self.requests.take(1, now)
            if self.tokens:
                self.tokens.take(tokens, now)
        return worst

    def settle(self, reserved: int, used: int, now: float) -> None:
        """Correct an admitted request's tokens from what it might have used to what it did."""
        if self.tokens:
            self.tokens.take(used - reserved, now)
