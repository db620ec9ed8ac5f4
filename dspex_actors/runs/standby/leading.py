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
from typing import Any

from dspex_actors.errors import ConfigError, DspexError
from dspex_actors.journal.base import JournalBase
from dspex_actors.journal.deleted import delete_copy
from dspex_actors.journal.errors import Fenced, JournalError, NotHere
from dspex_actors.journal.family import head_of
from dspex_actors.journal.records import RunRow, RunSpec
from dspex_actors.journal.replicas import REPLICAS, too_few
from dspex_actors.journal.sameness import HELD, check_goes_on, check_same, is_nodes_own
from dspex_actors.journal.store import Appended, Batch
from dspex_actors.runs.messages import Add, End
from dspex_actors.runs.standby.afterwards import Afterwards
from dspex_actors.runs.standby.claiming import Claiming
from dspex_actors.runs.standby.claims import asked_of
from dspex_actors.runs.standby.coordination import note_of
from dspex_actors.runs.standby.led import Led
from dspex_actors.runs.standby.looking import Looking
from dspex_actors.runs.standby.settling import Settling
from supervisors import GenServer, Ref
from supervisors.cluster.leases.handle import LeaseEnded
from supervisors.cluster.membership.messages import FULL, MEMBERSHIP, Member, NodeChanged, NodeDown, NodeUp, Subscribe
from supervisors.errors import LeaseHeld, SupervisorsError

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
        self._keeper, self._journal = keeper, journal
        self._told, self._replicas = replicas, replicas or REPLICAS
        self._membership: Ref | None = None
        self._members: dict[str, Member] = {}
        self._led = led = Led()
        self._claiming = Claiming(keeper, journal, led, lambda: self._members, self._replicas)
        self._settling = Settling(keeper, journal, led)
        self.settled = self._settling.settled
        self.afterwards = Afterwards(keeper, journal, self._others, led, self._claiming.lock)
        self._looking = Looking(
            keeper, journal, led, self._claiming, lambda: self._members, self.afterwards.complete, go_on
        )

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
            for part in (self._looking, self._settling, self.afterwards):
                self._keeper.spawn(part.keep_looking())
        return True

    async def attend(self) -> list[str]:
        """Do what `look` does; return what people should know of this node's runs: nothing, or one line."""
        await self.look()
        nodes = 1 + len(self._others())
        return note_of(self._led.heads, nodes) or (too_few(self._told, nodes) if self.is_on else [])

    def hear(self, message: Any) -> None:
        """Take in what the membership, or the server of leases, tells."""
        match message:
            case NodeUp(member) | NodeChanged(member) | NodeDown(member):
                self._members[member.uid] = member
                if isinstance(message, NodeUp):
                    self.afterwards.is_up(member)
                for run in self._led.heads:
                    run.news()
            case LeaseEnded(name=name, epoch=epoch):
                for run in self._led.heads:
                    if run.holding.name == name and run.holding.epoch == epoch:
                        self._keeper.spawn(self._claiming.claim_again(run.run_id))

    def _others(self) -> list[Member]:
        return [m for m in self._members.values() if m.uid != self._journal.owner and m.role == FULL and m.is_up]

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
        async with self._claiming.lock(row.run_id):
            if row.run_id in self._led:
                return row
            try:
                wait = LEASE_SECONDS if self._journal.has(row) else 0.0
                run, row = await self._claiming.claim(row.run_id, wait, force=force)
            except LeaseHeld:
                raise NotHere(
                    f"run {row.run_id} goes on at another node of the cluster: pause it there first"
                ) from None
            except (SupervisorsError, Fenced) as error:
                raise NotHere(f"run {row.run_id} cannot be taken: {error.message}; try again later") from None
            await run.first()
            return row

    async def _take_part(self, row: RunRow, head: str) -> RunRow:
        """Have a run of an optimisation be under the lease of that.

        Raises:
            NotHere: the optimisation is not led here.
        """
        async with self._claiming.lock(head):
            run, above = self._led.get(head), self._journal.get_run(head)
            if run is None:
                if row.claimed or above is None or above.claimed:
                    raise NotHere(f"run {row.run_id} goes on with optimisation {head}, which does not go on here now")
                return row
            if row.claimed != run.holding.epoch:
                row = self._journal.claim(row.run_id, run.holding.epoch, self._journal.owner)
            self._led.add_part(row.run_id, run)
            return row

    async def lead(self, request: Any) -> None:
        """Have a run be this node's before something is done with it that its copies have to know, or begun for it.

        Raises:
            NotHere: as `take`.
            ConfigError: what is asked for is another run than the one that is there, or that was cancelled.
        """
        run_id, states = asked_of(request)
        row = None if run_id is None or run_id in self._led else self._journal.get_run(run_id)
        if row is None or row.state not in states:
            return
        if request[0] == "create" and run_id == request[1]["run_id"]:  # before anything is claimed
            check_same(row.spec, RunSpec(**request[1]), force=request[2])
            check_goes_on(row, force=request[2])
        head = self._journal.get_run(head_of(self._journal, row)) or row
        is_programs = head.spec.kind in HELD and not is_nodes_own(head.spec)
        if not is_programs and (head.claimed or "running" in states):
            await self.take(head, force=False)

    async def delete(self, row: RunRow) -> None:
        """Delete a run; of one that was under a lease, all copies.

        Raises:
            ConfigError: it goes on elsewhere, or that cannot be told now; or it is a step of what goes on here.
        """
        head = self._journal.get_run(head_of(self._journal, row)) or row
        if (row.claimed or head.claimed) and await self.look():
            if head.run_id != row.run_id and head.run_id in self._led:
                raise ConfigError(f"run {row.run_id} is of optimisation {head.run_id}, which goes on: pause that first")
            await self.afterwards.delete(row, head.run_id)
        elif self._journal.is_far:
            self._journal.delete_run(row.run_id)
        else:
            delete_copy(self._journal, row.run_id, row.created_at, time.time())

    def copies_of(self, row: RunRow) -> list[str]:
        """Return the names of the nodes that may go on with a run of this one."""
        run = self._led.get(row.run_id)
        uids = set() if run is None else run.sync.required - {self._journal.owner}
        return [member.name for member in self._members.values() if member.uid in uids and member.is_up]

    def depth_of(self, run_id: str) -> int:
        """Return how many batches of a run may be on their way at once: those with copies take a way to other nodes."""
        return DEPTH if run_id in self._led else 1

    def may_write(self, run_id: str, claimed: int) -> None:
        """Refuse to write a run under a lease that this node does not have.

        Raises:
            JournalError: it does not have it at present.
            Fenced: another node has the run.
        """
        if not claimed or self._journal.is_far or run_id in self._led:
            return
        if self._led.is_lost(run_id):
            raise Fenced(f"run {run_id} belongs to another node now; this one writes it no more")
        row = None if self._journal.is_leased else self._journal.get_run(run_id)
        if row is None or not self._journal.has(row):  # its keeper has just begun, and knows of no cluster yet
            raise JournalError("the run waits for its lease, which tells who has it")

    def has(self, row: RunRow) -> bool:
        """Whether a run that goes on does so on this node."""
        return self._journal.has(row) and not (self._journal.is_leased and row.claimed and row.run_id not in self._led)

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
        if (run := self._led.get(run_id)) is not None:
            run.wrote(run_id, appended.seq, batch, packed)

    async def stop(self, why: str) -> None:
        """Pause what this node coordinates, and have that in the copies: the node is being stopped."""
        runs = self._led.heads
        for run_id in self._led.run_ids:
            row, run = self._journal.get_run(run_id), self._led.get(run_id)
            if run is not None and row is not None and row.state == "running":
                self._journal.set_state(run_id, "paused", why)
                run.note(run_id)
        with contextlib.suppress(DspexError, SupervisorsError, TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                await asyncio.gather(*(run.counted() for run in runs), return_exceptions=True)
                await asyncio.gather(*(self._settling.end(run) for run in runs), return_exceptions=True)
