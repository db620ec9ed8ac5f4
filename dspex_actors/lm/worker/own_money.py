"""Money of LMs of the user's own: nobody knows beforehand what they cost, so it is taken off when they have answered.

Where it does not fit any more it is spent all the same, and nothing more is asked: a limit is passed by what was under
way at most. Of calls one is taken off before each, so that limit is not passed, but by those that are made from inside
an event loop without `await`: none of these waits, and after the first refusal none is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import Future

from dspex_actors.errors import BudgetExceeded, LMError
from dspex_actors.foundation.purses import CALLS_MADE
from dspex_actors.lm.attempts import Ledger
from dspex_actors.lm.worker.purse import AccountLimit, AccountLimits
from dspex_actors.lm.worker.spending import Wallet

#: Money that is held back for others is waited for so long, in seconds.
WAIT_SECONDS = 60.0
#: So long a call where the example may take for ever.
COUNT_SECONDS = 600.0
#: So many sets of accounts that are used up are known.
MOST_EMPTY = 1000


class OwnMoney:
    """The money of own LMs in one worker.

    Args:
        wallet: its purses.
        loop: the worker's.
    """

    def __init__(self, wallet: Wallet, loop: asyncio.AbstractEventLoop) -> None:
        """Begin with nothing spent."""
        self._wallet, self._loop = wallet, loop
        #: What is used up, by accounts and limits: with a larger one it is not.
        self._empty: dict[AccountLimits, BudgetExceeded] = {}

    def check(self, ledger: Ledger | None, tags: Mapping[str, str] | None) -> None:
        """Refuse a call where a limit that it counts for is used up.

        Raises:
            BudgetExceeded: it is; the call's example has no result.
        """
        if self._empty:
            self._refuse(ledger, self._wallet.accounts(ledger, tags))

    def _refuse(self, ledger: Ledger | None, accounts: AccountLimits) -> None:
        error = self._empty.get(accounts)
        if error is None:
            return
        mine = BudgetExceeded(error.message, spent=error.spent, budget=error.budget, run_id=error.run_id)
        if ledger is not None:
            ledger.refused = mine
        raise mine

    def count(self, ledger: Ledger) -> Future[None] | None:
        """Take a call off the limit of calls, from any thread; return what is done when it may be made."""
        limit = None if ledger.budget is None else ledger.budget.calls
        if limit is None:
            return None
        self._refuse(ledger, (limit,))  # one in an event loop does not wait for what is told later
        return asyncio.run_coroutine_threadsafe(self._count(ledger, limit), self._loop)

    def _is_empty(self, accounts: AccountLimits, error: BudgetExceeded) -> None:
        if len(self._empty) >= MOST_EMPTY:
            self._empty.clear()
        self._empty[accounts] = error

    async def _count(self, ledger: Ledger, limit: AccountLimit) -> None:
        try:
            place = await self._wallet.count(limit, ledger.left() or COUNT_SECONDS)
        except BudgetExceeded as error:
            if error.message.endswith(CALLS_MADE):  # else there is no room for another limit here, just now
                self._is_empty((limit,), error)
            ledger.refused = error
            raise
        place.settle(1, 1)  # it is made now, and nobody will know whether it was not

    def charge(self, ledger: Ledger | None, tags: Mapping[str, str] | None, cost: float) -> Future[None] | None:
        """Take off what a call has cost, in dollars, from any thread; return what is done then. None: no limit."""
        accounts = self._wallet.accounts(ledger, tags)
        return asyncio.run_coroutine_threadsafe(self._charge(accounts, cost), self._loop) if accounts else None

    async def _charge(self, accounts: AccountLimits, cost: float) -> None:
        try:
            hold = await self._wallet.hold(accounts, cost, WAIT_SECONDS)
        except (BudgetExceeded, LMError) as error:
            self._wallet.overspend(accounts, cost)
            if isinstance(error, BudgetExceeded):
                self._is_empty(accounts, error)
        else:
            hold.settle(cost)
