"""A node's part in the leases of a cluster: which group it is in, who is to vote, and what has changed elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from supervisors.cluster.leases.alone import FileStore
from supervisors.cluster.leases.between import at_most
from supervisors.cluster.leases.clock import now
from supervisors.cluster.leases.core import Raise, Table
from supervisors.cluster.leases.mail import Mail
from supervisors.cluster.leases.voters import plan_voters
from supervisors.cluster.leases.voting import ANSWER_SECONDS, NEWS_SECONDS, VotingStore
from supervisors.cluster.membership import file
from supervisors.cluster.membership.messages import DRAINING, FULL, MEMBERSHIP, Member, Members
from supervisors.genserver import GenServer
from supervisors.terms.errors import SupervisorsError
from supervisors.terms.ref import Ref
from supervisors.wire.values import unpack

#: How often it is looked who is there, and by a node that does not vote who does, in seconds.
LOOK_SECONDS, AGAIN_SECONDS = 1.0, 10.0
#: The files of a voter and of a node alone, in the folder of leases.
VOTER, ALONE = "voter", "alone"
#: A file that says that others have been in this node's group.
SHARED = "shared"


class VotingMember:
    """What a server of leases does beside its store.

    Args:
        server: the server.
        folder: of its files.
        join: "host:port" of a node whose cluster is joined.
    """

    def __init__(self, server: GenServer, folder: Path, join: str | None) -> None:
        """Know nothing yet."""
        self._server, self._folder, self._join = server, folder, join
        self._data_dir = Path(server.node["data_dir"])
        self._me = file.load(self._data_dir).uid
        self._mail = Mail(server, self._me)
        self._down_since: dict[str, float] = {}
        self._floor = 0
        self._follows = False
        self._is_oriented = asyncio.Event()
        #: Whether its group was that of a cluster already, in this run or an earlier one.
        self._has_shared = (folder / SHARED).exists()
        self._oriented_at = 0.0

    async def open(self) -> VotingStore:
        """Return the store of this node: of the group that it is in, or of one that it begins.

        Raises:
            OSError: its file cannot be opened.
        """
        self.store = VotingStore(self._folder / VOTER, self._me, self._mail, self._server.log)
        members: list[Member] = await self._server.call(MEMBERSHIP, Members())
        table = await self._table_alone()
        self.store.is_joining = self._join is not None
        has_left = file.has_left(self._data_dir)
        if has_left:
            (self._folder / SHARED).unlink(missing_ok=True)
            self._has_shared = False
            if self._join is None and self.store.group:  # of a cluster that this node belongs to no more
                table.apply(Raise("", highest_of(self.store)))
                self.store.forget()
        if not self.store.group and self._join is None and all(member.uid == self._me for member in members):
            self.store.found(table)
        else:
            self._floor = table.highest  # perhaps it was alone since, and is back
        if has_left:
            file.settle(self._data_dir)
        return self.store

    async def _table_alone(self) -> Table:
        if not (self._folder / ALONE).exists():
            return Table()
        alone = FileStore(self._folder / ALONE)
        await alone.close()
        return alone.table

    def start(self) -> None:
        """Look who is there, from now on."""
        self._server.spawn(self._attend())

    def take(self, group: str, sender: str, message: tuple[Any, ...], ref: Ref) -> None:
        """Take in what another voter says."""
        self._mail.learn(sender, ref)
        self.store.take(group, sender, message)

    async def _attend(self) -> None:
        while True:
            try:
                members: list[Member] = await self._server.call(MEMBERSHIP, Members())
                self._plan(members)
                if self._join is None and len(members) > 1 and not self._has_shared:
                    self._has_shared = True
                    with contextlib.suppress(OSError):  # a full disk: it says so elsewhere
                        (self._folder / SHARED).touch(mode=0o600)
                await self._orient([m.uid for m in members if m.is_up and m.role == FULL and m.uid != self._me])
            except SupervisorsError as error:
                self._server.log.debug("nothing is known of the others", error=str(error))
            await asyncio.sleep(LOOK_SECONDS)

    def _plan(self, members: list[Member]) -> None:
        nodes = {}
        for member in members:
            if member.is_up:
                self._down_since.pop(member.uid, None)
            else:
                self._down_since.setdefault(member.uid, now())
            if member.role == FULL and member.state != DRAINING:
                nodes[member.uid] = now() - self._down_since[member.uid] if member.uid in self._down_since else 0.0
        self.store.wish(lambda voters: plan_voters(voters, nodes))

    async def _orient(self, others: list[str]) -> None:
        """Learn who votes, where this node is none of them, and leave a group that is not that of the cluster.

        One that voted and hears of nobody who leads asks too: while it was down others may have taken its place, and
        by now be all that vote.
        """
        store = self.store
        if self._join is None and store.known and now() < self._oriented_at + AGAIN_SECONDS:
            return
        votes = bool(store.group and store.raft.voters)
        if (votes and store.raft.leader and self._join is None) or not others:
            await self._raise_floor()
            return
        if self._has_shared and store.raft.leader not in ("", self._me):
            self._is_in()  # this process follows another one: others of its group are here
        random.shuffle(others)
        for uid in others[:3]:
            try:
                group, voters, leader = await self._mail.ask(uid, ("about", ""), 2.0)
            except SupervisorsError:
                continue
            if not group or not voters or (votes and self._join is None and not leader):
                continue
            if store.group and group != store.group and self._join is not None:
                self._server.log.warning("the leases that this node had alone are given up: it has joined others")
                self._floor = max(self._floor, store.table.highest)
                store.forget()
            self._is_in()
            store.orient(group, tuple(voters))
            self._oriented_at = now()
            break
        await self._raise_floor()

    def _is_in(self) -> None:
        self._join, self.store.is_joining = None, False  # it stays
        self._is_oriented.set()

    async def ready(self) -> None:
        """Return when it is sure whose leases count here, and that no epoch comes twice.

        Raises:
            NoMajority: it is not, yet.
        """
        is_alone = self.store.raft.voters == (self._me,) and not self._has_shared
        if self._join is not None and is_alone:  # what it has may be its own alone
            async with at_most(ANSWER_SECONDS, "this node has just joined others, and none has told yet who votes"):
                await self._is_oriented.wait()
        if self._floor:
            async with at_most(ANSWER_SECONDS):
                while self._floor:
                    await self._raise_floor()
                    await asyncio.sleep(0.05)

    async def _raise_floor(self) -> None:
        """Have epochs of leases that this node has given alone never come again."""
        if self._floor and self.store.group:
            await self.store.do(Raise("", self._floor))
            self._floor = 0

    # --- changes ----------------------------------------------------------------------------------------------------

    def follow(self, changed: Callable[[str, str], None]) -> None:
        """Have changes told that this node does not see itself, because it has no copy of the table."""
        if not self._follows:
            self._follows = True
            self._server.spawn(self._follow(changed))

    async def _follow(self, changed: Callable[[str, str], None]) -> None:
        since = -1
        while True:
            if self._me in self.store.raft.voters and self.store.raft.leader:  # it sees them all
                since = -1
                await asyncio.sleep(LOOK_SECONDS)
                continue
            try:
                revision, news = await self.store.ask("news", since, NEWS_SECONDS + 2.0)
            except SupervisorsError:
                await asyncio.sleep(LOOK_SECONDS)
                continue
            if since >= 0:
                for kind, name in news:
                    changed(kind, name)
            since = revision


def highest_of(store: VotingStore) -> int:
    """Return an epoch that no lease in a store's file is above: each entry has given one more at most."""
    snapshot = store.raft.snapshot
    return (Table.from_plain(unpack(snapshot.data)).highest if snapshot.data else 0) + len(store.raft.log)
