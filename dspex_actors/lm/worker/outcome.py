"""How one request ended, and who is told: budgets and circuits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from dspex_actors.errors import LMError
from dspex_actors.lm.usage import Usage


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one request ended, for whoever keeps budgets and circuits.

    Args:
        estimated_tokens: what was reserved for it.
        usage: what it used; None when it failed.
        error: what it failed with; None when it was answered, or cancelled.
        headers: the answer's, by lower-case name: rate limits are told there. None without an answer.
        latency: seconds from sending to the end of the answer.
        cancelled: the caller gave up in the middle.
        pause: seconds for which all calls of the session wait from now on, because 429s have become a pattern.
    """

    estimated_tokens: int
    usage: Usage | None = None
    error: LMError | None = None
    headers: Mapping[str, str] | None = None
    latency: float = 0.0
    cancelled: bool = False
    pause: float | None = None


class Gate(Protocol):
    """Lets requests through at the pace that budgets and circuits allow."""

    @property
    def counts_tokens(self) -> bool:
        """Whether tokens are limited: else nobody needs to estimate them."""
        ...

    async def acquire(self, estimated_tokens: int, deadline: float) -> None:
        """Wait until one request of so many tokens may be made.

        Args:
            estimated_tokens: prompt and longest reply; 0 where the gate does not count them.
            deadline: seconds the call has left.

        Raises:
            LMError: it will not be let through in time (RateLimited, DeadlineExceeded), or not at all
                (CircuitOpen).
        """
        ...

    def report(self, outcome: Outcome) -> None:
        """Take note of how a request that was let through ended; called exactly once for each."""
        ...
