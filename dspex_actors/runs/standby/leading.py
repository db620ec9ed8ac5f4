"""The runs of this node that others have copies of, and the copies that this node has: who goes on with what.

In a cluster whose nodes have each their own journal a run is claimed by a lease, `run:ID`, with its epoch. Who is in
sync is a value of the same name. A node whose coordinator has died is followed by one of those in sync: it acquires the
lease when its time is over, claims the run in its own journal, and goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from dspex_actors.errors import ConfigError, DspexError
from dspex_actors.journal.base import JournalBase
from dspex_actors.journal.copies import Leased, leased_runs, make_whole, set_aside
from dspex_actors.journal.deleted import delete_copy
from dspex_actors.journal.errors import Fenced, JournalError, NotHere
from dspex_actors.journal.records import RunRow
from dspex_actors.journal.replicas import REPLICAS, too_few
from dspex_actors.journal.sameness import HELD
from dspex_actors.journal.store import Appended, Batch
from dspex_actors.runs.datasets.store import Copies
from dspex_actors.runs.messages import NO_ROWS, Add, End
from dspex_actors.runs.standby.afterwards import Afterwards
from dspex_actors.runs.standby.claims import lease_of, may_claim
from dspex_actors.runs.standby.coordination import Coordination, note_of
from supervisors import GenServer, Ref
from supervisors.cluster.leases.handle import AsyncLeases, LeaseEnded
from supervisors.cluster.leases.messages import LEASES, Delete, Put, Read
from supervisors.cluster.membership.messages import FULL, MEMBERSHIP, Member, NodeChanged, NodeDown, NodeUp, Subscribe
from supervisors.errors import LeaseHeld, SupervisorsError

#: Runs that nobody seems to coordinate are looked for this often, in seconds.
LOOK_SECONDS = 1.0
#: A run that nobody has a lease of, though its node is up, may be taken after so many seconds.
FREE_SECONDS = 6.0
#: A copy that is in sync no more, of a run that nobody coordinates, is set aside after so many seconds.
ASIDE_SECONDS = 20.0
#: So many batches of a run with copies are on their way at once.
DEPTH = 4
#: A lease is waited for so many seconds when a run is to begin.
LEASE_SECONDS = 10.0
#: A node that is stopped waits so many seconds for its last word to be in its copies.
LAST_SECONDS = 2.0


class Leading:
    """Runs under leases, for the keeper of runs of one node.

    Args:
        keeper: the keeper.
        journal: its journal.
        go_on: has a run that was claimed go on here.
        replicas: how many nodes are to have each run; None: 2.
        joined: called when this node turns out to be in a cluster.
    """

    def __init__(
        self,
        keeper: GenServer,
        journal: JournalBase,
        go_on: Callable[[RunRow], Awaitable[object]],
        replicas: int | None,
        joined: Callable[[], None] = lambda: None,
    ) -> None:
        """Know nobody yet."""
        self._joined = joined
        self._copies = Copies(Path(keeper.node["data_dir"]))
        self._keeper, self._journal, self._go_on = keeper, journal, go_on
        self._told, self._replicas = replicas, replicas or REPLICAS
        self._leases = AsyncLeases(keeper)
        self._membership: Ref | None = None
        self._members: dict[str, Member] = {}
        self._runs: dict[str, Coordination] = {}
        self._claiming: dict[str, asyncio.Lock] = {}
        self._free_since: dict[str, float] = {}
        #: Runs that were this node's, and go on elsewhere.
        self._lost: set[str] = set()
        self.afterwards = Afterwards(keeper, journal, self._others, self._runs, self._lock)

    @property
    def is_on(self) -> bool:
        """Whether this node is in a cluster whose nodes have each their own journal."""
        return self._membership is not None

    @property
    def _me(self) -> str:
        return self._journal.owner

    # --- the cluster ------------------------------------------------------------------------------------------------

    async def look(self) -> bool:
        """Have the membership tell of nodes, if there is one, or another one than before; say whether there is."""
        if self._journal.is_far:
            return False
        ref = await self._keeper.whereis(MEMBERSHIP)
        if ref is None or ref == self._membership:
            return ref is not None
        try:
            members = await self._keeper.call(ref, Subscribe(self._keeper.ref))
        except SupervisorsError:
            return self.is_on
        was_on, self._membership = self.is_on, ref
        self._journal.is_leased = True
        me = str(self._keeper.node["name"])
        self._members = {member.uid: member for member in members}
        self._journal.owner = next(member.uid for member in members if member.name == me)
        if not was_on:
            self._joined()
            self._keeper.spawn(self._keep_looking())
            self._keeper.spawn(self.afterwards.keep_looking())
        return True

    async def attend(self) -> list[str]:
        """Do what `look` does; return what people should know of this node's runs: nothing, or one line."""
        await self.look()
        nodes = 1 + len(self._others())
        return note_of(list(self._runs.values()), nodes) or (too_few(self._told, nodes) if self.is_on else [])

    def hear(self, message: Any) -> None:
        """Take in what the membership, or the server of leases, tells."""
        match message:
            case NodeUp(member) | NodeChanged(member) | NodeDown(member):
                self._members[member.uid] = member
                if isinstance(message, NodeUp):
                    self.afterwards.is_up(member)
                for run in self._runs.values():
                    run.news()
            case LeaseEnded(name=name, epoch=epoch):
                for run_id, run in list(self._runs.items()):
                    if run.holding.name == name and run.holding.epoch == epoch:
                        self._keeper.spawn(self._claim_again(run_id))

    def _others(self) -> list[Member]:
        return [m for m in self._members.values() if m.uid != self._me and m.role == FULL and m.is_up]

    # --- runs of this node ------------------------------------------------------------------------------------------

    async def take(self, row: RunRow, *, force: bool) -> RunRow:
        """Have a run be this node's before it goes on; one that is finished stays as it is.

        Args:
            row: the run.
            force: take it also where its copy here is not in sync, or, without a cluster, from another node.

        Raises:
            NotHere: it goes on at another node, its copy here is not in sync, or no lease of it can be had.
        """
        if row.state == "finished" or row.spec.kind in HELD or not await self.look():
            return self._journal.take_over(row, force=force)
        if not row.claimed and self._journal.has(row) and (self._replicas == 1 or not self._others()):
            return row
        async with self._lock(row.run_id):
            if row.run_id in self._runs:
                return row
            try:
                run, row = await self._claim(row.run_id, LEASE_SECONDS if self._journal.has(row) else 0.0, force=force)
            except LeaseHeld:
                raise NotHere(
                    f"run {row.run_id} goes on at another node of the cluster: pause it there first"
                ) from None
            except (SupervisorsError, Fenced) as error:
                raise NotHere(f"run {row.run_id} cannot be taken: {error.message}; resume it later") from None
            await run.first()
            return row

    async def delete(self, row: RunRow) -> None:
        """Delete a run; of one that was under a lease, all copies.

        Raises:
            ConfigError: it goes on elsewhere, or that cannot be told now.
        """
        if row.claimed and await self.look():
            await self.afterwards.delete(row)
        elif self._journal.is_far:
            self._journal.delete_run(row.run_id)
        else:
            delete_copy(self._journal, row.run_id, row.created_at, time.time())

    def _lock(self, run_id: str) -> asyncio.Lock:
        return self._claiming.setdefault(run_id, asyncio.Lock())

    async def _claim(self, run_id: str, wait: float, *, force: bool = False) -> tuple[Coordination, RunRow]:
        """Acquire a run's lease, and claim it with its epoch.

        Raises:
            SupervisorsError: the lease cannot be had.
            NotHere: the copy here is not in sync.
        """
        name, there = lease_of(run_id), self._journal.get_run(run_id)
        above = 0 if there is None else there.claimed - (there.owner == self._me)
        holding = await self._leases.acquire(name, wait=wait, above=above)
        try:
            agreed, version = await self._keeper.call(LEASES, Read(name), timeout=5.0)
            before = self._journal.get_run(run_id)
            if before is None:
                raise ConfigError(f"no run {run_id!r} here: `dspex runs` lists them")
            if not force and not may_claim(self._me, agreed, version, before.claimed, before.owner):
                names = [self._members[uid].name for uid in agreed or () if uid in self._members]
                raise NotHere(
                    f"the copy of run {run_id} on this node is not in sync: resume it on "
                    f"{' or '.join(names) or 'its node'}, or use --force-resume, which loses what is missing here"
                )
            if not version:  # a run that was under a lease, and of which nothing is said, is over: nobody claims it
                version = await self._keeper.call(LEASES, Put(name, [self._me], 0, name, holding.epoch), timeout=5.0)
                agreed = [self._me]
            make_whole(self._journal, run_id)
            row = self._journal.claim(run_id, holding.epoch, self._me)
        except BaseException:
            await holding.release()
            raise
        self._lost.discard(run_id)
        old = self._runs.get(run_id)
        if old is not None and old.holding.epoch == holding.epoch:
            old.holding = holding  # it was only late: what was asked for under this epoch may still come true
            return old, row
        if old is not None:
            old.end()
        run = self._runs[run_id] = Coordination(
            self._keeper, self._journal, run_id, holding, self._me, agreed or [], version, self._replicas,
            lambda: list(self._members.values()),
        )  # fmt: skip
        return run, row

    def copies_of(self, row: RunRow) -> list[str]:
        """Return the names of the nodes that may go on with a run of this one."""
        run = self._runs.get(row.run_id)
        uids = set() if run is None else run.sync.required - {self._me}
        return [member.name for member in self._members.values() if member.uid in uids and member.is_up]

    def depth_of(self, run_id: str) -> int:
        """Return how many batches of a run may be on their way at once: those with copies take a way to other nodes."""
        return DEPTH if run_id in self._runs else 1

    def may_write(self, run_id: str, claimed: int) -> None:
        """Refuse to write a run under a lease that this node does not have.

        Raises:
            JournalError: it does not have it at present.
            Fenced: another node has the run.
        """
        if not claimed or self._journal.is_far or not self._journal.is_leased or run_id in self._runs:
            return
        if run_id in self._lost:
            raise Fenced(f"run {run_id} belongs to another node now; this one writes it no more")
        raise JournalError("the run waits for its lease, which tells who has it")

    def has(self, row: RunRow) -> bool:
        """Whether a run that goes on does so on this node."""
        return self._journal.has(row) and not (self._journal.is_leased and row.claimed and row.run_id not in self._runs)

    def guard(self, request: Any) -> None:
        """Refuse what an evaluator asks for, where its run is not this node's at present, as `may_write` does."""
        match request:
            case Add(run_id, epoch):
                self.may_write(run_id, epoch)
            case End(run_id) | ("open", run_id):
                row = self._journal.get_run(run_id)
                self.may_write(run_id, 0 if row is None else row.claimed)

    def wrote(self, run_id: str, appended: Appended, batch: Batch, packed: bytes) -> None:
        """Take note that a batch is in this node's journal."""
        if (run := self._runs.get(run_id)) is not None:
            run.wrote(appended.seq, batch, packed)

    async def settled(self, request: Any) -> None:
        """Return when what a request has changed is on the disks of all who have to have it.

        Raises:
            JournalError: it is not yet; says why.
            Fenced: the run is another node's.
        """
        ends = False
        match request:
            case Add(run_id) | ("open" | "dataset", run_id, *_):
                run = self._runs.get(run_id)
            case End(run_id) | ("cancel" | "pause", run_id, *_):
                run, ends = self._runs.get(run_id), True
            case _:
                return
        if run is None:
            return
        if not isinstance(request, Add):
            run.note()
        elif request.rows == NO_ROWS:
            run.check_own()
        await run.counted()
        if ends:
            row = self._journal.get_run(run_id)
            if row is None or row.state != "running":
                await self._end(run)

    async def _end(self, run: Coordination) -> None:
        """Let go of a run that is over, or paused."""
        if self._runs.get(run.run_id) is run:
            del self._runs[run.run_id]
            run.end()
            row = self._journal.get_run(run.run_id)
            if row is None or row.state == "finished":  # nobody claims it any more
                with contextlib.suppress(SupervisorsError):
                    await self._keeper.call(LEASES, Delete(run.holding.name), timeout=5.0)
            await run.holding.release()

    async def stop(self, why: str) -> None:
        """Pause what this node coordinates, and have that in the copies: the node is being stopped."""
        runs = list(self._runs.values())
        for run in runs:
            row = self._journal.get_run(run.run_id)
            if row is not None and row.state == "running":
                self._journal.set_state(run.run_id, "paused", why)
            run.note()
        with contextlib.suppress(DspexError, SupervisorsError, TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                await asyncio.gather(*(run.counted() for run in runs), return_exceptions=True)
                await asyncio.gather(*(self._end(run) for run in runs), return_exceptions=True)

    # --- take-over --------------------------------------------------------------------------------------------------

    async def _keep_looking(self) -> None:
        while True:
            try:
                for run in leased_runs(self._journal):
                    if run.run_id not in self._runs and run.kind not in HELD:
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
        with contextlib.suppress(ConfigError, Fenced):  # it is written down why; another node has it
            await self._go_on(row)

    async def _claim_again(self, run_id: str) -> None:
        """Acquire the lease of a run again that this node has lost: with another epoch, if nobody else has had it."""
        self._keeper.log.warning("the lease of a run is lost", run=run_id)
        while (run := self._runs.get(run_id)) is not None:
            async with self._lock(run_id):
                try:
                    await self._claim(run_id, 0.0)
                    return
                except (ConfigError, Fenced, LeaseHeld):
                    self._runs.pop(run_id, None)
                    self._lost.add(run_id)
                    run.fence()
                    return
                except SupervisorsError:
                    pass
            await asyncio.sleep(LOOK_SECONDS)
