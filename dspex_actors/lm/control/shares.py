"""A node's shares of accounts of money, where it belongs to a cluster; `foundation.shares` decides.

The accounts are values in the cluster's store of leases, `money:ACCOUNT`. What is asked of the store is asked one after
the other; whatever it does not answer counts as not had, and as given away.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from dspex_actors.foundation.shares import Account, Verdict
from dspex_actors.lm.control.spending_messages import SPENDING, ShareBack
from supervisors import GenServer
from supervisors.cluster.branch import ensure_leases
from supervisors.cluster.handle import AsyncCluster, own_uid
from supervisors.cluster.leases.messages import LEASES, Delete, Put, Read
from supervisors.errors import NodeDown, SupervisorsError, VersionConflict

#: What the value of an account is called.
MONEY = "money:"
#: Names of accounts that are longer are told by their digest.
MOST_NAME = 200
#: The store has to answer within so many seconds; if it has not, it is left in peace for so many.
ANSWER_SECONDS, PEACE_SECONDS = 3.0, 1.0
#: Other nodes are asked to give back at most this often, in seconds.
ASK_SECONDS = 0.2
#: Who was asked gives back what comes in for so long, and looks this often, in seconds.
TIGHT_SECONDS, TURN_SECONDS = 2.0, 0.1


class Shares:
    """The shares of one node.

    Args:
        server: its owner of limits of money.
        used: account → what of it was spent here, or is with workers; and whether all of that is spent.
    """

    def __init__(self, server: GenServer, used: Callable[[str], tuple[int, bool]]) -> None:
        """Have none."""
        self._server, self._used = server, used
        self._uid = ""
        #: Account → what may be spent of it here in all.
        self.most: dict[str, int] = {}
        self._spent: dict[str, bool] = {}
        self._turn = asyncio.Lock()
        self._failed_at = -PEACE_SECONDS
        self._asked: dict[str, float] = {}
        self._tight: dict[str, float] = {}

    def __contains__(self, account: str) -> bool:
        """Whether an account is known to be shared."""
        return account in self.most

    async def claim(self, account: str, known: Callable[[bool], None], *, creates: bool) -> bool:
        """Begin to give of an account; return whether it is there.

        Args:
            account: its name.
            known: told whether other nodes have counted it before; what was spent here is known when it returns.
            creates: it is made if it is not there.

        Raises:
            SupervisorsError: nothing is known.
        """
        async with self._turn:
            if account in self.most:
                return True
            self._uid = self._uid or own_uid(Path(self._server.node["data_dir"]))

            def change(found: Account, version: int) -> Account | None:
                if not version and not creates:
                    return None
                known(version > 0)
                return found.claimed(self._uid, self._used(account)[0])

            new = await self._change(account, change)
            if new is None:
                return False
            self._has(account, new)
            return True

    async def enlarge(self, account: str, need: int, want: int, limit: int) -> tuple[Verdict, int]:
        """Get more of an account; return what became of it, and what is spent of it on other nodes.

        Raises:
            SupervisorsError: nothing is known.
        """
        async with self._turn:
            gone: set[str] = set()
            while True:
                told: tuple[Verdict, int] = ("wait", 0)

                def change(found: Account, _: int, gone: set[str] = gone) -> Account | None:
                    nonlocal told
                    used = self._used(account)[0]
                    verdict, new, theirs = found.raised(self._uid, used, need, want, limit, gone)
                    told = verdict, theirs
                    self._others = found.holders(self._uid, gone)
                    return new if verdict == "given" else None

                new = await self._change(account, change)
                if new is not None:
                    self._has(account, new)
                if told[0] != "wait":
                    return told
                more = await self._ask_back(account, self._others) - gone
                if not more:
                    return told
                gone |= more

    async def give_back(self, accounts: list[str]) -> None:
        """Let other nodes have what lies here, as it comes in, for a while."""
        mine = [account for account in accounts if account in self.most]
        until = time.monotonic() + TIGHT_SECONDS
        begins = [account for account in mine if account not in self._tight]
        self._tight |= dict.fromkeys(mine, until)
        if not begins:
            return
        try:
            while any(time.monotonic() < self._tight[account] for account in begins):
                await asyncio.sleep(TURN_SECONDS)
                for account in begins:
                    await self.lower(account)
        finally:
            for account in begins:
                self._tight.pop(account, None)

    async def lower(self, account: str) -> None:
        """Give back what lies in a share."""
        async with self._turn:
            used, is_spent = self._used(account)
            if account not in self.most or (used >= self.most[account] and is_spent == self._spent.get(account)):
                return
            # First here: what is told to the store may be there though it does not answer.
            self.most[account], self._spent[account] = used, is_spent
            try:
                await self._change(account, lambda found, _: found.lowered(self._uid, used, is_spent=is_spent))
            except SupervisorsError as error:
                self._spent.pop(account)  # it is tried again
                self._server.log.info("a share was not given back", account=account, error=str(error))

    async def forget(self, account: str, *, is_over: bool) -> None:
        """Have an account no more: nobody has spent of it here for long.

        Args:
            account: its name.
            is_over: nobody will, on whatever node; else it stays where another one may have something of it.

        Raises:
            SupervisorsError: it may be there still.
        """
        async with self._turn:
            self.most.pop(account, None)
            self._spent.pop(account, None)
            await ensure_leases(self._server)
            plain, version = await self._ask(Read(_name(account)))
            mine = self._uid or own_uid(Path(self._server.node["data_dir"]))
            if version and (is_over or not Account.of(plain).holders(mine, ())):
                with contextlib.suppress(VersionConflict):  # somebody spends of it after all
                    await self._ask(Delete(_name(account), version))

    # --- inside -----------------------------------------------------------------------------------------------------

    def _has(self, account: str, new: Account) -> None:
        share = new.shares[self._uid]
        self.most[account], self._spent[account] = share.most, share.is_spent

    async def _change(self, account: str, change: Callable[[Account, int], Account | None]) -> Account | None:
        """Change an account by compare and set; return it as it is then. None: it is left as it is."""
        if time.monotonic() - self._failed_at < PEACE_SECONDS:
            raise SupervisorsError("the cluster's store gives no answer")
        try:
            await ensure_leases(self._server)
            while True:
                plain, version = await self._ask(Read(_name(account)))
                new = change(Account.of(plain), version)
                if new is None:
                    return None
                try:
                    await self._ask(Put(_name(account), new.plain(), version))
                except VersionConflict:
                    continue
                return new
        except SupervisorsError:
            self._failed_at = time.monotonic()
            raise

    def _ask(self, request: Any) -> Awaitable[Any]:
        return self._server.call(LEASES, request, timeout=ANSWER_SECONDS)

    async def _ask_back(self, account: str, others: list[str]) -> set[str]:
        """Ask other nodes to give back; return those that are gone."""
        now = time.monotonic()
        if now - self._asked.get(account, -ASK_SECONDS) < ASK_SECONDS:
            return set()
        self._asked[account] = now
        cluster = AsyncCluster(self._server)
        here = {member.uid: member for member in await cluster.members()}
        gone = {uid for uid in others if uid not in here or not here[uid].is_up}
        for uid in set(others) - gone:
            try:
                self._server.cast(await cluster.lookup(uid, SPENDING), ShareBack([account]))
            except NodeDown:
                gone.add(uid)
            except SupervisorsError as error:
                self._server.log.info("a node cannot be asked to give back", node=uid, error=str(error))
        return gone


def _name(account: str) -> str:
    """Return the name of the value of an account."""
    if len(account) <= MOST_NAME:
        return MONEY + account
    return f"{MONEY}{account[:MOST_NAME]}#{hashlib.sha256(account.encode()).hexdigest()[:16]}"
