"""A worker's side of an LM's budget: asks the client actor for leases, tells it of pauses and outcomes, in batches."""

from __future__ import annotations

import asyncio
from collections import deque

from dspex_actors.errors import RateLimited
from dspex_actors.lm.client import client_name
from dspex_actors.lm.lm import LM
from dspex_actors.lm.session import Outcome
from supervisors import GenServer
from supervisors.errors import SupervisorsError

#: At most so many seconds' worth of the rate is leased at once, so that other workers get their turn.
LEASE_SECONDS = 0.5
#: Outcomes are told this often, in seconds.
TELL_SECONDS = 0.5


class WorkerGate:
    """The gate of one LM session in one worker (see `session.Gate`)."""

    def __init__(self, worker: GenServer, lm: LM) -> None:
        """Join the LM's client actor."""
        self._worker = worker
        self._client = client_name(lm.identity())
        self._limited = lm.rpm is not None or lm.tpm is not None
        self._tokens_limited = lm.tpm is not None
        self._most = max(1, int((lm.rpm or 6000) / 60 * LEASE_SECONDS))
        self._waiting: deque[tuple[asyncio.Future[float], int]] = deque()
        self._leasing: asyncio.Task[None] | None = None
        self._counts: dict[str, float] = {}
        self._used = 0
        self._timer: asyncio.TimerHandle | None = None
        worker.cast(self._client, ("join", worker.ref))

    async def acquire(self, estimated_tokens: int, deadline: float) -> None:
        """Wait for this request's turn.

        Raises:
            RateLimited: the turn comes after the deadline; nothing was asked.
        """
        if not self._limited:
            return
        future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiting.append((future, estimated_tokens))
        if self._leasing is None:
            self._leasing = self._worker.spawn(self._lease())
        start = await future
        wait = start - asyncio.get_running_loop().time()
        if wait > deadline:
            raise RateLimited(
                f"its turn under the configured limit comes in {wait:.1f} s, after its deadline",
                retry_after=wait,
                retryable=False,
            )
        if wait > 0:
            await asyncio.sleep(wait)

    async def _lease(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
            batch = [item for item in batch if not item[0].done()]
            delays = await self._ask([tokens for _, tokens in batch])
            now = loop.time()
            for (future, _), delay in zip(batch, delays, strict=True):
                if not future.done():
                    future.set_result(now + delay)
            if delays and self._waiting:
                # The next lease is asked when this one is nearly used up.
                await asyncio.sleep(max(0.0, delays[-1] - 0.05))
        self._leasing = None

    async def _ask(self, tokens: list[int]) -> list[float]:
        while True:
            try:
                return await self._worker.call(self._client, ("lease", tokens))  # type: ignore[no-any-return]
            except SupervisorsError:
                await asyncio.sleep(0.05)  # the client actor is being restarted

    def report(self, outcome: Outcome) -> None:
        """Count an outcome; a 429 is told to the other workers at once."""
        kind = "cancelled" if outcome.cancelled else type(outcome.error).__name__ if outcome.error else "answered"
        self._counts[kind] = self._counts.get(kind, 0) + 1
        if outcome.usage is not None:
            self._counts["tokens"] = self._counts.get("tokens", 0) + outcome.usage.total
            if self._tokens_limited:
                self._used += outcome.estimated_tokens - outcome.usage.total
        elif self._tokens_limited and isinstance(outcome.error, RateLimited):
            self._used += outcome.estimated_tokens
        if isinstance(outcome.error, RateLimited) and outcome.error.retry_after:
            self._worker.cast(self._client, ("pause", self._worker.ref, outcome.error.retry_after))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TELL_SECONDS, self._tell)

    def _tell(self) -> None:
        self._timer = None
        self._worker.cast(self._client, ("join", self._worker.ref))
        counts, self._counts = self._counts, {}
        self._worker.cast(self._client, ("outcomes", counts))
        if self._used:
            self._worker.cast(self._client, ("used", self._used))
            self._used = 0
