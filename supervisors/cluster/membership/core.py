"""The membership of one node: SWIM with Lifeguard's care for a slow self. Pure; time is a parameter.

After "SWIM: Scalable Weakly-consistent Infection-style Process Group Membership Protocol" (Das, Gupta, Motivala, 2002)
and "Lifeguard: Local Health Awareness for More Accurate Failure Detection" (Dadgar, Phillips, Currey, 2018).

1. Each `PROBE_SECONDS` one member is probed (PING, answered by ACK): every second time the next one by uid, so that
   each has somebody who looks after it, and in between the others, in shuffled rounds.
2. No answer in time: three others are asked to probe it (ASK, answered by ACK or NACK), and its door is dialled.
3. Nothing: it is suspect, which is gossiped. It refutes that by a greater `seq`. Others who suspect it too shorten the
   time that it has.
4. Time over, or its door refuses connections: it is down, which is gossiped. It refutes that by a greater incarnation.

A datagram is `[kind, number, target, row of the sender, news]`; news is a list of packed rows (table.py) or of
`[uid, status, incarnation, seq, by, size]` for what is said of another: by whom, for whom how many nodes are up.
"""

from __future__ import annotations

import math
import random
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgpack

from supervisors.cluster.membership.effects import Changed, Dial, Effect, Send, Swap, Twin
from supervisors.cluster.membership.gossip import MAX_NEWS
from supervisors.cluster.membership.messages import ALIVE, DOWN, SUSPECT, Member
from supervisors.cluster.membership.roster import Roster
from supervisors.cluster.membership.table import LEFT, Known, is_worth_telling, known_of, row_of

PROBE_SECONDS, ACK_SECONDS, FAIL_SECONDS = 0.5, 0.3, 1.0
HELPERS = 3
#: An answer is known to be late, and not lost, if it comes before so many others are.
MOST_LATE = 8
#: Of more than so many, a few are chosen by trying.
MANY = 100
#: How often and to how many what is urgent is told besides; more seldom by one that is far from well.
GOSSIP_SECONDS, GOSSIP_TO = 0.2, 3
#: All that is known is exchanged with one member this often; in a cluster of more than 100 as much more seldom.
EXCHANGE_SECONDS = 10.0
#: One that is down is asked this often whether it is back.
RECONNECT_SECONDS = 5.0
#: What a node tells of its load is news at most this often, and more seldom in large clusters.
LOAD_SECONDS = 2.0
#: A call of the clock that comes later than this is our own fault.
LATE_SECONDS = 0.25
#: One that has left, or is down, is forgotten after so many seconds.
FORGET_SECONDS = 86_400.0

PING, ACK, ASK, NACK, TELL = 1, 2, 3, 4, 5


class Round:
    """Rounds in which each of n has its turn once, in another order each time. It takes no memory.

    Args:
        rng: for the order.
    """

    def __init__(self, rng: random.Random) -> None:
        """Begin with the first call."""
        self._rng = rng
        self._size = self._left = self._at = self._step = 0

    def next(self, size: int) -> int:
        """Return whose turn it is: from 0 to size - 1."""
        if size != self._size or not self._left:
            self._size = self._left = size
            self._at = self._rng.randrange(size)
            self._step = self._rng.randrange(1, size + 1)
            while math.gcd(self._step, size) != 1:
                self._step += 1
        self._left -= 1
        self._at = (self._at + self._step) % size
        return self._at


@dataclass(slots=True)
class _Probe:
    number: int
    uid: str
    ask_at: float
    fail_at: float
    asked: int = 0
    nacks: int = 0
    has_asked: bool = False


@dataclass(slots=True)
class _Errand:
    """A probe on behalf of another member."""

    host: str
    port: int
    number: int
    until: float


class Core(Roster):
    """What one node knows, and what it does about it.

    Args:
        me: this node.
        now: in seconds, monotonic, as all times.
        rng: for shuffling.
        table, uids: of `Roster`.
    """

    def __init__(
        self,
        me: Member,
        now: float,
        rng: random.Random,
        table: MutableMapping[str, Known] | None = None,
        uids: Sequence[str] = (),
    ) -> None:
        """Know nobody else, or those in the table."""
        super().__init__(me, rng, table, uids)
        self._round = Round(rng)
        self._probe: _Probe | None = None
        #: Probes for which others were asked, and to which there was no answer yet: number → uid.
        self._late: dict[int, str] = {}
        self._is_next_ones = False
        self._errands: dict[int, _Errand] = {}
        self._numbers = rng.randrange(1 << 30)
        self._probe_at = now + rng.random() * PROBE_SECONDS
        self._gossip_at = self._load_at = now
        self._exchange_at = now + self._exchange_seconds()
        self._reconnect_at = now + RECONNECT_SECONDS * rng.random()
        self._due = now

    def _exchange_seconds(self) -> float:
        return EXCHANGE_SECONDS * max(1.0, self.size / 100) * (0.5 + self._rng.random())

    def next_at(self, now: float) -> float:
        """Return when `tick` is to be called again: now, or later."""
        times = [self._probe_at, self._exchange_at, self._reconnect_at]
        if self._probe is not None:
            times.append(self._probe.fail_at if self._probe.has_asked else self._probe.ask_at)
        if self._gossip.is_urgent and self.table:
            times.append(self._gossip_at)
        if self._at_once and self._probe is None:
            times.append(now)
        times += [suspicion.ends_at for suspicion in self._suspicions.values()]
        times += [errand.until for errand in self._errands.values()]
        self._due = max(now, min(times))
        return self._due

    # --- what happens ----------------------------------------------------------------------------------------------

    def tick(self, now: float) -> list[Effect]:
        """Do what is due."""
        late = now - self._due
        if late > LATE_SECONDS:  # while we did not listen, nothing could be heard
            self._forgive(late)
        if self._probe is not None:
            self._look_at_probe(self._probe, now)
        for number, errand in list(self._errands.items()):
            if now >= errand.until:
                del self._errands[number]
                self._send(errand.host, errand.port, NACK, errand.number)
        for uid, suspicion in list(self._suspicions.items()):
            if now >= suspicion.ends_at:
                self._set(self.table[uid], DOWN, now)
        if now >= self._probe_at or (self._at_once and self._probe is None):
            self._probe_next(now)
        if now >= self._gossip_at and self._gossip.is_urgent:
            self._gossip_at = now + GOSSIP_SECONDS * (1 + self.health.factor // 4)
            for member in self._some(GOSSIP_TO):
                self._tell(member, TELL, 0)
        if now >= self._exchange_at:
            self._exchange_at = now + self._exchange_seconds()
            self._effects += [Swap(member) for member in self._some(1)]
        if now >= self._reconnect_at:
            self._reconnect_at = now + RECONNECT_SECONDS * (0.5 + self._rng.random())
            self._reconnect(now)
        return self._done()

    def received(self, payload: bytes, host: str, port: int, now: float) -> list[Effect]:
        """Take a datagram.

        Raises:
            ValueError: it is none of ours.
        """
        match msgpack.unpackb(payload, strict_map_key=False):
            case [int(kind), int(number), str(target), [str(uid), status, *order] as row, list(news)]:
                here = self.table.get(uid)
            case _:
                raise ValueError("no datagram of a membership")
        if here is None or status != here.status or tuple(order[:2]) != (here.member.incarnation, here.member.seq):
            sender = known_of(row)
            if uid == self.me.uid:
                if sender.member.address != self.me.address:
                    self._effects.append(Twin(sender.member.address))
                return self._done()
            self._apply(sender, now)
        self.heard[uid] = now
        for each in news:
            self._take_news(msgpack.unpackb(each, strict_map_key=False), now)
        where = self.table[uid].member
        if kind == PING and target == self.me.uid:
            self._tell(where, ACK, number)
        elif kind == ACK:
            self._acknowledged(number, uid, now)
        elif kind == NACK and self._probe is not None and number == self._probe.number:
            self._probe.nacks += 1
        elif kind == ASK and (known := self.table.get(target)) is not None:
            mine = self._number()
            self._errands[mine] = _Errand(where.host, where.port, number, now + ACK_SECONDS)
            self._tell(known.member, PING, mine)
        return self._done()

    def dialled(self, uid: str, outcome: str, now: float) -> list[Effect]:
        """Take in what came of dialling a member's door.

        Args:
            uid: whose.
            outcome: answered, refused or silent.
            now: the time.
        """
        known = self.table.get(uid)
        if known is None or not known.is_up:
            return []
        if outcome == "answered":
            self.heard[uid] = now
            if self._probe is not None and self._probe.uid == uid:
                self._probe = None
        elif outcome == "refused":
            self._set(known, DOWN, now)
        return self._done()

    def tell(self, facts: dict[str, Any], now: float) -> list[Effect]:
        """Say something of this node: fields of Member that it says of itself."""
        changed = replace(self.me, **facts)
        is_urgent = not facts.keys() <= {"load", "work"}
        if changed == self.me or not (is_urgent or is_worth_telling(self.me, changed)):
            return []
        self.me = replace(changed, seq=self.me.seq + 1)
        if is_urgent or now >= self._load_at:
            self._load_at = now + max(LOAD_SECONDS, len(self.table) / 20)
            self._gossip.add(self.me.uid, row_of(Known(self.me)), len(self.table) + 1, is_urgent)
            self._effects.append(Changed(self.me))
        return self._done()

    def farewell(self, status: str, now: float) -> list[Effect]:
        """Tell some that this node goes, who tell the others.

        Args:
            status: left, or down where it means to come back.
            now: the time.
        """
        me = self.me
        news = row_of(Known(me, LEFT)) if status == LEFT else self._said_of(me, DOWN)
        self._gossip.add(me.uid, news, len(self.table) + 1, True)
        for member in self._some(2 * GOSSIP_TO):
            self._tell(member, TELL, 0)
        return self._done()

    # --- probing ---------------------------------------------------------------------------------------------------

    def _probe_next(self, now: float) -> None:
        self._probe_at = now + PROBE_SECONDS * self.health.factor
        if self._probe is not None or (uid := self._next_uid()) is None:
            return
        factor = self.health.factor
        number = self._number()
        self._probe = _Probe(number, uid, now + ACK_SECONDS * factor, now + FAIL_SECONDS * factor)
        self._tell(self.table[uid].member, PING, number)

    def _next_uid(self) -> str | None:
        while self._at_once:
            uid = self._at_once.pop()
            if self.table[uid].is_up:
                return uid
        if not self._ups:
            return None
        self._is_next_ones = not self._is_next_ones
        if self._is_next_ones:
            return self._next_one()
        for _ in range(2 * len(self._uids)):
            uid = self._uids[self._round.next(len(self._uids))]
            if uid != self.me.uid and self.table[uid].is_up:
                return uid
        return None

    def _look_at_probe(self, probe: _Probe, now: float) -> None:
        known = self.table.get(probe.uid)
        if known is None or not known.is_up:
            self._probe = None
        elif now >= probe.fail_at:
            self._probe = None
            self.health.missed(probe.asked - probe.nacks if probe.asked else 1)
            if known.status == ALIVE:
                self._set(known, SUSPECT, now)
            else:
                self._confirm(known, self.me.uid, now)
        elif now >= probe.ask_at and not probe.has_asked:
            probe.has_asked = True
            self._late[probe.number] = probe.uid
            if len(self._late) > MOST_LATE:
                del self._late[next(iter(self._late))]
            helpers = self._some(HELPERS, but=probe.uid)
            probe.asked = len(helpers)
            for helper in helpers:
                self._tell(helper, ASK, probe.number, probe.uid)
            self._effects.append(Dial(known.member))

    def _acknowledged(self, number: int, by: str, now: float) -> None:
        if (errand := self._errands.pop(number, None)) is not None:
            self._send(errand.host, errand.port, ACK, errand.number)
            return
        is_late = self._late.get(number) == by
        if is_late:
            # It was not lost: this host, or that one, has too much to do. To ask others each time makes it worse.
            del self._late[number]
            self.health.missed(1)
        if self._probe is not None and number == self._probe.number:
            self.heard[self._probe.uid] = now
            self._probe = None
            if not is_late:
                self.health.answered()

    def _reconnect(self, now: float) -> None:
        for uid in [uid for uid, since in self._down_since.items() if now - since > FORGET_SECONDS]:
            self._forget(uid)
        down = [known for uid in self._down_since if (known := self.table[uid]).status == DOWN]
        if down:
            self._tell(self._rng.choice(down).member, PING, self._number())

    def _forgive(self, late: float) -> None:
        self.health.missed(1)
        for suspicion in self._suspicions.values():
            suspicion.forgive(late)
        if self._probe is not None:
            self._probe.ask_at += late
            self._probe.fail_at += late
        for errand in self._errands.values():
            errand.until += late

    # --- sending ---------------------------------------------------------------------------------------------------

    def _some(self, count: int, but: str = "") -> list[Member]:
        if self._ups > MANY:  # most of them are up: some are found by trying
            some: dict[str, Member] = {}
            for _ in range(10 * count):
                known = self.table[self._rng.choice(self._uids)]
                if known.is_up and known.member.uid not in (but, self.me.uid):
                    some[known.member.uid] = known.member
                    if len(some) == count:
                        break
            return list(some.values())
        found = [known.member for uid, known in self.table.items() if known.is_up and uid != but]
        return found if len(found) <= count else self._rng.sample(found, count)

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _tell(self, member: Member, kind: int, number: int, target: str = "") -> None:
        """Send a datagram with news; what is held against the receiver comes first, for it can refute it."""
        first = []
        known = self.table.get(member.uid)
        if known is not None and known.status in (SUSPECT, DOWN):
            first = [msgpack.packb(self._said_of(known.member, known.status))]
        head = [kind, number, target or (member.uid if kind == PING else ""), row_of(Known(self.me))]
        room = MAX_NEWS - len(msgpack.packb(head)) - sum(map(len, first))
        news = first + self._gossip.take(room, but=member.uid)
        self._effects.append(Send(member.host, member.port, msgpack.packb([*head, news])))

    def _send(self, host: str, port: int, kind: int, number: int) -> None:
        self._effects.append(Send(host, port, msgpack.packb([kind, number, "", row_of(Known(self.me)), []])))
