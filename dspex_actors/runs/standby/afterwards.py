"""Copies of runs that have ended, or were deleted, while this node was away: they are completed, and deleted.

A run that goes on brings its copies up to date by itself (`sender`); nobody does for one that is over. So a node looks
whether a run that has not ended here, and that nobody coordinates, has ended elsewhere, and takes in by the log what it
lacks. What was deleted is written down by all nodes that were there, and asked of them by those that were not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Container
from typing import NamedTuple

from dspex_actors.errors import ConfigError, DspexError
from dspex_actors.journal.base import JournalBase
from dspex_actors.journal.copies import Portion, Stand, stale_runs, stand_of, take_portion
from dspex_actors.journal.deleted import Deleted, delete_copy, forget_deleted
from dspex_actors.journal.records import RunRow
from dspex_actors.names import RUNS
from dspex_actors.runs.standby.claims import lease_of
from dspex_actors.runs.standby.messages import DropRun, GetDeleted, GetEnd, GetParts, GetPortion
from dspex_actors.runs.standby.sender import ANSWER_SECONDS, opened
from supervisors import GenServer, Ref
from supervisors.cluster.leases.handle import AsyncLeases
from supervisors.cluster.leases.messages import LEASES, Delete, Read
from supervisors.cluster.membership.messages import MEMBERSHIP, Lookup, Member
from supervisors.errors import LeaseHeld, SupervisorsError

#: It is looked for something to do this often; a copy that could not be completed is tried again after `FIRST_PAUSE`,
#: then after ever longer times, up to `LAST_PAUSE`. In seconds.
LOOK_SECONDS, FIRST_PAUSE, LAST_PAUSE, LONGER = 1.0, 2.0, 1800.0, 1.3
#: Each other node is asked what was deleted when it is up, and again after so many seconds.
ASK_SECONDS = 60.0
#: What was deleted long ago is forgotten this often, in seconds.
FORGET_SECONDS = 3600.0
#: Of a run that is to be deleted, a lease is waited for so many seconds.
LEASE_SECONDS = 5.0


class _Source(NamedTuple):
    """A node that has the end of a run."""

    stand: Stand
    keeper: Ref
    name: str
    is_same: bool


class Afterwards:
    """What becomes of a node's copies when their runs are over.

    Args:
        keeper: the keeper of runs.
        journal: its journal.
        others: returns the other full nodes that are up.
        coordinated: the runs that this node coordinates.
        lock: returns the lock under which a run is claimed here.
    """

    def __init__(
        self,
        keeper: GenServer,
        journal: JournalBase,
        others: Callable[[], list[Member]],
        coordinated: Container[str],
        lock: Callable[[str], asyncio.Lock],
    ) -> None:
        """Know of nothing yet."""
        self._keeper, self._journal, self._others, self._coordinated = keeper, journal, others, coordinated
        self._lock = lock
        self._leases = AsyncLeases(keeper)
        #: Run → when its copy is looked at again, and how long after that.
        self._due: dict[str, tuple[float, float]] = {}
        #: Node → the last of its deletions that is known here; and when it is asked again.
        self._heard: dict[str, int] = {}
        self._ask_at: dict[str, float] = {}
        self._forget_at = 0.0
        #: Called with each run that is deleted here.
        self.deleted: Callable[[RunRow], None] = lambda row: None

    async def keep_looking(self) -> None:
        """Look for what there is to do, as long as the keeper lives."""
        while True:
            for step in (self._forget_deleted, self._hear_of_deleted, self._complete_stale):
                try:
                    await step()
                except (DspexError, SupervisorsError) as error:
                    self._keeper.log.info("copies of runs that are over are looked at later", why=error.message)
            await asyncio.sleep(LOOK_SECONDS)

    async def _forget_deleted(self) -> None:
        if time.monotonic() >= self._forget_at:
            forget_deleted(self._journal, time.time())
            self._forget_at = time.monotonic() + FORGET_SECONDS

    def is_up(self, member: Member) -> None:
        """Take note that a node has come up: it may have what copies here lack, and know what was deleted."""
        self._due.clear()
        self._ask_at.pop(member.uid, None)

    # --- completing -------------------------------------------------------------------------------------------------

    async def _complete_stale(self) -> None:
        for run_id, head in await asyncio.to_thread(stale_runs, self._journal):
            if run_id in self._coordinated or not self._is_due(run_id):
                continue
            if (await self._leases.get(lease_of(head))).holder:
                continue
            agreed, version = await self._keeper.call(LEASES, Read(lease_of(head)), timeout=5.0)
            if self._journal.owner not in (agreed or ()):
                await self.complete(run_id, agreed if version else None)
            else:
                self._not_now(run_id)

    def _is_due(self, run_id: str) -> bool:
        return time.monotonic() >= self._due.get(run_id, (0.0, 0.0))[0]

    def _not_now(self, run_id: str) -> None:
        pause = self._due.get(run_id, (0.0, FIRST_PAUSE))[1]
        self._due[run_id] = time.monotonic() + pause, min(LONGER * pause, LAST_PAUSE)

    async def complete(self, run_id: str, agreed: list[str] | None) -> bool:
        """Bring the copy of a run that nobody coordinates to its end; return whether that was possible.

        Args:
            run_id: the run.
            agreed: the nodes that have all of it, by uid; None: those where it is finished.
        """
        if not self._is_due(run_id):
            return False
        self._not_now(run_id)
        sources = [one for member in self._others() if (one := await self._source(run_id, member, agreed)) is not None]
        if not sources:
            return False
        source = max(sources, key=lambda one: (one.stand.claimed, one.stand.seq))
        async with self._lock(run_id):
            if run_id in self._coordinated or not await self._take_in_parts(run_id, source):
                return False
            if not await self._take_in(run_id, source):  # last: until then it is looked at again
                return False
        self._due.pop(run_id, None)
        self._keeper.log.info("the copy of a run that is over was completed", run=run_id, node=source.name)
        return True

    async def _source(self, run_id: str, member: Member, agreed: list[str] | None) -> _Source | None:
        try:
            keeper: Ref = await self._keeper.call(MEMBERSHIP, Lookup(member.uid, RUNS))
            state, source = await self._end_at(run_id, keeper, member.name)
        except (SupervisorsError, DspexError):
            return None  # it has no such run, or is just going away
        has_end = state in ("finished", "cancelled") if agreed is None else state != "running" and member.uid in agreed
        mine = stand_of(self._journal, run_id)
        return source if has_end and source is not None and source.stand.created_at == mine.created_at else None

    async def _end_at(self, run_id: str, keeper: Ref, name: str) -> tuple[str, _Source | None]:
        """Return the state of a run on a node, and the node as its source; None: nothing is there that this one lacks.

        Raises:
            DspexError: there is no such run.
        """
        mine = stand_of(self._journal, run_id)
        state, fields, epoch = opened(await self._keeper.call(keeper, GetEnd(run_id, mine.seq), ANSWER_SECONDS))
        theirs = Stand(*fields)
        is_same = (
            mine.created_at in (0.0, theirs.created_at)
            and mine.seq <= theirs.seq
            and mine.epoch == epoch
            and mine.claimed <= theirs.claimed
        )
        has_all = is_same and mine.is_whole and mine[:2] == theirs[:2]
        if not theirs.is_whole or theirs.claimed < mine.claimed or has_all:
            return state, None
        return state, _Source(theirs, keeper, name, is_same)

    async def _take_in_parts(self, run_id: str, source: _Source) -> bool:
        """Bring the copies of what an optimisation has made to where they are on a node; return whether all are."""
        are_whole = True
        for part in opened(await self._keeper.call(source.keeper, GetParts(run_id), ANSWER_SECONDS)):
            _, one = await self._end_at(part, source.keeper, source.name)
            are_whole &= one is None or await self._take_in(part, one)
        return are_whole

    async def _take_in(self, run_id: str, source: _Source) -> bool:
        anew = not source.is_same
        while True:
            mine = stand_of(self._journal, run_id)
            request = GetPortion(run_id, 0 if anew else mine.seq)
            portion = Portion(*opened(await self._keeper.call(source.keeper, request, ANSWER_SECONDS)))
            after = take_portion(self._journal, run_id, source.stand.claimed, mine, portion, anew=anew)
            if after.seq != portion.seq:
                return False  # somebody else has brought something
            if portion.is_last:
                return True
            anew = False

    # --- deleting ---------------------------------------------------------------------------------------------------

    async def delete(self, row: RunRow, head: str) -> None:
        """Delete a run that has, or may have, copies: here, on all nodes that are up, and later on those that are not.

        Args:
            row: the run.
            head: whose lease it has: of a run of an optimisation that, else its own.

        Raises:
            ConfigError: it goes on elsewhere, or that cannot be told now; nothing is deleted.
        """
        name = lease_of(head)
        try:
            holding = await self._leases.acquire(name, wait=LEASE_SECONDS)
        except LeaseHeld:
            raise ConfigError(
                f"run {head} goes on at another node of the cluster: pause or cancel it there first"
            ) from None
        except SupervisorsError as error:
            raise _not_deleted(row.run_id, error) from None
        try:
            if head == row.run_id:
                await self._keeper.call(LEASES, Delete(name), timeout=5.0)  # nobody may go on with it
            async with self._lock(row.run_id):
                delete_copy(self._journal, row.run_id, row.created_at, time.time())
            await asyncio.gather(*(self._tell(DropRun(row.run_id, row.created_at), other) for other in self._others()))
        except SupervisorsError as error:
            raise _not_deleted(row.run_id, error) from None
        finally:
            await holding.release()

    async def _tell(self, message: DropRun, member: Member) -> None:
        try:
            keeper: Ref = await self._keeper.call(MEMBERSHIP, Lookup(member.uid, RUNS))
            opened(await self._keeper.call(keeper, message, ANSWER_SECONDS))
        except (SupervisorsError, DspexError) as error:  # it asks what was deleted
            self._keeper.log.info("a copy is deleted later", run=message.run_id, node=member.name, why=error.message)

    async def drop(self, run_id: str, created_at: float) -> bool:
        """Delete the copy of a run that was deleted elsewhere; return whether there was one."""
        if run_id in self._coordinated:
            return False  # somebody has forced it to go on here
        async with self._lock(run_id):
            row = self._journal.get_run(run_id)
            if not delete_copy(self._journal, run_id, created_at, time.time()) or row is None:
                return False
        self._due.pop(run_id, None)
        self._keeper.log.info("the copy of a run that was deleted is deleted", run=run_id)
        self.deleted(row)
        return True

    async def _hear_of_deleted(self) -> None:
        now = time.monotonic()
        due = [member for member in self._others() if self._ask_at.get(member.uid, 0.0) <= now]
        for member in due:
            self._ask_at[member.uid] = now + ASK_SECONDS
            keeper: Ref = await self._keeper.call(MEMBERSHIP, Lookup(member.uid, RUNS))
            number = self._heard.get(member.uid, 0)
            told = opened(await self._keeper.call(keeper, GetDeleted(number), ANSWER_SECONDS))
            for one in (Deleted(*fields) for fields in told):
                await self.drop(one.run_id, one.created_at)
                self._heard[member.uid] = one.number
            if told:
                self._ask_at[member.uid] = now  # there may be more


def _not_deleted(run_id: str, error: SupervisorsError) -> ConfigError:
    return ConfigError(f"run {run_id} cannot be deleted now: {error.message}; delete it later")
