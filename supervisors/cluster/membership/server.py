"""The membership of a node: the shell around the core. It has the socket, the clock, the file and the subscribers."""

from __future__ import annotations

import asyncio
import math
import os
import random
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

from supervisors.cluster.membership import effects as do
from supervisors.cluster.membership import file
from supervisors.cluster.membership.core import Core
from supervisors.cluster.membership.datagrams import Datagrams
from supervisors.cluster.membership.doors import Doors, unreachable
from supervisors.cluster.membership.effects import Effect
from supervisors.cluster.membership.messages import (
    ALIVE,
    CORDONED,
    DOWN,
    DRAINING,
    MEMBERSHIP,
    Exchange,
    Join,
    Leave,
    Lookup,
    Member,
    Members,
    NodeChanged,
    NodeDown,
    NodeUp,
    Order,
    Subscribe,
    Tell,
    Watch,
)
from supervisors.cluster.membership.table import LEFT, Known, checked_facts, known_of, refusal, row_of
from supervisors.genserver import NO_REPLY
from supervisors.host import security_log
from supervisors.system_server import SystemServer
from supervisors.terms import errors
from supervisors.terms.errors import NoProcess, NotAllowed, SpecError, StartError, SupervisorsError
from supervisors.terms.reason import ExitReason
from supervisors.terms.ref import Caller, Down, Ref
from supervisors.terms.spec import ChildSpec
from supervisors.wire.clock import Clock
from supervisors.wire.frames import FrameCodec
from supervisors.wire.keys import own_key

#: The file is written so long after a change, at the most, in seconds; the second where a node only says something
#: else of itself, its load say: a cluster of a hundred has twenty of these changes a second.
SAVE_SECONDS, SAVE_NEWS_SECONDS = 0.1, 30.0
#: No larger `seq` than the one in the file is used: so many before that the file is written.
SEQ_MARGIN = 100
#: So many of those who were there last are asked at the start.
FIRST_ASKED = 5
#: The load of the host is looked at so often, where nobody tells another one, in seconds.
LOAD_SECONDS = 5.0
_LOAD = "load"
#: A node that is draining has no work if nobody tells of any for so long, in seconds.
SILENT_SECONDS = 6.0
#: So many nodes are named in a message.
MOST_NAMED = 10
#: From good-bye to the end: what was said is on its way, and so is the answer to whoever has asked for it.
LEAVE_SECONDS = 0.3


def membership_spec(join: str | None = None) -> ChildSpec:
    """Return the membership as a child of the branch `cluster`."""
    return ChildSpec(MEMBERSHIP, Membership, args=(join,), name=MEMBERSHIP, shutdown=2.0)


class Membership(SystemServer):
    """Who is there: see `messages` for what it understands."""

    WHAT = "the membership"

    async def init(self, join: str | None = None) -> None:
        """Begin; return when the node has joined, where it is to join.

        Args:
            join: "host:port" of a node of the cluster. None: those who were there last are looked for, meanwhile.

        Raises:
            StartError: it may not join, or nobody is there.
        """
        node = self.node
        self._folder = Path(node["data_dir"])
        self._kept = file.load(self._folder).begun(node)
        self._write()
        me = file.own_member(node, self._kept)
        self._loop = asyncio.get_running_loop()
        self._core = Core(me, self._loop.time(), random.Random())  # noqa: S311 - no secret
        codec = FrameCodec(own_key(self._folder), Clock(node.get("clock")))
        self._doors = Doors(codec)
        self._subscribers: dict[Ref, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._save_timer: asyncio.TimerHandle | None = None
        self._dials: set[str] = set()
        self._has_left = False
        self._news = 0
        self._watchers: list[Caller] = []
        self._drains_at = math.inf
        #: Whether the one who tells of work knows that this node drains, and whether it has told of none left since.
        self._teller_knows = self._is_told = False
        self._tells_load = True
        self._datagrams = Datagrams(codec, me.address, self._take)
        try:
            await self._loop.create_datagram_endpoint(lambda: self._datagrams, local_addr=(me.host, me.port))
        except OSError as error:
            raise StartError(
                f"no datagrams can be had at {me.address}: {error.strerror}; start with another --port, or stop what "
                "holds it"
            ) from None
        if join is not None:
            try:
                await self._join(join)
            except StartError as error:
                if not self._kept.members:
                    raise
                self.log.warning("the node that was joined is gone: others are looked for", error=str(error))
                join = None  # it has joined before: this process follows another one
        self._core.remember([m for m in self._kept.members if m.uid not in self._core.table], self._loop.time())
        self._do([])
        if join is None:
            self.spawn(self._look_for(list(self._kept.members)))
        self.send_after(LOAD_SECONDS, _LOAD)

    def terminate(self, reason: ExitReason) -> None:
        """Say good-bye where the node stops: the others need not find out."""
        if self._has_left:
            return
        if self._save_timer is not None:
            self._save()
        self._do(self._core.farewell(DOWN, self._loop.time()), saves=False)

    # --- joining ---------------------------------------------------------------------------------------------------

    async def _join(self, where: str) -> None:
        host, _, port = where.rpartition(":")
        try:
            rows = await self._doors.ask((host, int(port)), Join(row_of(Known(self._core.me))))
        except SupervisorsError as error:
            raise StartError(f"cannot join {where}: {error}") from None
        self._do(self._core.merge(rows, self._loop.time()))
        self._save()  # who is killed in the next moment comes back as a member

    async def _look_for(self, members: list[Member]) -> None:
        random.shuffle(members)
        for member in members[:FIRST_ASKED]:
            await self._swap(member)

    # --- effects ---------------------------------------------------------------------------------------------------

    def _take(self, payload: bytes, host: str, port: int) -> None:
        try:
            effects = self._core.received(payload, host, port, self._loop.time())
        except Exception as error:
            security_log.note("refused datagram", host, f"{type(error).__name__}: {error}")
            return
        self._do(effects)

    def _tick(self) -> None:
        self._do(self._core.tick(self._loop.time()))

    def _do(self, effects: list[Effect], saves: bool = True) -> None:
        within = math.inf
        for effect in effects:
            match effect:
                case do.Send(host, port, payload):
                    self._datagrams.send(host, port, payload)
                case do.Dial(member):
                    if member.uid not in self._dials:
                        self._dials.add(member.uid)
                        self.spawn(self._dial(member))
                case do.Swap(member):
                    self.spawn(self._swap(member))
                case do.Up(member):
                    self.log.info("a node is up", node=member.name, address=member.address, of=member.incarnation)
                    self._publish(NodeUp(member))
                    within = SAVE_SECONDS
                case do.Down(member, why):
                    self.log.warning("a node is down", node=member.name, address=member.address, why=why)
                    self._publish(NodeDown(member, why))
                    within = SAVE_SECONDS
                case do.Changed(member):
                    self._publish(NodeChanged(member))
                    within = min(within, self._kept_within(member))
                case do.Twin(address):
                    self.log.error("another node says that it is this one: a copied data folder?", address=address)
        if within < math.inf and saves and not self._has_left:
            self._save_within(within)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._core.next_at(self._loop.time()), self._tick)

    def _kept_within(self, changed: Member) -> float:
        """Return how many seconds what a member says of itself may wait for the file."""
        me, kept = self._core.me, self._kept
        is_as_kept = (
            me.incarnation == kept.incarnation
            and (me.state == CORDONED) == (kept.state == CORDONED)
            and me.seq + SEQ_MARGIN < kept.seq
        )
        return SAVE_SECONDS if changed.uid == me.uid and not is_as_kept else SAVE_NEWS_SECONDS

    def _save_within(self, seconds: float) -> None:
        if self._save_timer is not None:
            if self._save_timer.when() <= self._loop.time() + seconds:
                return
            self._save_timer.cancel()
        self._save_timer = self._loop.call_later(seconds, self._save)

    def _publish(self, news: Any) -> None:
        self._news += 1
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            self.reply(watcher, (self._news, self._core.members(self._loop.time())))
        for subscriber in self._subscribers:
            self.send(subscriber, news)

    def _save(self) -> None:
        if self._save_timer is not None:
            self._save_timer.cancel()
            self._save_timer = None
        me = self._core.me
        others = tuple(known.member for known in self._core.table.values() if known.status != LEFT)
        self._kept = replace(
            self._kept,
            incarnation=me.incarnation,
            seq=(me.seq // file.STEP + 1) * file.STEP,
            state=me.state if me.state == CORDONED else ALIVE,
            members=others,
        )
        self._write()

    def _write(self) -> None:
        try:
            file.save(self._folder, self._kept)
        except OSError as error:  # a full disk: the next change tries again
            self.log.error("the members cannot be kept for the next start", error=str(error))

    async def _dial(self, member: Member) -> None:
        """Find out whether a door that does not answer datagrams is there at all."""
        try:
            outcome = await self._doors.outcome(member)
        finally:
            self._dials.discard(member.uid)
        self._do(self._core.dialled(member.uid, outcome, self._loop.time()))

    async def _swap(self, member: Member) -> None:
        try:
            address = member.host, member.port
            rows, wanted = await self._doors.ask(address, Exchange(self._core.marks(), []))
            self._do(self._core.merge(rows, self._loop.time()))
            if wanted:
                await self._doors.ask(address, Exchange([], self._core.rows_of(wanted)))
        except (SupervisorsError, ValueError) as error:
            self.log.debug("no exchange with a member", node=member.name, error=str(error))

    # --- requests --------------------------------------------------------------------------------------------------

    def answer(self, request: Any, caller: Caller) -> Any:
        """Answer one request; what another node is asked for keeps nobody waiting, least of all that node."""
        now = self._loop.time()
        match request:
            case Members():
                return self._core.members(now)
            case Subscribe(Ref(outside=False) as subscriber):
                if subscriber not in self._subscribers:
                    self._subscribers[subscriber] = self.monitor(subscriber)
                return self._core.members(now)
            case Lookup(str(node), str(name)):
                return self.answer_later(caller, self._lookup(node, name))
            case Order(str(node), str(state)):
                return self.answer_later(caller, self._order(node, state))
            case Exchange(list(marks), list(rows)):
                self._do(self._core.merge(rows, now))
                return self._core.compared(marks) if marks else ([], [])
            case Join(list(row), bool(is_only_asked)):
                return self.answer_later(caller, self._take_in(known_of(row), is_only_asked))
            case Tell(dict(facts)):
                self._tell(facts)
                if "work" in facts and self._core.me.state == DRAINING:
                    self._is_told, self._teller_knows = self._teller_knows, True
                return self._core.me.state
            case Leave(str(node)):
                return self.answer_later(caller, self._end(node))
            case Watch(int(since)):
                return self._watch(since, caller)
        raise self.unknown(request)

    def take_cast(self, message: Any) -> None:
        """Take what parts of the node say of it."""
        match message:
            case Tell(dict(facts)):
                self._tell(facts)
            case _:
                super().take_cast(message)

    def take_info(self, message: Any) -> None:
        """Forget a subscriber that has ended."""
        match message:
            case Down(Ref() as ref, _):
                self._subscribers.pop(ref, None)
            case str(text) if text == _LOAD:
                if self._tells_load:  # else a part of the node knows better
                    load = round(os.getloadavg()[0] / (os.cpu_count() or 1), 2)
                    self._do(self._core.tell({"load": load}, self._loop.time()))
                self.send_after(LOAD_SECONDS, _LOAD)
            case _:
                super().take_info(message)

    async def _take_in(self, new: Known, is_only_asked: bool) -> list[list[Any]]:
        why = refusal(self._core.members(self._loop.time()), new.member, self._core.me)
        if why is None and is_only_asked:
            why = await unreachable(new.member, self._core.me)
        if why is not None:
            security_log.note("refused join", new.member.host, why)
            self.log.warning("a node may not join", node=new.member.name, address=new.member.address, why=why)
            raise NotAllowed(why)
        if not is_only_asked:
            self._do(self._core.join(new, self._loop.time()))
        return self._core.rows()

    def _find(self, node: str) -> Member:
        """Return the member of this name or uid, one that is up rather than one that is down."""
        found = [m for m in self._core.members(self._loop.time()) if node in (m.uid, m.name)]
        if not found:
            names = [member.name for member in self._core.members(self._loop.time())]
            some = ", ".join(names[:MOST_NAMED]) + (" and more" if len(names) > MOST_NAMED else "")
            raise NoProcess(f"no node {node!r:.100} is in the cluster: there are {some}")
        return max(found, key=lambda member: member.is_up)

    async def _lookup(self, node: str, name: str) -> Ref:
        member = self._find(node)
        if member.uid == self._core.me.uid:
            ref = await self.whereis(name)
        elif not member.is_up:
            raise errors.NodeDown(f"the node {member.name} is down")
        else:
            ref = await self._doors.whereis(member, name)
        if not isinstance(ref, Ref):
            raise NoProcess(f"nobody is registered as {name!r:.100} on the node {member.name}")
        return ref

    async def _order(self, node: str, state: str) -> Member:
        if state not in (ALIVE, DRAINING, CORDONED):
            raise SpecError.of("state", state, "alive, draining or cordoned")
        member = self._find(node)
        if member.uid == self._core.me.uid:
            if state == DRAINING and self._core.me.state != DRAINING:
                self._drains_at = self._loop.time()
                self._teller_knows = self._is_told = False
            self._do(self._core.tell({"state": state}, self._loop.time()))
            return self._core.me
        if not member.is_up:
            raise errors.NodeDown(f"the node {member.name} is down")
        answer: Member = await self._doors.ask((member.host, member.port), Order(member.uid, state))
        return answer

    def _tell(self, facts: dict[str, Any]) -> None:
        self._tells_load = self._tells_load and "load" not in facts
        self._do(self._core.tell(checked_facts(facts), self._loop.time()))

    async def _end(self, node: str) -> None:
        """Have a member leave."""
        member = self._find(node)
        if member.uid == self._core.me.uid:
            self._leave()
        elif not member.is_up:
            raise errors.NodeDown(f"the node {member.name} is down")
        else:
            await self._doors.ask((member.host, member.port), Leave(member.uid))

    def _leave(self) -> None:
        me = self._core.me
        now = self._loop.time()
        if me.state != DRAINING:
            raise NotAllowed(f"the node {me.name} is {me.state}: it leaves when it is draining and has nothing in work")
        has_teller = self._teller_knows or now < self._drains_at + SILENT_SECONDS
        if me.work or (has_teller and not self._is_told):
            raise NotAllowed(f"the node {me.name} has {me.work or 'perhaps something'} in work")
        file.forget(self._folder, replace(self._kept, incarnation=me.incarnation))
        self._has_left = True
        self._do(self._core.farewell(LEFT, now))
        self.log.info("this node has nothing in work any more and leaves the cluster")
        self._loop.call_later(LEAVE_SECONDS, os.kill, self.node["pid"], signal.SIGTERM)

    def _watch(self, since: int, caller: Caller) -> Any:
        if since != self._news:
            return self._news, self._core.members(self._loop.time())
        self._watchers.append(caller)
        self.when_given_up(caller, lambda: self._watchers.remove(caller) if caller in self._watchers else None)
        return NO_REPLY
