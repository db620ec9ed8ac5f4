"""Runs of a node that has died go on at another one, where all have one journal; nobody does anything for it.

While a node lives its keeper says under which name it writes the journal. When the membership says that it is down,
the others look for runs that are running there under that name. Who claims one first has it: the journal refuses the
second, and whatever the first node writes should it come back. A node that has lost more others than it still sees may
be the one that is cut off: it takes only what nobody writes on. What its workers, and those of other nodes, were asking
is taken over by the run's next evaluator. The runs of a node's optimisation are where that is: who claims it has them,
too, and its coordinator goes on with it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from dspex_actors.errors import ConfigError, DspexError
from dspex_actors.journal.base import JournalBase
from dspex_actors.journal.errors import Fenced, JournalError
from dspex_actors.journal.records import RunRow
from dspex_actors.journal.sameness import HELD, is_nodes_own
from dspex_actors.names import RUNS
from dspex_actors.runs.datasets.store import Copies
from dspex_actors.runs.keeper.optimising import revive
from supervisors import GenServer, Ref
from supervisors.cluster.handle import others_of
from supervisors.cluster.membership.messages import (
    FULL,
    MEMBERSHIP,
    Lookup,
    Member,
    NodeChanged,
    NodeDown,
    NodeUp,
    Subscribe,
)
from supervisors.errors import SupervisorsError

#: Those who could take a run over begin one after the other, so many seconds apart.
APART_SECONDS = 0.3
#: The membership is looked for this often, in seconds: this node may join others at any time.
LOOK_SECONDS = 1.0
#: A membership that was started anew takes all others to be down until it hears of them; so long, in seconds.
MISSED_SECONDS = 10.0
#: A node, or a journal, that does not answer is asked again after so many seconds.
AGAIN_SECONDS = 0.5
#: Who has lost more nodes within so many seconds than it still sees leaves a run that is written on: so long it looks.
RECENT_SECONDS, QUIET_SECONDS = 60.0, 5.0


class TakeOver:
    """Takes runs over, for the keeper of runs of one node.

    Args:
        keeper: the keeper.
        journal: its journal.
        go_on: has a run that was claimed go on here.
    """

    def __init__(self, keeper: GenServer, journal: JournalBase, go_on: Callable[[RunRow], Awaitable[object]]) -> None:
        """Know nobody yet."""
        self._keeper, self._journal, self._go_on = keeper, journal, go_on
        self._membership: Ref | None = None
        self._me = str(keeper.node["name"])
        self._copies = Copies(Path(keeper.node["data_dir"]))
        self._members: dict[str, Member] = {}
        #: Node → what it is called in the journal, and those that are just being asked.
        self._owners: dict[str, str] = {}
        self._learning: set[str] = set()
        #: When others went down, in seconds of the loop's clock.
        self._fell: dict[str, float] = {}
        self._is_reviving = False

    @property
    def others(self) -> list[str]:
        """The other nodes that are up and write this journal."""
        return [node for node in self._owners if self._members[node].is_up]

    @property
    def is_shared(self) -> bool:
        """Whether other nodes go on with what this one leaves: it does so itself, too, if it is back before them."""
        return self._journal.is_far and bool(others_of(Path(self._keeper.node["data_dir"])))

    def begin(self) -> None:
        """Have the membership tell of nodes; nothing where this node's journal is its own."""
        if self._journal.is_far:
            self._keeper.spawn(self._keep_looking())

    async def _keep_looking(self) -> None:
        while True:
            await self._subscribe()
            await asyncio.sleep(LOOK_SECONDS)

    async def _subscribe(self) -> None:
        """Have the membership tell of nodes, if there is one, or another one than before."""
        ref = await self._keeper.whereis(MEMBERSHIP)
        if ref is None or ref == self._membership:
            return
        with contextlib.suppress(SupervisorsError):
            members = await self._keeper.call(ref, Subscribe(self._keeper.ref))
            is_another, self._membership = self._membership is not None, ref
            for member in members:
                self._is(member)
            if is_another:
                self._keeper.spawn(self._take_missed())

    async def _take_missed(self) -> None:
        """Take over from nodes that have died while no membership was there to tell of it."""
        await asyncio.sleep(MISSED_SECONDS)
        for node in [node for node in self._owners if not self._members[node].is_up]:
            self._keeper.spawn(self._take(node, self._owners.pop(node)))

    def hear(self, message: NodeUp | NodeDown | NodeChanged) -> None:
        """Take in what the membership tells."""
        self._is(message.member)
        if isinstance(message, NodeDown) and message.member.name in self._owners:
            self._keeper.spawn(self._take(message.member.name, self._owners.pop(message.member.name)))

    def _is(self, member: Member) -> None:
        before = self._members.get(member.name)
        self._members[member.name] = member
        if member.is_up:
            self._fell.pop(member.name, None)
        elif before is not None and before.is_up:
            self._fell[member.name] = asyncio.get_running_loop().time()
        is_new = before is None or not before.is_up or before.incarnation != member.incarnation
        if member.name == self._me or member.role != FULL or not member.is_up:
            return  # a node that only works has no runs
        if (is_new or member.name not in self._owners) and member.name not in self._learning:
            self._learning.add(member.name)
            self._keeper.spawn(self._learn(member.name))

    async def _learn(self, node: str) -> None:
        """Ask a node what it is called in the journal."""
        try:
            while (member := self._members[node]).is_up:
                try:
                    keeper = await self._keeper.call(MEMBERSHIP, Lookup(node, RUNS))
                    kind, owner = await self._keeper.call(keeper, ("owner",))
                except SupervisorsError:
                    await asyncio.sleep(AGAIN_SECONDS)
                    continue
                if self._members[node].incarnation != member.incarnation:
                    continue  # it was another one that has answered
                if kind == "ok" and owner:
                    self._owners[node] = owner
                return
        finally:
            self._learning.discard(node)

    async def _take(self, node: str, owner: str) -> None:
        able = sorted(name for name, member in self._members.items() if member.is_up and member.role == FULL)
        await asyncio.sleep(APART_SECONDS * (able.index(self._me) if self._me in able else len(able)))
        seen: dict[str, int] = {}
        while not self._members[node].is_up:
            try:
                running = await asyncio.to_thread(self._journal.list_runs, state="running")
            except JournalError:
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            rows = _to_take(running, owner)
            written = {row.run_id: _written(row, running) for row in rows}
            idle = (
                [row for row in rows if seen.get(row.run_id) == written[row.run_id]] if self._may_be_cut_off() else rows
            )
            try:
                for row in idle:
                    await self._take_run(row, node)
            except JournalError as error:  # away again: those that are taken already are this node's
                self._keeper.log.warning("runs of a node that is down wait for the journal", node=node, why=str(error))
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            if len(idle) == len(rows):
                return
            seen = written
            await asyncio.sleep(QUIET_SECONDS)

    def revive(self, running: Sequence[RunRow]) -> None:
        """Have this node's coordinator go on with the optimisations among runs that are its own."""
        if not self._is_reviving and any(is_nodes_own(row.spec) and self._journal.has(row) for row in running):
            self._is_reviving = True
            self._keeper.spawn(self._revive())

    async def _revive(self) -> None:
        try:
            await revive(self._keeper)  # it looks at all there is then, also at what came meanwhile
        finally:
            self._is_reviving = False

    def _may_be_cut_off(self) -> bool:
        """Whether more others have just gone than are left, this node among them."""
        now = asyncio.get_running_loop().time()
        gone = sum(now - at < RECENT_SECONDS for at in self._fell.values())
        return gone > sum(member.is_up for member in self._members.values())

    async def _take_run(self, row: RunRow, node: str) -> None:
        is_own = is_nodes_own(row.spec)
        try:
            if not is_own:  # that has its examples in its row
                await asyncio.to_thread(self._copies.open, row.spec.dataset)
        except (DspexError, OSError) as error:
            self._keeper.log.warning("a run is not taken over: its dataset is not here", run=row.run_id, why=str(error))
            return
        try:
            claimed = await asyncio.to_thread(self._journal.take_over, row, force=True)
        except (Fenced, ConfigError):
            return  # another node has it
        self._keeper.log.warning("a run is taken over from a node that is down", run=row.run_id, node=node)
        if is_own:
            self.revive([claimed])
            return
        while True:
            try:
                with contextlib.suppress(ConfigError, Fenced):  # it is written down why; another node has it
                    await self._go_on(claimed)
                return
            except JournalError:  # it is this node's by now: nobody else looks for it
                await asyncio.sleep(AGAIN_SECONDS)


def _to_take(running: Sequence[RunRow], owner: str) -> list[RunRow]:
    """Return what another node may take: not what goes on with its program, nor what its optimisation brings along."""
    parents = {row.run_id for row in running if is_nodes_own(row.spec)}
    return [
        row
        for row in running
        if row.owner == owner
        and row.spec.parent_id not in parents
        and (row.spec.kind not in HELD or row.run_id in parents)
    ]


def _written(row: RunRow, running: Sequence[RunRow]) -> int:
    """Return a number that rises with all that is written on a run, or on those of an optimisation."""
    return row.seq + sum(one.seq for one in running if one.spec.parent_id == row.run_id)
