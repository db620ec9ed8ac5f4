"""Runs whose node has died: they are looked for, and gone on with by one of the nodes that have all of them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

from dspex_actors.errors import ConfigError, DspexError
from dspex_actors.journal.base import JournalBase
from dspex_actors.journal.copies import Leased, leased_runs, set_aside
from dspex_actors.journal.errors import Fenced
from dspex_actors.journal.family import rest_of
from dspex_actors.journal.records import RunRow
from dspex_actors.journal.sameness import is_nodes_own
from dspex_actors.runs.datasets.store import Copies
from dspex_actors.runs.standby.afterwards import Afterwards
from dspex_actors.runs.standby.claims import lease_of, may_claim
from dspex_actors.runs.standby.coordination import Coordination
from supervisors import GenServer
from supervisors.cluster.leases.handle import AsyncLeases
from supervisors.cluster.leases.messages import LEASES, Read
from supervisors.cluster.membership.messages import Member
from supervisors.errors import LeaseHeld, SupervisorsError

#: Runs that nobody seems to coordinate are looked for this often, in seconds.
LOOK_SECONDS = 1.0
#: A run that nobody has a lease of, though its node is up, may be taken after so many seconds.
FREE_SECONDS = 6.0
#: A copy that is in sync no more, of a run that nobody coordinates, is set aside after so many seconds.
ASIDE_SECONDS = 20.0


class Looking:
    """What `Leading` does for runs that it does not lead; it makes these attributes, and has these methods."""

    _keeper: GenServer
    _journal: JournalBase
    _go_on: Callable[[RunRow], Awaitable[object]]
    _leases: AsyncLeases
    _copies: Copies
    _members: dict[str, Member]
    _runs: dict[str, Coordination]
    _free_since: dict[str, float]
    _lost: set[str]
    afterwards: Afterwards

    @property
    def _me(self) -> str:
        return self._journal.owner

    def _lock(self, run_id: str) -> asyncio.Lock:
        raise NotImplementedError

    async def _claim(self, run_id: str, wait: float) -> tuple[Coordination, RunRow]:
        raise NotImplementedError

    def _forget(self, run: Coordination) -> None:
        raise NotImplementedError

    async def _keep_looking(self) -> None:
        while True:
            try:
                for run in leased_runs(self._journal):
                    if run.run_id not in self._runs:
                        try:
                            await self._look_at(run)
                        except DspexError as error:  # of this one; the others need not wait for it
                            self._keeper.log.info("a run is looked at later", run=run.run_id, why=error.message)
            except (DspexError, SupervisorsError) as error:
                self._keeper.log.info("runs of other nodes are looked at later", why=error.message)
            await asyncio.sleep(LOOK_SECONDS)

    async def _look_at(self, leased: Leased) -> None:
        """Go on with a run that nobody coordinates, if this node may."""
        run_id, now = leased.run_id, time.monotonic()
        owner = self._members.get(leased.owner)
        is_gone = leased.owner == self._me or owner is None or not owner.is_up
        since = self._free_since.setdefault(run_id, now)
        if self._lock(run_id).locked():
            return
        if not is_gone and now < since + FREE_SECONDS:
            return
        lease = await self._leases.get(lease_of(run_id))
        if lease.holder:
            self._free_since[run_id] = now
            return
        agreed, version = await self._keeper.call(LEASES, Read(lease_of(run_id)), timeout=5.0)
        if not may_claim(self._me, agreed, version, 1, leased.owner):
            is_complete = await self.afterwards.complete(run_id, agreed if version else None)
            if not is_complete and now > since + ASIDE_SECONDS:
                set_aside(self._journal, run_id, "it went on at another node, and its copy here is not in sync")
            return
        await self._go_on_with(run_id, leased.owner)

    async def _go_on_with(self, run_id: str, owner: str) -> None:
        row = self._journal.get_run(run_id)
        if row is None:
            return
        try:
            if not is_nodes_own(row.spec):  # that has its examples in its row
                await asyncio.to_thread(self._copies.open, row.spec.dataset)
        except (DspexError, OSError) as error:
            self._keeper.log.warning("a run is not taken over: its dataset is not here", run=run_id, why=str(error))
            self._free_since[run_id] = time.monotonic()
            return
        async with self._lock(run_id):
            if run_id in self._runs:
                return
            try:
                _, row = await self._claim(run_id, 0.0)
            except (ConfigError, Fenced, LeaseHeld):
                return  # another node has it
        self._free_since.pop(run_id, None)
        if owner != self._me:
            name = self._members[owner].name if owner in self._members else owner
            self._keeper.log.warning("a run is taken over from a node that is down", run=run_id, node=name)
        for one in [row, *rest_of(self._journal, row)]:  # of parts those that are under way here still
            if one.state == "running":
                with contextlib.suppress(ConfigError, Fenced):  # it is written down why; another node has it
                    await self._go_on(one)

    async def _claim_again(self, run_id: str) -> None:
        """Acquire the lease of a run again that this node has lost: with another epoch, if nobody else has had it."""
        self._keeper.log.warning("the lease of a run is lost", run=run_id)
        while (run := self._runs.get(run_id)) is not None:
            async with self._lock(run_id):
                try:
                    await self._claim(run_id, 0.0)
                    return
                except (ConfigError, Fenced, LeaseHeld):
                    self._forget(run)
                    self._lost.update(run.run_ids)
                    run.fence()
                    return
                except SupervisorsError:
                    pass
            await asyncio.sleep(LOOK_SECONDS)
