"""A cluster in memory: the membership's own core for each node, on a clock and a network of its own.

::

    world = MembershipWorld(100, loss=0.05)
    world.run(10.0)
    world.kill("n7")
    world.run(5.0)
    assert world.down_at["n7"]            # node → when it took n7 to be down

Nothing waits: a second of the cluster takes as long as its datagrams do.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, MutableMapping

from supervisors.cluster.membership.core import Core
from supervisors.cluster.membership.effects import Changed, Dial, Down, Effect, Send, Swap, Up
from supervisors.cluster.membership.messages import SUSPECT, Member
from supervisors.cluster.membership.table import Known

#: The seal of a datagram has so many bytes.
SEAL = 64


class Layered(MutableMapping[str, Known]):
    """A table over one that is shared by all nodes: it holds only what differs."""

    def __init__(self, base: dict[str, Known]) -> None:
        """Differ in nothing."""
        self._base, self._own = base, dict[str, Known]()

    def __getitem__(self, uid: str) -> Known:
        """Return what is known."""
        found = self._own.get(uid)
        return self._base[uid] if found is None else found

    def __setitem__(self, uid: str, known: Known) -> None:
        """Know something else."""
        self._own[uid] = known

    def __delitem__(self, uid: str) -> None:
        """Forget what is known only here."""
        del self._own[uid]

    def __iter__(self) -> Iterator[str]:
        """Go over all."""
        return itertools.chain(self._base, (uid for uid in self._own if uid not in self._base))

    def __len__(self) -> int:
        """Return how many there are, to within what is known only here."""
        return len(self._base)


class MembershipWorld:
    """Nodes n0, n1, ... that know each other.

    Args:
        count: how many.
        loss: the share of datagrams that get lost.
        delay: seconds that a datagram takes, at least and at most.
        seed: of all chance.

    Attributes:
        now: the time, in seconds.
        sent, bytes: datagrams and bytes that were sent, with their seals.
        suspected: how often a node took another one to be suspect that was not.
        down_at: node that is down → who took it to be so, and when.
        up_at: node → who took it to be up again, and when.
        cut: called with two names; whether nothing gets from the first to the second.
    """

    def __init__(
        self, count: int, loss: float = 0.0, delay: tuple[float, float] = (0.0002, 0.002), seed: int = 1
    ) -> None:
        """Begin at 0."""
        self.now, self.loss, self._delay = 0.0, loss, delay
        self._rng = random.Random(seed)  # noqa: S311 - no secret
        self.sent = self.bytes = self.suspected = 0
        self.down_at: dict[str, dict[str, float]] = defaultdict(dict)
        self.up_at: dict[str, dict[str, float]] = defaultdict(dict)
        self.cut: Callable[[str, str], bool] = lambda _sender, _receiver: False
        self._numbers = itertools.count()
        self._queue: list[tuple[float, int, int, bytes | None, str]] = []
        self.members = [self._member(number) for number in range(count)]
        base = {member.uid: Known(member) for member in self.members}
        uids = tuple(base)
        self._at = {(member.host, member.port): number for number, member in enumerate(self.members)}
        self._number_of = {member.uid: number for number, member in enumerate(self.members)}
        self.cores = [
            Core(member, 0.0, random.Random(self._rng.random()), Layered(base), uids)  # noqa: S311
            for member in self.members
        ]
        self._dead: set[int] = set()
        self._paused: dict[int, float] = {}
        self._due = [0.0] * count
        for number in range(count):
            self._wake(number)

    @staticmethod
    def _member(number: int) -> Member:
        host = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        return Member(f"n{number}", f"{number:016x}", host, 7000, 1, version="0.1.0", seq=1, workers=2)

    def core(self, name: str) -> Core:
        """Return what runs on a node."""
        return self.cores[int(name[1:])]

    def kill(self, name: str) -> None:
        """Have a node vanish with its host: nothing refuses connections there."""
        self._dead.add(int(name[1:]))

    def pause(self, name: str, seconds: float) -> None:
        """Stop a node for a while, as SIGSTOP does; what comes meanwhile waits in its socket."""
        self._paused[int(name[1:])] = self.now + seconds

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            self.now, _, number, payload, sender = heapq.heappop(self._queue)
            if number in self._dead or (payload is None and self.now < self._due[number]):
                continue
            if (until := self._paused.get(number, 0.0)) > self.now:
                again = (until, next(self._numbers), number, payload, sender)
                if payload is None:
                    self._due[number] = until
                heapq.heappush(self._queue, again)
                continue
            core = self.cores[number]
            if payload is None:
                self._do(number, core.tick(self.now))
            else:
                self._do(number, core.received(payload, sender, 7000, self.now))
        self.now = end

    def _wake(self, number: int) -> None:
        at = self.cores[number].next_at(self.now)
        if at != self._due[number]:
            self._due[number] = at
            heapq.heappush(self._queue, (at, next(self._numbers), number, None, ""))

    def _do(self, number: int, effects: list[Effect]) -> None:
        core, me = self.cores[number], self.members[number]
        for effect in effects:
            match effect:
                case Send(host, port, payload):
                    self._send(number, host, port, payload)
                case Dial(member):
                    there = self._number_of[member.uid]
                    is_there = there not in self._dead and self._paused.get(there, 0.0) <= self.now
                    is_there = is_there and not self._is_cut(number, there) and not self._is_cut(there, number)
                    self._do(number, core.dialled(member.uid, "answered" if is_there else "silent", self.now))
                case Swap(member):
                    there = self._number_of[member.uid]
                    is_cut = self._is_cut(number, there) or self._is_cut(there, number)
                    if there not in self._dead and not is_cut and len(self.cores) <= 200:
                        theirs, wanted = self.cores[there].compared(core.marks())
                        mine = core.rows_of(wanted)
                        self._do(number, core.merge(theirs, self.now))
                        self._do(there, self.cores[there].merge(mine, self.now))
                case Down(member, _):
                    self.down_at[member.name][me.name] = self.now
                case Up(member):
                    self.up_at[member.name][me.name] = self.now
                case Changed(member):
                    self.suspected += member.state == SUSPECT and self._number_of[member.uid] not in self._dead
        self._wake(number)

    def _send(self, number: int, host: str, port: int, payload: bytes) -> None:
        self.sent += 1
        self.bytes += len(payload) + SEAL
        there = self._at[host, port]
        if there in self._dead or self._is_cut(number, there) or self._rng.random() < self.loss:
            return
        at = self.now + self._rng.uniform(*self._delay)
        heapq.heappush(self._queue, (at, next(self._numbers), there, payload, self.members[number].host))

    def _is_cut(self, number: int, there: int) -> bool:
        return self.cut(self.members[number].name, self.members[there].name)
