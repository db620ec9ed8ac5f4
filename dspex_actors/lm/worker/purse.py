"""A purse of a worker: money for requests, and those who wait for it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from contextvars import Context

from dspex_actors.errors import BudgetExceeded, DeadlineExceeded, RateLimited
from dspex_actors.foundation.purses import CALLS_MADE, DOLLAR, Answer, Purse, unit_of, units
from dspex_actors.lm.attempts import Ledger, current_ledger
from dspex_actors.lm.control.spending import spending_spec
from dspex_actors.lm.control.spending_file import SpendingFile
from dspex_actors.lm.control.spending_messages import SPENDING, Fund, Returned
from dspex_actors.observe.branch import ensure
from supervisors import GenServer
from supervisors.errors import SupervisorsError

#: A purse asks for money for so many requests at first, and for twice as many each time it comes back within a second.
FIRST_REQUESTS, OFTEN_SECONDS = 8, 1.0
#: Who waits for money of others asks again after so many seconds.
WAIT_SECONDS = 0.1
#: What was asked back is given back, as it comes in, for so many seconds; it is collected for so many.
TIGHT_SECONDS, COLLECT_SECONDS = 1.0, 0.02

#: Name, limit, and what had been spent when nobody counted yet, of an account; of several sorted by name.
AccountLimit = tuple[str, int, int]
AccountLimits = tuple[AccountLimit, ...]


class Hold:
    """What one request that is under way may take out of purses."""

    __slots__ = ("_amount", "_calls", "_place")

    def __init__(self, place: Place | None, amount: int, calls: Place | None = None) -> None:
        """Amounts out of a purse of money and of one of calls; None: there is no such limit."""
        self._place, self._amount, self._calls = place, amount, calls

    def settle(self, cost: float | None) -> None:
        """Take note of what it has cost, in dollars; None: nobody knows, so it counts as the most that it may."""
        if self._place is not None:
            self._place.settle(self._amount, self._amount if cost is None else units(cost))
        if self._calls is not None:
            self._calls.settle(1, 1)

    def beside(self, calls: Place) -> Hold:
        """Return the same with a call out of a purse."""
        return Hold(self._place, self._amount, calls)

    def give_back(self) -> None:
        """Take note that the request was not made."""
        if self._place is not None:
            self._place.settle(self._amount, 0)
        if self._calls is not None:
            self._calls.settle(1, 0)


class Place:
    """A purse, where it stands, and who waits for money.

    Args:
        worker: whose it is.
        holder: its process, as the owner knows it.
        file: where it stands.
        slot: and at which place.
    """

    def __init__(self, worker: GenServer, holder: str, file: SpendingFile, slot: int) -> None:
        """Begin with nothing in it."""
        self.accounts: AccountLimits = ()
        self.slot = slot
        self.used_at = time.monotonic()
        self._worker, self._holder, self._file = worker, holder, file
        self._purse = Purse()
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._asking: asyncio.Task[None] | None = None
        self._came_back = asyncio.Event()
        self._tight_until = 0.0
        self._returning: asyncio.TimerHandle | None = None
        self._requests = FIRST_REQUESTS
        self._asked_at = 0.0
        # Why the owner cannot tell, and the examples whose calls wait.
        self._why = ""
        self._ledgers: list[Ledger] = []

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way and nobody waits."""
        return not self._purse.held and not self._waiting and self._asking is None

    def take(self, amount: int) -> bool:
        """Hold an amount back, if it is there and nobody waits."""
        self.used_at = time.monotonic()
        if self._waiting or not self._purse.hold(amount):
            return False
        self._file.write_held(self.slot, self._purse.held)
        return True

    async def wait(self, amount: int, left: float) -> None:
        """Hold an amount back as soon as it is there."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((amount, future))
        if self._asking is None:
            self._asking = self._worker.spawn(self._ask())
        ledger = current_ledger()
        if ledger is not None:
            self._ledgers.append(ledger)
        try:
            async with asyncio.timeout(left):
                await future
        except TimeoutError:
            self._give_up(amount, future)
            if self._why:  # no fault of the call: it is no attempt of a run
                raise RateLimited(f"a request waits for {self._why}", retryable=True) from None
            raise DeadlineExceeded(
                "what is left of a limit is held back for requests under way, longer than this call may take",
                retryable=True,
            ) from None
        except BaseException:
            self._give_up(amount, future)
            raise
        finally:
            if ledger is not None:
                self._ledgers.remove(ledger)
                ledger.waits_for = None

    def _say(self, why: str) -> None:
        """Have those who wait say for what, where the owner cannot tell; empty: it can."""
        if why or self._why:
            for ledger in self._ledgers:
                ledger.waits_for = why or None
        self._why = why

    def _give_up(self, amount: int, future: asyncio.Future[None]) -> None:
        if future.done() and not future.cancelled() and future.exception() is None:
            self.settle(amount, 0)  # it came at the same moment

    def settle(self, amount: int, cost: int) -> None:
        """Take note of what a request has cost that an amount was held back for."""
        self._purse.settle(amount, cost)
        # In this order: who is killed in between has spent too much rather than too little.
        self._file.write_spent(self.slot, self._purse.spent)
        self._file.write_held(self.slot, self._purse.held)
        if self._waiting:
            self._came_back.set()
        elif self._tight_until and self._returning is None:
            self._return_soon()

    def tighten(self) -> None:
        """Give back what lies here, and what comes back in the next second."""
        self._tight_until = time.monotonic() + TIGHT_SECONDS
        self._return()

    def _return_soon(self) -> None:
        if time.monotonic() > self._tight_until:
            self._tight_until = 0.0
            return
        self._returning = asyncio.get_running_loop().call_later(COLLECT_SECONDS, self._return, context=Context())

    def _return(self) -> None:
        self._returning = None
        if self._waiting and self._purse.held:
            return  # what is under way comes back, and these go first
        if self._purse.give_back():
            self._worker.cast(SPENDING, Returned(self._holder, self.slot, self._purse.returned))

    def _serve(self) -> None:
        while self._waiting:
            amount, future = self._waiting[0]
            if not future.done():
                if not self._purse.hold(amount):
                    return
                self._file.write_held(self.slot, self._purse.held)
                future.set_result(None)
            self._waiting.popleft()

    async def _ask(self) -> None:
        try:
            while True:
                self._came_back.clear()
                self._serve()
                if not self._waiting:
                    return
                amount = self._waiting[0][0]
                answer = await self._answer(amount - max(0, self._purse.free), self._want(amount))
                self._purse.given = max(self._purse.given, answer.given)
                self._say(answer.account if answer.verdict == "wait" else "")
                if answer.verdict == "empty":
                    self._refuse(amount, answer)
                elif answer.verdict == "wait":
                    self._requests = 1
                    await self._wait_for_more()
        finally:
            self._asking = None

    async def _wait_for_more(self) -> None:
        """Serve from what comes back here; the owner is asked again after a while."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WAIT_SECONDS):
                while self._waiting:
                    await self._came_back.wait()
                    self._came_back.clear()
                    self._serve()

    def _want(self, amount: int) -> int:
        now = time.monotonic()
        self._requests = min(1 << 20, 2 * self._requests) if now - self._asked_at < OFTEN_SECONDS else FIRST_REQUESTS
        self._asked_at = now
        return max(amount * self._requests, sum(amount for amount, _ in self._waiting))

    async def _answer(self, need: int, want: int) -> Answer:
        while True:
            purse = self._purse
            message = Fund(
                self._worker.ref, self._holder, self.slot, list(self.accounts), purse.returned, need, want
            )  # fmt: skip
            with contextlib.suppress(SupervisorsError):
                kind, told = await self._worker.call(SPENDING, message)
                if kind == "ok":
                    return Answer(*told)
                self._worker.log.warning("requests wait for the owner of limits", error=str(told.get("message")))
                await asyncio.sleep(WAIT_SECONDS)
                continue
            with contextlib.suppress(SupervisorsError):
                await ensure(self._worker, spending_spec())
                continue
            await asyncio.sleep(WAIT_SECONDS)

    def _refuse(self, amount: int, answer: Answer) -> None:
        """Refuse those who need as much as one for whom there is not enough; the others may still fit."""
        kept: deque[tuple[int, asyncio.Future[None]]] = deque()
        for one, future in self._waiting:
            if one < amount:
                kept.append((one, future))
            elif not future.done():
                future.set_exception(refusal(answer, one))
        self._waiting = kept

    def clear(self) -> None:
        """Begin anew: the owner has counted what was spent."""
        self._file.write_spent(self.slot, 0)
        self._file.write_held(self.slot, 0)


def run_of(account: str) -> str:
    """Return the id of the run that an account belongs to."""
    return account.removeprefix("run:").rpartition("#")[0]


def refusal(answer: Answer, amount: int) -> BudgetExceeded:
    """Return the error for a request for which there is not enough money left."""
    if unit_of(answer.account) == 1:
        # Of no run by name: who is told pauses what it is a part of, and no run has a budget of its own to raise.
        return BudgetExceeded(f"{answer.spent:,} of {answer.limit:,} {CALLS_MADE}")
    kind, _, name = answer.account.partition(":")
    spent, limit = answer.spent / DOLLAR, answer.limit / DOLLAR
    whose = {"run": "the budget", "day": "the limit of a day", "tag": f"the limit of {name.rpartition(':')[0]}"}[kind]
    return BudgetExceeded(
        f"${spent:,.4f} of {whose}, ${limit:,.4f}, are spent, and the next request may cost ${amount / DOLLAR:,.4f}",
        spent=spent,
        budget=limit,
        run_id=run_of(answer.account) if kind == "run" else None,
    )
