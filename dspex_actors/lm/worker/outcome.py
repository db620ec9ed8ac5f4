"""How one request ended, and who is told: budgets and circuits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from dspex_actors.errors import LMError
from dspex_actors.lm.usage import Usage


@dataclass(slots=True)
class Outcome:
    """How one request ended, for whoever keeps budgets and circuits. Not to be changed; frozen it were slow to make.

    Args:
        lease: under which it was made; 0: nothing was reserved.
        usage: what it used; None when it failed.
        error: what it failed with; None when it was answered, or cancelled.
        headers: the answer's, by lower-case name: rate limits are told there. None without an answer.
        latency: seconds from sending to the end of the answer.
        cancelled: the caller gave up in the middle.
        pause: seconds for which all calls of the session wait from now on, because 429s have become a pattern.
        was_made: False: it was given up between its turn and its beginning.
        under_way: how many other requests of the session are.
    """

    lease: int
    usage: Usage | None = None
    error: LMError | None = None
    headers: Mapping[str, str] | None = None
    latency: float = 0.0
    cancelled: bool = False
    pause: float | None = None
    was_made: bool = True
    under_way: int = 0


class Gate(Protocol):
    """Lets requests through at the pace that budgets allow."""

    def paces(self, user: str | None, tags: Mapping[str, str] | None) -> bool:
        """Tell whether a request has to wait for its turn: else nobody needs to estimate its tokens."""
        ...

    async def acquire(
        self,
        tokens_in: int,
        tokens_out: int,
        deadline: float,
        user: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> int:
        """Wait until one request of so many tokens may be made; return its lease.

        Args:
            tokens_in: of the prompt.
            tokens_out: of the longest reply.
            deadline: seconds the call has left.
            user: for whom it is.
            tags: what it is for.

        Raises:
            LMError: it will not be let through in time (RateLimited, DeadlineExceeded), or not at all.
        """
        ...

    def report(self, outcome: Outcome) -> None:
        """Take note of how a request that was let through ended; called exactly once for each."""
        ...


class Circuit(Protocol):
    """Lets no request through while the server is away, but for probes."""

    @property
    def is_open(self) -> bool:
        """Whether calls have to `enter`."""
        ...

    @property
    def epoch(self) -> int:
        """Changes whenever it opens or closes."""
        ...

    async def enter(self, call: Any, left: float) -> int | None:
        """Wait until a call may go; return its number if it is the probe."""
        ...

    def holds(self, error: LMError) -> bool:
        """Tell whether a call that failed so waits for the circuit, and does not count what failed."""
        ...

    def ended(self, error: LMError | None, *, answered: bool, probe: int | None, epoch: int) -> None:
        """Take in how a request ended."""
        ...
