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
from dspex_actors.journal.copies import make_whole
from dspex_actors.journal.deleted import delete_copy
from dspex_actors.journal.errors import Fenced, JournalError, NotHere
from dspex_actors.journal.family import claim_family, head_of, rest_of
from dspex_actors.journal.records import RunRow
from dspex_actors.journal.replicas import REPLICAS, too_few
from dspex_actors.journal.sameness import HELD, is_nodes_own
from dspex_actors.journal.store import Appended, Batch
from dspex_actors.runs.datasets.store import Copies
from dspex_actors.runs.messages import NO_ROWS, Add, End
from dspex_actors.runs.standby.afterwards import Afterwards
from dspex_actors.runs.standby.claims import asked_of, lease_of, may_claim
from dspex_actors.runs.standby.coordination import Coordination, note_of
from dspex_actors.runs.standby.looking import LOOK_SECONDS, Looking
from supervisors import GenServer, Ref
from supervisors.cluster.leases.handle import AsyncLeases, LeaseEnded
from supervisors.cluster.leases.messages import LEASES, Delete, Put, Read
from supervisors.cluster.membership.messages import FULL, MEMBERSHIP, Member, NodeChanged, NodeDown, NodeUp, Subscribe
from supervisors.errors import LeaseHeld, SupervisorsError

#: So many batches of a run with copies are on their way at once.
DEPTH = 4
#: A lease is waited for so many seconds when a run is to begin.
LEASE_SECONDS = 10.0
#: A node that is stopped waits so many seconds for its last word to be in its copies.
LAST_SECONDS = 2.0


class Leading(Looking):
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
        #: Runs and those of their steps → who keeps them in sync: the same one for all of an optimisation.
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
        return note_of(self._led, nodes) or (too_few(self._told, nodes) if self.is_on else [])

    def hear(self, message: Any) -> None:
        """Take in what the membership, or the server of leases, tells."""
        match message:
            case NodeUp(member) | NodeChanged(member) | NodeDown(member):
                self._members[member.uid] = member
                if isinstance(message, NodeUp):
                    self.afterwards.is_up(member)
                for run in self._led:
                    run.news()
            case LeaseEnded(name=name, epoch=epoch):
                for run in self._led:
                    if run.holding.name == name and run.holding.epoch == epoch:
                        self._keeper.spawn(self._claim_again(run.run_id))

    @property
    def _led(self) -> list[Coordination]:
        return [run for run_id, run in self._runs.items() if run.run_id == run_id]

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
        is_held = row.spec.kind in HELD and not is_nodes_own(row.spec)
        if row.state == "finished" or is_held or not await self.look():
            return self._journal.take_over(row, force=force)
        if (head := head_of(self._journal, row)) != row.run_id:
            return await self._take_part(row, head)
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

    async def _take_part(self, row: RunRow, head: str) -> RunRow:
        """Have a run of an optimisation be under the lease of that.

        Raises:
            NotHere: the optimisation is not led here.
        """
        async with self._lock(head):
            run, above = self._runs.get(head), self._journal.get_run(head)
            if run is None:
                if row.claimed or above is None or above.claimed:
                    raise NotHere(f"run {row.run_id} goes on with optimisation {head}, which does not go on here now")
                return row
            if row.claimed != run.holding.epoch:
                row = self._journal.claim(row.run_id, run.holding.epoch, self._me)
            self._runs[row.run_id] = run
            run.add(row.run_id)
            return row

    async def lead(self, request: Any) -> None:
        """Have a node's optimisation be this node's before something is done with it, or begun for it.

        Raises:
            NotHere: as `take`.
        """
        run_id, states = asked_of(request)
        row = None if run_id is None or run_id in self._runs else self._journal.get_run(run_id)
        if row is not None and is_nodes_own(row.spec) and row.state in states and (row.claimed or "running" in states):
            await self.take(row, force=False)

    async def delete(self, row: RunRow) -> None:
        """Delete a run; of one that was under a lease, all copies.

        Raises:
            ConfigError: it goes on elsewhere, or that cannot be told now.
        """
        above = self._journal.get_run(head_of(self._journal, row))
        if (row.claimed or (above is not None and above.claimed)) and await self.look():
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
        family = [] if there is None else [there, *rest_of(self._journal, there)]
        above = max((one.claimed - (one.owner == self._me) for one in family), default=0)
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
            for one in (before, *rest_of(self._journal, before)):
                make_whole(self._journal, one.run_id)
            row = claim_family(self._journal, before, holding.epoch, self._me)
        except BaseException:
            await holding.release()
            raise
        parts = [(part.run_id, part.state != "running") for part in rest_of(self._journal, row)]
        self._lost -= {run_id, *(part for part, _ in parts)}
        old = self._runs.get(run_id)
        if old is not None and old.holding.epoch == holding.epoch:
            old.holding = holding  # it was only late: what was asked for under this epoch may still come true
            return old, row
        if old is not None:
            self._forget(old)
            old.end()
        run = Coordination(
            self._keeper, self._journal, run_id, holding, self._me, agreed or [], version, self._replicas,
            lambda: list(self._members.values()), parts,
        )  # fmt: skip
        self._runs.update(dict.fromkeys(run.run_ids, run))
        return run, row

    def _forget(self, run: Coordination) -> None:
        for run_id in run.run_ids:
            if self._runs.get(run_id) is run:
                del self._runs[run_id]

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
            case End(run_id) | ("open", run_id) | ("workflow", "step" | "end" | "give up", run_id, *_):
                row = self._journal.get_run(run_id)
                self.may_write(run_id, 0 if row is None else row.claimed)

    def wrote(self, run_id: str, appended: Appended, batch: Batch, packed: bytes) -> None:
        """Take note that a batch is in this node's journal."""
        if (run := self._runs.get(run_id)) is not None:
            run.wrote(run_id, appended.seq, batch, packed)

    async def settled(self, request: Any) -> None:
        """Return when what a request has changed is on the disks of all who have to have it.

        Raises:
            JournalError: it is not yet; says why.
            Fenced: the run is another node's.
        """
        ends = False
        match request:
            case Add(run_id) | ("open" | "dataset", run_id, *_) | ("workflow", "reopen" | "step", run_id, *_):
                run = self._runs.get(run_id)
            case (
                End(run_id)
                | ("cancel" | "pause", run_id, *_)
                | ("workflow", "end" | "give up" | "limits", run_id, *_)
                | ("workflow", "enlist", {"run_id": run_id}, _)
            ):
                run, ends = self._runs.get(run_id), True
            case _:
                return
        if run is None:
            return
        which = None if run.run_id == run_id and not isinstance(request, Add) else run_id
        if not isinstance(request, Add):
            run.note(which)
        elif request.rows == NO_ROWS:
            run.check_own()
        try:
            await run.counted(which)
        finally:
            if ends:
                await self._let_go(run, run_id)

    async def _let_go(self, run: Coordination, run_id: str) -> None:
        """End what a request has ended: of parts, that they are looked at; of all, as soon as it counts."""
        row = self._journal.get_run(run_id)
        if row is not None and row.state == "running":
            return
        if run.run_id != run_id:
            run.is_over(run_id)
        elif run.sync.all_counts:
            await self._end(run)
        else:
            self._keeper.spawn(self._end_later(run))

    async def _end_later(self, run: Coordination) -> None:
        """Let go of a run that is over when all of it counts, unless it goes on before."""
        while self._runs.get(run.run_id) is run and not run.is_fenced:
            row = self._journal.get_run(run.run_id)
            if row is not None and row.state == "running":
                return
            if run.sync.all_counts:
                await self._end(run)
                return
            await asyncio.sleep(LOOK_SECONDS)

    async def _end(self, run: Coordination) -> None:
        """Let go of a run that is over, or paused."""
        if self._runs.get(run.run_id) is run:
            self._forget(run)
            run.end()
            row = self._journal.get_run(run.run_id)
            if row is None or row.state == "finished":  # nobody claims it any more
                with contextlib.suppress(SupervisorsError):
                    await self._keeper.call(LEASES, Delete(run.holding.name), timeout=5.0)
            await run.holding.release()

    async def stop(self, why: str) -> None:
        """Pause what this node coordinates, and have that in the copies: the node is being stopped."""
        runs = self._led
        for run_id, run in list(self._runs.items()):
            row = self._journal.get_run(run_id)
            if row is not None and row.state == "running":
                self._journal.set_state(run_id, "paused", why)
                run.note(run_id)
        with contextlib.suppress(DspexError, SupervisorsError, TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                await asyncio.gather(*(run.counted() for run in runs), return_exceptions=True)
                await asyncio.gather(*(self._end(run) for run in runs), return_exceptions=True)
