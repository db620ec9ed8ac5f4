"""A worker's side of a deployment's budget: asks the client actor for leases, tells it of pauses and outcomes."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable

from dspex_actors.errors import LMError, RateLimited
from dspex_actors.lm.control.client import client_name
from dspex_actors.lm.control.messages import Ages, Join, Lease, Leave, Outcomes, Pause
from dspex_actors.lm.control.told import Told
from dspex_actors.lm.deployment import Limits
from dspex_actors.lm.worker.outcome import Outcome
from supervisors import GenServer
from supervisors.errors import SupervisorsError

#: At most so many seconds' worth of the rate is leased at once, so that other workers get their turn.
LEASE_SECONDS = 0.5
#: A client actor that does not answer is looked after again at this interval, in seconds.
LOOK_SECONDS = 0.05
#: Outcomes are told this often, in seconds.
TELL_SECONDS = 0.5


class WorkerGate:
    """The gate of one deployment in one worker (see `session.Gate`).

    Args:
        worker: whose gate it is.
        deployment: digest of the deployment.
        revive: sees to it that the client actor is there: nobody else does if the whole branch has fallen.
    """

    def __init__(self, worker: GenServer, deployment: str, revive: Callable[[], Awaitable[object]]) -> None:
        """Begin without limits: the LMs that ask tell them, and the client actor what others have told."""
        self._worker = worker
        self._revive = revive
        self._deployment = deployment
        self._client = client_name(deployment)
        self._told = Told()
        self._ruled = Limits()
        #: The limits that hold here.
        self.limits = Limits()
        self._waiting: deque[tuple[asyncio.Future[float], int]] = deque()
        self._leasing: asyncio.Task[None] | None = None
        self._counts: dict[str, float] = {}
        self._used = 0
        self._timer: asyncio.TimerHandle | None = None

    def tell(self, limits: Limits) -> bool:
        """Take note of the limits that an LM tells with a call; return whether they are new.

        New ones hold at once, here and soon elsewhere.
        """
        if not self._told.tell(limits, asyncio.get_running_loop().time()):
            return False
        self.join()
        self._settle()
        return True

    def rule(self, limits: Limits) -> None:
        """Take over the limits that the client actor says to hold."""
        self._ruled = limits
        self._settle()

    def leave(self) -> None:
        """Let the client actor know that there is no session here any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._tell()
        self._worker.cast(self._client, Leave(self._worker.ref))

    def _settle(self) -> None:
        self.limits = Limits.smallest((self._ruled, self._told.in_force(asyncio.get_running_loop().time())))

    def _ages(self) -> Ages:
        now = asyncio.get_running_loop().time()
        self._told.in_force(now)  # forgets the old ones
        return self._told.ages(now)

    def join(self) -> None:
        """Let the client actor know that there is a session here, and what its LMs tell."""
        self._worker.cast(self._client, Join(self._worker.ref, self._ages()))

    @property
    def counts_tokens(self) -> bool:
        """Whether tokens are limited."""
        return self.limits.tpm is not None

    async def acquire(self, estimated_tokens: int, deadline: float) -> None:
        """Wait for this request's turn.

        Raises:
            RateLimited: the turn comes after the deadline; nothing was asked, nothing is taken from the budget
                but what cannot be given back. Or the request is larger than what a minute lets through: it is final.
        """
        if not self.limits.paced:
            return
        tpm = self.limits.tpm
        if tpm is not None and estimated_tokens > tpm:
            raise RateLimited(
                f"the request may take {estimated_tokens:,} tokens, and tpm={tpm:g} lets that many through in no "
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
        if self.counts_tokens and tokens:
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
        rpm, tpm, _ = self.limits
        most = max(1, int((rpm or 6000) / 60 * LEASE_SECONDS))
        most_tokens = None if tpm is None else tpm / 60 * LEASE_SECONDS
        while self._waiting and len(batch) < most:
            if self._waiting[0][0].done():
                self._waiting.popleft()
                continue
            total += self._waiting[0][1]
            if batch and most_tokens is not None and total > most_tokens:
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
            with contextlib.suppress(SupervisorsError):
                delays = await self._worker.call(self._client, Lease(tokens, self._ages()))
                if delays is not None:  # it has understood
                    return delays  # type: ignore[no-any-return]
            await asyncio.sleep(LOOK_SECONDS)  # the client actor is being restarted
            with contextlib.suppress(LMError):
                await self._revive()

    def report(self, outcome: Outcome) -> None:
        """Count an outcome; that everybody has to wait is told to the other workers at once."""
        kind = "cancelled" if outcome.cancelled else type(outcome.error).__name__ if outcome.error else "answered"
        self._counts[kind] = self._counts.get(kind, 0) + 1
        if outcome.usage is not None:
            self._counts["tokens"] = self._counts.get("tokens", 0) + outcome.usage.total
            if self.counts_tokens:
                self._used += outcome.estimated_tokens - outcome.usage.total
        elif self.counts_tokens and isinstance(outcome.error, RateLimited):  # refused: not counted there
            self._used += outcome.estimated_tokens
        if outcome.pause is not None:
            self._worker.cast(self._client, Pause(self._deployment, outcome.pause, self._worker.ref))
        self._tell_soon()

    def _tell_soon(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TELL_SECONDS, self._tell)

    def _tell(self) -> None:
        self._timer = None
        counts, self._counts = self._counts, {}
        unused, self._used = self._used, 0
        self._worker.cast(self._client, Outcomes(self._worker.ref, self._ages(), counts, unused))


def _has_turn(future: asyncio.Future[float]) -> bool:
    return future.done() and not future.cancelled()
