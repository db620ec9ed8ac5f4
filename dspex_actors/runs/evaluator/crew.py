"""Who works for a run: the workers of this node, and those of every other node that is alive and fits.

Nodes come, go, and rest while they are drained or cordoned, as the membership tells; where there is none, this node is
alone. A worker of this node is found by its name, one of another node by a lookup there. One that has died is looked
for until it is back; those of a node that is down are gone at once, and come back with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from dspex_actors.lm.keys import NO_KEY
from dspex_actors.names import worker_name
from dspex_actors.runs.plan.sittings import Sitting
from dspex_actors.runs.work import Result, Standing, Stands
from supervisors import Down, GenServer, Ref
from supervisors.cluster.membership.messages import (
    MEMBERSHIP,
    Lookup,
    Member,
    NodeChanged,
    NodeDown,
    NodeUp,
    Subscribe,
)
from supervisors.errors import CallTimeout, NoProcess, SupervisorsError
from supervisors.errors import NodeDown as IsDown
from supervisors.host import processes

#: At the start workers are waited for at most so long, in seconds.
GATHER_SECONDS = 0.5
#: A worker that is not there is looked for this often, in seconds: on this node, and on another.
LOOK_SECONDS, FAR_LOOK_SECONDS = 0.02, 0.2
#: What has been killed on another node may be the first of all of that node: so long that is waited for, in seconds.
NODE_SECONDS = 3.0
#: So many workers of one host are looked for at a time: it may have to start each, which takes a second of CPU.
AT_ONCE = 12
#: The membership is looked for this often, in seconds: this node may join others at any time.
MEMBERSHIP_SECONDS = 2.0
#: A worker of another node that does not answer for so many seconds gives its examples to others.
LEASE_SECONDS = 60.0


@dataclass(slots=True)
class Hand:
    """A worker of the run.

    Args:
        name: `NODE/NAME`.
        node: its node.
        ref: its process.
        capabilities: the labels of its node, as `name=text`.
        sitting: what was said to it and heard of it.
    """

    name: str
    node: str
    ref: Ref
    capabilities: frozenset[str]
    sitting: Sitting


class Employer(Protocol):
    """Whom a crew works for."""

    def joined(self, hand: Hand) -> None:
        """Take in a worker."""

    def left(self, name: str, *, back_soon: bool, blameless: bool) -> None:
        """Take note that a worker is gone; `blameless`: not by its examples."""

    def rests(self, name: str, *, rests: bool) -> None:
        """Give a worker nothing more, or let it work again."""

    def resend(self, hand: Hand, stands: Stands) -> None:
        """Say again what a worker has not heard, and have it say again what was not heard of it."""

    def holds(self, name: str) -> bool:
        """Whether a worker has examples without a result."""


class Crew:
    """The workers of one run.

    Args:
        server: its evaluator.
        employer: who is told of them.
        run_id: the run.
        workers: how many there are on this node.
        nodes: the names of nodes that may work for it; None: all.
    """

    def __init__(
        self, server: GenServer, employer: Employer, run_id: str, workers: int, nodes: Collection[str] | None
    ) -> None:
        """Know nobody yet."""
        self.hands: dict[str, Hand] = {}
        #: The other nodes, by name.
        self.members: dict[str, Member] = {}
        self._server, self._employer, self._run_id, self._nodes = server, employer, run_id, nodes
        self._me = Member(str(server.node["name"]), "", "", 0)
        #: How many workers each node has, where that is known.
        self._counts = {self._me.name: workers}
        self._membership: Ref | None = None
        #: Who has died, so that it is not found once more.
        self._dead: dict[str, Ref] = {}
        self._looking: dict[str, asyncio.Task[None]] = {}
        #: Host → the turns of those who look for a worker there.
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._asked: set[str] = set()
        self._numbers = itertools.count(1)
        self._over = False
        #: Nodes that lack a key for the run → what their workers say.
        self.lacking: dict[str, str] = {}

    async def gather(self, seconds: float = GATHER_SECONDS) -> None:
        """Look for everybody; return when those are here that could be had in so many seconds."""
        self._hire(self._me)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._meet()
        looking = list(self._looking.values())
        if looking:
            await asyncio.wait(looking, timeout=seconds)
        self._server.spawn(self._keep_meeting())

    def introduce(self) -> None:
        """Tell of everybody who is here once more: now that there is work."""
        for hand in list(self.hands.values()):
            self._employer.joined(hand)
        for member in (self._me, *self.members.values()):
            self._rest_or_work(member)

    def close(self) -> None:
        """Look for nobody any more."""
        self._over = True

    @property
    def local(self) -> list[str]:
        """The names of the workers of this node."""
        return [self.called(self._me.name, number) for number in range(1, self._counts[self._me.name] + 1)]

    @property
    def far(self) -> dict[str, Ref | None]:
        """The other nodes that may have worked, each with one worker; None: it is being looked for."""
        there = {hand.node: hand.ref for hand in self.hands.values()}
        return {member.name: there.get(member.name) for member in self.may_work() if member is not self._me}

    def may_work(self) -> list[Member]:
        """Return the nodes that are up and may work for the run."""
        return [member for member in (self._me, *self.members.values()) if self._may_work(member)]

    @staticmethod
    def called(node: str, number: int) -> str:
        """Return what a worker is called in the cluster."""
        return f"{node}/{worker_name(number)}"

    # --- nodes ------------------------------------------------------------------------------------------------------

    async def _keep_meeting(self) -> None:
        while not self._over:
            await asyncio.sleep(MEMBERSHIP_SECONDS)
            await self._meet()

    async def _meet(self) -> None:
        """Have the membership tell of nodes, if there is one, or another one than before."""
        ref = await self._server.whereis(MEMBERSHIP)
        if ref is None or ref == self._membership:
            return
        try:
            members = await self._server.call(ref, Subscribe(self._server.ref))
        except SupervisorsError:
            return  # it is looked for again
        self._membership = ref
        for member in members:
            self._is(member)

    def hear(self, message: NodeUp | NodeDown | NodeChanged) -> None:
        """Take in what the membership tells."""
        self._is(message.member)

    def _is(self, member: Member) -> None:
        if member.name == self._me.name:
            self._me = member
            self._rest_or_work(member)
            return
        if not member.is_up:
            self.members.pop(member.name, None)
            self._gone(member.name)
            return
        before = self.members.get(member.name)
        if before is not None and before.incarnation != member.incarnation:
            self._gone(member.name)  # what it had is not its own any more
        self.members[member.name] = member
        if member.takes_work:
            self._hire(member)
        self._rest_or_work(member)

    def _may_work(self, member: Member) -> bool:
        return self._nodes is None or member.name in self._nodes

    def _hire(self, member: Member) -> None:
        """Look for the workers of a node that are not here; its first one says how many there are."""
        for number in range(1, self._counts.get(member.name, 1) + 1) if self._may_work(member) else ():
            name = self.called(member.name, number)
            if name not in self.hands and name not in self._looking:
                self._look(name)

    def _rest_or_work(self, member: Member) -> None:
        # Of one that is suspected nothing is known: it goes on with what it has, and gets more.
        rests = member.state in ("draining", "cordoned") or member.name in self.lacking
        for hand in self.hands.values():
            if hand.node == member.name:
                self._employer.rests(hand.name, rests=rests)

    def lacks(self, name: str, result: Result) -> bool:
        """Return whether a result says only that its node lacks a key that others may have; it gets nothing more then.

        Args:
            name: of the worker.
            result: of one of its examples.
        """
        if result.error is None or result.error.get("code") != NO_KEY or result.attempts:
            return False
        what = str(result.error.get("message"))
        node = name.partition("/")[0]
        if not self._others(node):
            return False
        if node not in self.lacking:
            self._server.log.warning("a node lacks a key: others do its part", node=node, why=what)
            self.lacking[node] = what
            for hand in self.hands.values():
                if hand.node == node:
                    self._employer.rests(hand.name, rests=True)
        return True

    def _others(self, node: str | None = None) -> bool:
        """Whether there are nodes beside this one that can work, and lack nothing."""
        return any(
            member.name != node and member.name not in self.lacking and member.takes_work for member in self.may_work()
        )

    def _gone(self, node: str) -> None:
        self._counts.pop(node, None)
        self.lacking.pop(node, None)
        if self.lacking and not self._others():
            self.lacking.clear()  # the examples fail then, and say why
            for hand in self.hands.values():
                self._employer.rests(hand.name, rests=False)
        for hand in [hand for hand in self.hands.values() if hand.node == node]:
            del self.hands[hand.name]
            self._employer.left(hand.name, back_soon=False, blameless=True)
        for name in [name for name in self._looking if name.partition("/")[0] == node]:
            self._looking.pop(name).cancel()

    # --- workers ----------------------------------------------------------------------------------------------------

    def _look(self, name: str) -> None:
        self._looking[name] = self._server.spawn(self._look_for(name))

    async def _look_for(self, name: str) -> None:
        """Wait until a worker is there (again), and take it in."""
        node, _, own = name.partition("/")
        is_near = node == self._me.name
        try:
            while (ref := await self._find(node, own)) is None or ref == self._dead.get(name):  # noqa: ASYNC110 - names have no events
                await asyncio.sleep(LOOK_SECONDS if is_near else FAR_LOOK_SECONDS)
        finally:
            if self._looking.get(name) is asyncio.current_task():
                del self._looking[name]
        self._take_in(name, node, ref)

    async def _find(self, node: str, own: str) -> Ref | None:
        if node == self._me.name:
            return await self._server.whereis(own)
        host = self.members[node].host if node in self.members else ""
        turns = self._turns.setdefault("" if host.startswith("127.") else host, asyncio.Semaphore(AT_ONCE))
        with contextlib.suppress(SupervisorsError):
            async with turns:
                return await self._server.call(MEMBERSHIP, Lookup(node, own))  # type: ignore[no-any-return]
        return None

    def _take_in(self, name: str, node: str, ref: Ref) -> None:
        member = self._me if node == self._me.name else self.members.get(node)
        if member is None or self._over:
            return  # it went meanwhile
        capabilities = frozenset(f"{label}={text}" for label, text in member.labels.items())
        sitting = Sitting(next(self._numbers), asyncio.get_running_loop().time())
        try:
            self._server.monitor(ref)
        except NoProcess:
            self._look(name)
            return
        hand = self.hands[name] = Hand(name, node, ref, capabilities, sitting)
        self._employer.joined(hand)
        self._rest_or_work(member)
        if node not in self._counts:
            self._server.spawn(self._count(hand))

    async def _count(self, hand: Hand) -> None:
        """Ask the first worker of a node how many there are, and look for the others."""
        while self.hands.get(hand.name) is hand:
            with contextlib.suppress(SupervisorsError):
                self._counts[hand.node] = (await self._server.call(hand.ref, "stats"))["workers"]
                member = self.members.get(hand.node)
                if member is not None and member.takes_work:
                    self._hire(member)
                return
            await asyncio.sleep(FAR_LOOK_SECONDS)

    def down(self, message: Down) -> None:
        """Take in the death of a worker, or of the membership."""
        if message.ref == self._membership:
            self._membership = None
        # Who died with it is found out before its work goes to one of those, which would count as another attempt.
        ended = [hand for hand in self.hands.values() if self._has_ended(hand.ref, message.ref)]
        for hand in ended:
            if hand.node == self._me.name:
                self._lost(hand, blameless=False)
            elif message.reason.kind in ("nodedown", "shutdown"):
                # All of its node, or as long as it cannot be reached.
                self._lost(hand, blameless=True, is_dead=False)
            else:
                self._server.spawn(self._find_out(hand))

    def _has_ended(self, ref: Ref, known: Ref | None) -> bool:
        return ref == known or (ref.host == self._server.ref.host and processes.has_ended(ref.pid, ref.born))

    def _lost(self, hand: Hand, *, blameless: bool, is_dead: bool = True) -> None:
        if self.hands.get(hand.name) is not hand:
            return
        del self.hands[hand.name]
        if is_dead:
            self._dead[hand.name] = hand.ref
        member = self._me if hand.node == self._me.name else self.members.get(hand.node)
        if member is not None and hand.name not in self._looking and not self._over:
            self._look(hand.name)
        self._employer.left(hand.name, back_soon=not blameless, blameless=blameless)

    async def _find_out(self, hand: Hand) -> None:
        """Find out whether a worker of another node has died by itself, or all of its node."""
        _, _, own = hand.name.partition("/")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(NODE_SECONDS):
                while self.hands.get(hand.name) is hand:
                    try:
                        ref = await self._server.call(MEMBERSHIP, Lookup(hand.node, own))
                    except IsDown:
                        self._lost(hand, blameless=True)
                        return
                    except SupervisorsError:
                        ref = hand.ref  # not back yet
                    if ref != hand.ref:
                        break
                    await asyncio.sleep(FAR_LOOK_SECONDS / 4)
        self._lost(hand, blameless=False)

    # --- those that are silent --------------------------------------------------------------------------------------

    def look_after(self) -> None:
        """Ask those that have something in hand and were not heard for a while how far they are."""
        now = asyncio.get_running_loop().time()
        for hand in list(self.hands.values()):
            if hand.name not in self._asked and hand.sitting.is_to_ask(now, holds=self._employer.holds(hand.name)):
                self._asked.add(hand.name)
                self._server.spawn(self._ask(hand))

    async def _ask(self, hand: Hand) -> None:
        sitting = hand.sitting
        try:
            answer = await self._server.call(hand.ref, Standing(self._run_id, self._server.ref, sitting.number))
        except CallTimeout:
            silent = asyncio.get_running_loop().time() - sitting.heard_at
            if hand.node != self._me.name and silent > LEASE_SECONDS:
                self._server.log.warning("a worker of another node is silent", worker=hand.name, seconds=silent)
                self._lost(hand, blameless=True, is_dead=False)
            return
        except SupervisorsError:
            return  # its end is told otherwise
        finally:
            self._asked.discard(hand.name)
        if self.hands.get(hand.name) is not hand or hand.sitting is not sitting:
            return
        if isinstance(answer, Stands) and answer.knows:
            sitting.heard_at = asyncio.get_running_loop().time()
            self._employer.resend(hand, answer)
        else:
            # It was started anew, or has taken this evaluator for dead: they begin from the start.
            self._lost(hand, blameless=True, is_dead=False)


def labels_of(requires: Mapping[str, str] | None) -> frozenset[str]:
    """Return labels as capabilities of a worker."""
    return frozenset(f"{name}={text}" for name, text in (requires or {}).items())
