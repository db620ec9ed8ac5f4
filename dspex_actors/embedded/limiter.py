"""A provider's rate limits: requests and tokens a minute, counted continuously. Pure: time is a parameter."""

from __future__ import annotations

from dataclasses import dataclass

from dspex_actors.foundation.gcra import Gcra


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
        self.requests = _limit(rpm, burst_seconds) if rpm else None
        self.tokens = _limit(tpm, burst_seconds) if tpm else None

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
            if used > reserved:
                self.tokens.take(used - reserved, now)  # used now: time that has gone by since then does not pay for it
            else:
                self.tokens.give_back(reserved - used, now)


def _limit(per_minute: float, burst_seconds: float) -> Gcra:
    return Gcra(per_minute, max(burst_seconds, 60.0 / per_minute))  # at least one unit always may
