"""Money for the requests of one worker: each takes the most that it may cost out of a purse before it is sent.

A purse is filled by the owner of limits (`lm.control.spending`), for many requests at a time; where nobody has set a
limit there is none, and nobody is asked. What is decided is in `foundation.purses`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import Context
from pathlib import Path
from typing import NamedTuple

from dspex_actors.errors import BudgetExceeded, DeadlineExceeded
from dspex_actors.foundation.purses import units
from dspex_actors.lm.attempts import Ledger, current_ledger, is_counted
from dspex_actors.lm.control.spending import spending_spec
from dspex_actors.lm.control.spending_file import SLOTS, SpendingFile
from dspex_actors.lm.control.spending_messages import SPENDING, CloseSlot, GiveBack
from dspex_actors.lm.deployment import Deployment
from dspex_actors.lm.prices import BATCH, most, unknown_price
from dspex_actors.lm.usage import most_tokens
from dspex_actors.lm.worker.call import Call
from dspex_actors.lm.worker.purse import WAIT_SECONDS, AccountLimit, AccountLimits, Hold, Place, run_of
from dspex_actors.observe.branch import ensure
from supervisors import GenServer
from supervisors.errors import SupervisorsError

#: A purse without a request for so many seconds is closed.
IDLE_SECONDS = 30.0
#: A turn under limits is kept while money is waited for, for so many seconds: as long as a message takes.
KEEP_TURN_SECONDS = 0.05

_log = logging.getLogger(__name__)


class DayLimits(NamedTuple):
    """What a day may cost (UTC), in dollars, whoever asks.

    Args:
        per_day: everything together; None: no limit.
        tags: what has a tag, by `name=text`.
        unknown_price: "refuse" or "warn".
    """

    per_day: float | None = None
    tags: Mapping[str, float] = {}
    unknown_price: str = "refuse"


class Wallet:
    """The purses of one worker.

    Args:
        worker: the worker.
    """

    def __init__(self, worker: GenServer) -> None:
        """Begin without a purse."""
        #: Whether calls are limited that belong to no run, too, as far as is known.
        self.is_limited = False
        self._day = DayLimits()
        #: Set once it is known what a day may cost; None: nothing is to be waited for.
        self.known: asyncio.Event | None = None
        self._worker = worker
        self._file: SpendingFile | None = None
        self._places: dict[tuple[str, ...], Place] = {}
        self._slots = list(range(SLOTS))[::-1]
        self._sweep: asyncio.TimerHandle | None = None
        _wallets[:] = [self]

    @property
    def day(self) -> DayLimits:
        """What a day may cost."""
        return self._day

    @day.setter
    def day(self, limits: DayLimits) -> None:
        self._day = limits
        self.is_limited = self.known is not None or limits.per_day is not None or bool(limits.tags)

    def wait_for_limits(self) -> None:
        """Have calls wait until it is known what a day may cost."""
        self.known, self.is_limited = asyncio.Event(), True

    def let_go(self, limits: DayLimits) -> None:
        """Let calls go on that have waited: these limits hold."""
        if self.known is not None:
            self.known.set()
            self.known = None
        self.day = limits

    @property
    def holder(self) -> str:
        """This process, as the owner knows it."""
        ref = self._worker.ref
        return f"{ref.pid}-{ref.born}"

    def accounts(self, ledger: Ledger | None, tags: Mapping[str, str] | None) -> AccountLimits:
        """Return the accounts that a request counts for; none: it is not limited."""
        budget = None if ledger is None else ledger.budget
        found = [] if budget is None or budget.account is None else [budget.account, *budget.above]
        if self.is_limited:
            today = time.strftime("%Y-%m-%d", time.gmtime())
            if self.day.per_day is not None:
                found.append((f"day:{today}", units(self.day.per_day), 0))
            for tag, limit in self.day.tags.items():
                name, _, text = tag.partition("=")
                if tags is not None and tags.get(name) == text:
                    found.append((f"tag:{tag}:{today}", units(limit), 0))
        return tuple(sorted(found))

    async def hold(
        self, accounts: AccountLimits, amount: float, left: float, before_waiting: Callable[[], None] = lambda: None
    ) -> Hold:
        """Hold back what a request may cost.

        Args:
            accounts: that it counts for; at least one.
            amount: the most that it may cost, in dollars.
            left: seconds that it may wait: for requests under way, which may turn out to be cheaper.
            before_waiting: called where it has to wait for longer than for a message.

        Raises:
            BudgetExceeded: there is not so much left, and none will come back.
            DeadlineExceeded: nobody knows yet.
        """
        most = units(amount)
        return Hold(await self._taken(accounts, most, left, before_waiting), most)

    async def count(
        self, account: AccountLimit, left: float, before_waiting: Callable[[], None] = lambda: None
    ) -> Place:
        """Hold one call back, as `hold` does money; who makes the request settles it."""
        return await self._taken((account,), 1, left, before_waiting)

    async def _taken(
        self, accounts: AccountLimits, amount: int, left: float, before_waiting: Callable[[], None]
    ) -> Place:
        names = tuple(name for name, _, _ in accounts)
        place = self._places.get(names)
        if place is None:
            place = self._open(names)
        place.accounts = accounts
        if not place.take(amount):
            with _calling(before_waiting):
                await place.wait(amount, left)
        return place

    def overspend(self, accounts: AccountLimits, cost: float) -> None:
        """Take note of dollars that are spent, and that no purse had."""
        place = self._places.get(tuple(name for name, _, _ in accounts))
        if place is not None:
            place.settle(0, units(cost))

    def _open(self, names: tuple[str, ...]) -> Place:
        if self._file is None:
            self._file = SpendingFile(Path(self._worker.node["data_dir"]), self.holder)
        if not self._slots:
            raise BudgetExceeded(f"this worker keeps {SLOTS} limits of money at a time, and all of them are in use")
        place = self._places[names] = Place(self._worker, self.holder, self._file, self._slots.pop())
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(IDLE_SECONDS / 2, self._look, context=Context())
        return place

    def _look(self) -> None:
        self._sweep = None
        now = time.monotonic()
        for names, place in list(self._places.items()):
            if place.is_idle and now - place.used_at > IDLE_SECONDS:
                self._close(names)
        if self._places:
            self._sweep = asyncio.get_running_loop().call_later(IDLE_SECONDS / 2, self._look, context=Context())

    def give_back(self, message: GiveBack) -> None:
        """Let others have what lies in purses of some accounts."""
        wanted = set(message.accounts)
        for names, place in self._places.items():
            if wanted & set(names):
                place.tighten()

    def end_run(self, run_id: str) -> None:
        """Close the purses of a run that is over."""
        for names, place in list(self._places.items()):
            if place.is_idle and any(name.startswith("run:") and run_of(name) == run_id for name in names):
                self._close(names)

    def _close(self, names: tuple[str, ...]) -> None:
        self._worker.spawn(self._close_slot(self._places.pop(names)))

    async def _close_slot(self, place: Place) -> None:
        while True:
            with contextlib.suppress(SupervisorsError):
                kind, _ = await self._worker.call(SPENDING, CloseSlot(self.holder, place.slot))
                if kind == "ok":
                    break
            await asyncio.sleep(WAIT_SECONDS)
            with contextlib.suppress(SupervisorsError):
                await ensure(self._worker, spending_spec())
        place.clear()
        self._slots.append(place.slot)


@contextlib.contextmanager
def _calling(function: Callable[[], None]) -> Iterator[None]:
    """Call a function unless the block is over very soon."""
    timer = asyncio.get_running_loop().call_later(KEEP_TURN_SECONDS, function, context=Context())
    try:
        yield
    finally:
        timer.cancel()


#: The wallet of this process, if it is a worker.
_wallets: list[Wallet] = []


def has_limits() -> bool:
    """Whether the request that is about to be made may be limited; costs next to nothing where it is not."""
    ledger = current_ledger()
    if ledger is not None and ledger.budget is not None:
        return bool(_wallets)
    return bool(_wallets) and _wallets[0].is_limited


async def hold_for(
    call: Call,
    deployment: Deployment,
    body: bytes,
    left: Callable[[Call], float],
    step_back: Callable[[], None],
    *,
    is_needed: bool = True,
    in_batch: bool = False,
) -> bool:
    """Hold back for a call what its request may cost, from all limits that it counts for.

    Where it has to wait for money, it gives back its turn meanwhile: others can use that, and it would be over.

    Args:
        call: gets what is held.
        deployment: who is asked.
        body: the request as it is sent.
        left: returns the seconds that the call may wait.
        step_back: gives back what else the call has for its request, which is not made then.
        is_needed: without this request its example has no result; False: of a second one that is made to be quicker.
        in_batch: it is billed as a request in a batch.

    Returns:
        Whether it still has its turn.

    Raises:
        BudgetExceeded: there is not so much left.
        ConfigError: its price is not known, and such requests are refused.
        LMError: nobody knows yet, and it may not wait longer.
    """
    has_turn = True

    def give_back() -> None:
        nonlocal has_turn
        if has_turn:
            has_turn = False
            step_back()
            call.no_probe()

    try:
        call.hold = await _hold(call, deployment, body, left, give_back, in_batch=in_batch)
    except BudgetExceeded as error:
        give_back()
        ledger = current_ledger()
        if is_needed and ledger is not None:
            ledger.refused = error
        raise
    except BaseException:
        give_back()
        raise
    return has_turn


async def _hold(
    call: Call,
    deployment: Deployment,
    body: bytes,
    left: Callable[[Call], float],
    before_waiting: Callable[[], None],
    *,
    in_batch: bool,
) -> Hold | None:
    """Return what is held; None: there is no limit, or it is free."""
    money = await _money(call, deployment, body, left, before_waiting, in_batch=in_batch)
    ledger = current_ledger()
    limit = None if ledger is None or ledger.budget is None else ledger.budget.calls
    if ledger is None or limit is None or is_counted(ledger):
        return money
    try:
        calls = await _wallets[0].count(limit, left(call), before_waiting)
    except BaseException:
        if money is not None:
            money.give_back()
        raise
    return Hold(None, 0, calls) if money is None else money.beside(calls)


async def _money(
    call: Call,
    deployment: Deployment,
    body: bytes,
    left: Callable[[Call], float],
    before_waiting: Callable[[], None],
    *,
    in_batch: bool,
) -> Hold | None:
    """Return the money that is held; None: there is no limit, or it is free."""
    wallet, ledger = _wallets[0], current_ledger()
    if wallet.known is not None:
        try:
            async with asyncio.timeout(left(call)):
                with _calling(before_waiting):
                    await wallet.known.wait()
        except TimeoutError:
            raise DeadlineExceeded(
                "the configuration has not told which limits of money hold", retryable=True
            ) from None
    accounts = wallet.accounts(ledger, call.tags)
    if not accounts:
        return None
    prompt, reply = most_tokens(body, call.messages, call.params)
    tier = BATCH if in_batch else call.params.get("service_tier")
    amount = most(
        deployment.provider, deployment.model_name, prompt, reply,
        tier=tier, is_sure=in_batch, listed=deployment.at_home,
    )  # fmt: skip
    if amount is None:
        budget = None if ledger is None else ledger.budget
        is_days = budget is None or budget.account is None  # its run says nothing of money
        policy = wallet.day.unknown_price if budget is None or is_days else budget.unknown_price
        if policy == "refuse":
            unknown = unknown_price(deployment.model)
            if ledger is not None:  # a run waits until somebody tells the price
                ledger.refused = BudgetExceeded(unknown.message)
            raise unknown
        _warn_once(deployment.model)
        return None
    return await wallet.hold(accounts, amount, left(call), before_waiting) if amount else None


def unpriced(asked: Iterable[tuple[str, str, str | None, bool]]) -> list[str]:
    """Return the models whose price is not known here.

    Args:
        asked: provider, model, tier, and whether it is the provider's own server.
    """
    rows = {(provider, model, tier, listed) for provider, model, tier, listed in asked}
    return sorted(f"{row[0]}/{row[1]}" for row in rows if most(*row[:2], 1, 1, tier=row[2], listed=row[3]) is None)


@functools.cache
def _warn_once(model: str) -> None:
    _log.warning("the price of %s is not known: its requests count for no limit of money", model)


def end_run(run_id: str) -> None:
    """Close the purses of a run that is over, in this process."""
    for wallet in _wallets:
        wallet.end_run(run_id)
