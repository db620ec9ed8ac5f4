"""A worker's side of an LM's budget: asks the client actor for leases, tells it of pauses and outcomes, in batches."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable

from dspex_actors.errors import LMError, RateLimited
from dspex_actors.lm.control.client import client_name
from dspex_actors.lm.lm import LM
from dspex_actors.lm.worker.session import Outcome
from supervisors import GenServer
from supervisors.errors import SupervisorsError

#: At most so many seconds' worth of the rate is leased at once, so that other workers get their turn.
LEASE_SECONDS = 0.5
#: A client actor that does not answer is looked after again at this interval, in seconds.
LOOK_SECONDS = 0.05
#: Outcomes are told this often, in seconds.
TELL_SECONDS = 0.5


class WorkerGate:
    """The gate of one LM session in one worker (see `session.Gate`).

    Args:
        worker: whose gate it is.
        lm: the LM.
        revive: sees to it that the LM's client actor is there: nobody else does if the whole branch has fallen.
    """

    def __init__(self, worker: GenServer, lm: LM, revive: Callable[[], Awaitable[object]]) -> None:
        """Join the LM's client actor."""
        self._worker = worker
        self._revive = revive
        self._client = client_name(lm.identity())
        self._limited = lm.rpm is not None or lm.tpm is not None
        self._tpm = lm.tpm
        self._tokens_limited = lm.tpm is not None
        self._most = max(1, int((lm.rpm or 6000) / 60 * LEASE_SECONDS))
        self._most_tokens = None if lm.tpm is None else lm.tpm / 60 * LEASE_SECONDS
        self._waiting: deque[tuple[asyncio.Future[float], int]] = deque()
        self._leasing: asyncio.Task[None] | None = None
        self._counts: dict[str, float] = {}
        self._used = 0
        self._timer: asyncio.TimerHandle | None = None
        worker.cast(self._client, ("join", worker.ref))

    async def acquire(self, estimated_tokens: int, deadline: float) -> None:
        """Wait for this request's turn.

        Raises:
            RateLimited: the turn comes after the deadline; nothing was asked, nothing is taken from the budget
                but what cannot be given back. Or the request is larger than what a minute lets through: it is final.
        """
        if not self._limited:
            return
        if self._tpm is not None and estimated_tokens > self._tpm:
            raise RateLimited(
                f"the request may take {estimated_tokens:,} tokens, and tpm={self._tpm:g} lets that many through in no "
                "minute: raise tpm, shorten the prompt or lower max_tokens",
                retryable=False,
            )
        future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiting.append((future, estimated_tokens))
        if self._leasing is None:
            self._leasing = self._worker.spawn(self._lease())
        loop = asyncio.get_running_loop()
        end = loop.time() + deadline
        passed = False
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(deadline):
                    await future
            start = future.result() if _has_turn(future) else None
            if start is None or start > end:
                raise RateLimited(
                    f"its turn under the configured limit did not come within {deadline:.1f} s",
                    retry_after=None if start is None else start - loop.time(),
                    retryable=True,
                )
            if start > loop.time():
                await asyncio.sleep(start - loop.time())
            passed = True
        finally:
            if not passed and _has_turn(future):
                self._give_back(estimated_tokens)

    def _give_back(self, tokens: int) -> None:
        if self._tokens_limited and tokens:
            self._used += tokens
            self._tell_soon()

    async def _lease(self) -> None:
        try:
            await self._lease_all()
        finally:
            self._leasing = None

    def _next_batch(self) -> list[tuple[asyncio.Future[float], int]]:
        """Take who comes next, as many as the rate lets through in a short time; not those who have given up."""
        batch: list[tuple[asyncio.Future[float], int]] = []
        total = 0
        while self._waiting and len(batch) < self._most:
            if self._waiting[0][0].done():
                self._waiting.popleft()
                continue
            total += self._waiting[0][1]
            if batch and self._most_tokens is not None and total > self._most_tokens:
                break
            batch.append(self._waiting.popleft())
        return batch

    async def _lease_all(self) -> None:
        loop = asyncio.get_running_loop()
        while batch := self._next_batch():
            delays = await self._ask([tokens for _, tokens in batch])
            now = loop.time()
            for (future, tokens), delay in zip(batch, delays, strict=True):
                if future.done():  # who waited has given up meanwhile
                    self._give_back(tokens)
                else:
                    future.set_result(now + delay)
            if delays and self._waiting:
                # The next lease is asked when this one is nearly used up.
                await asyncio.sleep(max(0.0, delays[-1] - 0.05))

    async def _ask(self, tokens: list[int]) -> list[float]:
        while True:
            try:
                return await self._worker.call(self._client, ("lease", tokens))  # type: ignore[no-any-return]
            except SupervisorsError:
                await asyncio.sleep(LOOK_SECONDS)  # the client actor is being restarted
                with contextlib.suppress(LMError):
                    await self._revive()

    def report(self, outcome: Outcome) -> None:
        """Count an outcome; that everybody has to wait is told to the other workers at once."""
        kind = "cancelled" if outcome.cancelled else type(outcome.error).__name__ if outcome.error else "answered"
        self._counts[kind] = self._counts.get(kind, 0) + 1
        if outcome.usage is not None:
            self._counts["tokens"] = self._counts.get("tokens", 0) + outcome.usage.total
            if self._tokens_limited:
                self._used += outcome.estimated_tokens - outcome.usage.total
        elif self._tokens_limited and isinstance(outcome.error, RateLimited):  # refused: not counted there
            self._used += outcome.estimated_tokens
        if outcome.pause is not None:
            self._worker.cast(self._client, ("pause", self._worker.ref, outcome.pause))
        self._tell_soon()

    def _tell_soon(self) -> None:
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


def _has_turn(future: asyncio.Future[float]) -> bool:
    return future.done() and not future.cancelled()
