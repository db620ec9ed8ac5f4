"""A node claims runs: their leases are acquired, and what it has of them must be all that counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from dspex_actors.errors import ConfigError, DspexError
from dspex_actors.journal.base import JournalBase
from dspex_actors.journal.copies import make_whole
from dspex_actors.journal.errors import Fenced, NotHere
from dspex_actors.journal.family import claim_family, rest_of
from dspex_actors.journal.records import RunRow
from dspex_actors.runs.standby.claims import lease_of, may_claim
from dspex_actors.runs.standby.coordination import Coordination
from dspex_actors.runs.standby.led import Led
from supervisors import GenServer
from supervisors.cluster.leases.handle import AsyncLeases
from supervisors.cluster.leases.messages import LEASES, Put, Read
from supervisors.cluster.membership.messages import Member
from supervisors.errors import LeaseHeld, SupervisorsError

#: A lease that was lost is asked for again after so many seconds.
AGAIN_SECONDS = 1.0


class Claiming:
    """Claims runs, for the keeper of runs of one node.

    Args:
        keeper: the keeper.
        journal: its journal.
        led: the runs that the node coordinates: what is claimed comes to these.
        members: returns the members of the cluster, by uid.
        replicas: how many nodes are to have each run.
    """

    def __init__(
        self,
        keeper: GenServer,
        journal: JournalBase,
        led: Led,
        members: Callable[[], Mapping[str, Member]],
        replicas: int,
    ) -> None:
        """Claim nothing yet."""
        self._keeper, self._journal, self._led = keeper, journal, led
        self._members, self._replicas = members, replicas
        self._locks: dict[str, asyncio.Lock] = {}
        self.leases = AsyncLeases(keeper)

    def lock(self, run_id: str) -> asyncio.Lock:
        """Return the lock under which a run is claimed here."""
        return self._locks.setdefault(run_id, asyncio.Lock())

    async def claim(self, run_id: str, wait: float, *, force: bool = False) -> tuple[Coordination, RunRow]:
        """Acquire a run's lease, and claim it with its epoch; the caller has its lock.

        Args:
            run_id: the run.
            wait: how long to wait for a lease that another node has, in seconds.
            force: claim it also where its copy here is not in sync.

        Raises:
            SupervisorsError: the lease cannot be had.
            NotHere: the copy here is not in sync.
        """
        name, there = lease_of(run_id), self._journal.get_run(run_id)
        me = self._journal.owner
        family = [] if there is None else [there, *rest_of(self._journal, there)]
        above = max((one.claimed - (one.owner == me) for one in family), default=0)
        holding = await self.leases.acquire(name, wait=wait, above=above)
        try:
            agreed, version = await self._keeper.call(LEASES, Read(name), timeout=5.0)
            before = self._journal.get_run(run_id)
            if before is None:
                raise ConfigError(f"no run {run_id!r} here: `dspex runs` lists them")
            if not force and not may_claim(me, agreed, version, before.claimed, before.owner):
                raise self._not_in_sync(run_id, agreed or ())
            if not version:  # a run that was under a lease, and of which nothing is said, is over: nobody claims it
                version = await self._keeper.call(LEASES, Put(name, [me], 0, name, holding.epoch), timeout=5.0)
                agreed = [me]
            for one in (before, *rest_of(self._journal, before)):
                make_whole(self._journal, one.run_id)
            row = claim_family(self._journal, before, holding.epoch, me)
        except BaseException:
            await holding.release()
            raise
        old = self._led.get(run_id)
        if old is not None and old.holding.epoch == holding.epoch:
            old.holding = holding  # it was only late: what was asked for under this epoch may still come true
            return old, row
        if old is not None:
            self._led.forget(old)
            old.end()
        parts = [(part.run_id, part.state != "running") for part in rest_of(self._journal, row)]
        run = Coordination(
            self._keeper, self._journal, run_id, holding, me, agreed or [], version, self._replicas,
            lambda: list(self._members().values()), parts,
        )  # fmt: skip
        self._led.add(run)
        return run, row

    def _not_in_sync(self, run_id: str, agreed: list[str] | tuple[()]) -> NotHere:
        members = self._members()
        names = [members[uid].name for uid in agreed if uid in members]
        return NotHere(
            f"the copy of run {run_id} on this node is not in sync: resume it on "
            f"{' or '.join(names) or 'its node'}, or use --force-resume, which loses what is missing here"
        )

    async def claim_again(self, run_id: str) -> None:
        """Acquire the lease of a run again that this node has lost: with another epoch, if nobody else has had it."""
        self._keeper.log.warning("the lease of a run is lost", run=run_id)
        while (run := self._led.get(run_id)) is not None:
            async with self.lock(run_id):
                try:
                    await self.claim(run_id, 0.0)
                    return
                except (ConfigError, Fenced, LeaseHeld):
                    self._led.lose(run)
                    return
                except (SupervisorsError, DspexError) as error:  # nobody knows who has it, or the disk is full
                    self._keeper.log.info("a lease is acquired later", run=run_id, why=error.message)
            await asyncio.sleep(AGAIN_SECONDS)
