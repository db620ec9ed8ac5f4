"""What a node knows of the others and of itself, and how news changes that. Pure; core.py adds the probing."""

from __future__ import annotations

import random
from collections.abc import Iterable, MutableMapping, Sequence
from dataclasses import replace
from typing import Any

from supervisors.cluster.membership.effects import Changed, Down, Effect, Twin, Up
from supervisors.cluster.membership.gossip import Gossip
from supervisors.cluster.membership.messages import ALIVE, DOWN, SUSPECT, Member
from supervisors.cluster.membership.suspicion import Health, Suspicion
from supervisors.cluster.membership.table import LEFT, Known, known_of, mark_of, overrides, row_of

#: So many of those who hear of a suspicion see for themselves next.
LOOKERS = 10


class Roster:
    """The members, as one of them knows them.

    Args:
        me: this node.
        rng: for shuffling.
        table: what is known of the others; a dict of its own in a node, shared pages in a simulation of thousands.
        uids: those of `table`.
    """

    def __init__(
        self,
        me: Member,
        rng: random.Random,
        table: MutableMapping[str, Known] | None = None,
        uids: Sequence[str] = (),
    ) -> None:
        """Know nobody else, or those in the table."""
        self.me = me
        self.table: MutableMapping[str, Known] = {} if table is None else table
        self._uids = uids
        self._ups = len(uids) - (me.uid in self.table)
        self.heard: dict[str, float] = {}
        self.health = Health()
        self._rng = rng
        self._gossip = Gossip()
        self._suspicions: dict[str, Suspicion] = {}
        self._down_since: dict[str, float] = {}
        #: Who is probed next, whoever's turn it is.
        self._at_once: list[str] = []
        self._effects: list[Effect] = []
        #: The member that comes after this one, by uid; empty: to be looked for.
        self._follows = ""

    @property
    def size(self) -> int:
        """How many members there are that are up, this one too."""
        return 1 + self._ups

    def members(self, now: float) -> list[Member]:
        """Return all members as they are shown, by name; those that have left are not among them."""
        found = [self.me] + [
            known.shown(now - self.heard.get(uid, now)) for uid, known in self.table.items() if known.status != LEFT
        ]
        return sorted(found, key=lambda member: member.name)

    def rows(self) -> list[list[Any]]:
        """Return all that is known."""
        return [row_of(Known(self.me)), *map(row_of, self.table.values())]

    def marks(self) -> list[list[Any]]:
        """Return what is compared of all that is known: enough to see who knows better."""
        return [mark_of(Known(self.me)), *map(mark_of, self.table.values())]

    def compared(self, marks: Iterable[Any]) -> tuple[list[list[Any]], list[str]]:
        """Return rows of what is known here and differs from another one's marks, and uids of what differs there.

        Whichever of two is the newer: both are told, and `merge` decides. What another one does not name at all it does
        not know.

        Raises:
            ValueError: a mark is none.
        """
        here = {self.me.uid: Known(self.me), **self.table}
        rows, wanted = [], []
        for mark in marks:
            match mark:
                case [str(uid), str(_), int(_), int(_)]:
                    known = here.pop(uid, None)
                case _:
                    raise ValueError(f"no mark of a member: {mark!r:.200}")
            if known is None or mark_of(known) != mark:
                wanted.append(uid)
                if known is not None:
                    rows.append(row_of(known))
        return [*rows, *map(row_of, here.values())], wanted

    def rows_of(self, uids: Iterable[str]) -> list[list[Any]]:
        """Return what is known of some members."""
        known = {self.me.uid: Known(self.me)}
        return [row_of(found) for uid in uids if (found := known.get(uid) or self.table.get(uid)) is not None]

    def remember(self, members: Iterable[Member], now: float) -> None:
        """Take in who was there when this node ran last: they count as down until something is heard of them."""
        for member in members:
            self._put(Known(replace(member, incarnation=0, seq=0), DOWN))
            self._down_since[member.uid] = now

    def join(self, known: Known, now: float) -> list[Effect]:
        """Take a node in that has asked for it; whoever had its name and is down is forgotten."""
        for uid, other in list(self.table.items()):
            if other.member.name == known.member.name and uid != known.member.uid and not other.is_up:
                self._put(replace(other, status=LEFT))
        self._apply(known, now)
        return self._done()

    def merge(self, rows: Iterable[Any], now: float) -> list[Effect]:
        """Take in all that another member knows. That somebody is down is a suspicion here, where it is up.

        Raises:
            ValueError: a row is none.
        """
        for row in rows:
            if self._has(row):
                continue
            known = known_of(row)
            if known.status == DOWN and known.member.uid != self.me.uid:
                here = self.table.get(known.member.uid)
                if here is not None and here.is_up:
                    known = replace(known, status=SUSPECT)
            if known.member.uid != self.me.uid or known.status == ALIVE:  # else it is told by datagrams too
                self._apply(known, now, "exchange")
        return self._done()

    # --- news ------------------------------------------------------------------------------------------------------

    def _take_news(self, news: Any, now: float) -> None:
        if self._has(news):
            return
        match news:
            case [str(uid), str(status), int(incarnation), int(seq), str(by), int(size)]:
                self._hear_of(uid, status, incarnation, seq, by, now, size=size)
            case _:
                self._apply(known_of(news), now)

    def _has(self, row: Any) -> bool:
        """Whether it says of a living member what is known: most rows do, and nothing more is made of them."""
        match row:
            case [str(uid), "alive", int(incarnation), int(seq), *_] if uid != self.me.uid:
                here = self.table.get(uid)
                return here is not None and not overrides(here, ALIVE, incarnation, seq)
        return False

    def _apply(self, known: Known, now: float, by: str = "") -> None:
        """Take in a whole row."""
        member = known.member
        here = self.table.get(member.uid)
        if member.uid == self.me.uid or known.status in (SUSPECT, DOWN):
            if here is None and member.uid != self.me.uid:
                self._put(known)
                if known.status == DOWN:
                    self._down_since[member.uid] = now
                    return
                self._effects.append(Up(known.shown()))
                self._suspect(known, by, now)
                return
            self._hear_of(member.uid, known.status, member.incarnation, member.seq, by, now, member.address)
            return
        if here is not None and not overrides(here, known.status, member.incarnation, member.seq):
            return
        self._put(known)
        self._spread(
            known, is_urgent=here is None or not here.is_up or _apart_from_load(here) != _apart_from_load(known)
        )
        if known.status == LEFT:
            self._buried(known, here, now)
            return
        if by == "" or here is None or not here.is_up:
            self.heard[member.uid] = now
        self._suspicions.pop(member.uid, None)
        self._down_since.pop(member.uid, None)
        if here is None or not here.is_up:
            self._effects.append(Up(known.shown()))
        elif here.member.incarnation < member.incarnation:
            # It has been started anew, faster than anybody took it to be down: what was there is gone.
            self._effects += [Down(here.shown(), DOWN), Up(known.shown())]
        elif here.shown() != known.shown():
            self._effects.append(Changed(known.shown()))

    def _hear_of(
        self, uid: str, status: str, incarnation: int, seq: int, by: str, now: float, address: str = "", size: int = 0
    ) -> None:
        """Take in what others say of a member."""
        if uid == self.me.uid:
            if status != DOWN or not self._yields_to_me(by, size):
                self._hear_of_me(status, incarnation, seq, address, now)
            return
        here = self.table.get(uid)
        if here is None or status not in (SUSPECT, DOWN, LEFT):
            return
        if status == SUSPECT and here.status == SUSPECT and (incarnation, seq) == _order(here.member):
            self._confirm(here, by, now)
        elif overrides(here, status, incarnation, seq):
            incarnation, seq = max((incarnation, seq), _order(here.member))
            said = replace(here.member, incarnation=incarnation, seq=seq)
            self._set(replace(here, member=said), status, now, by)
            if status == SUSPECT and self._rng.random() * self.size < LOOKERS:
                self._at_once.append(uid)

    def _yields_to_me(self, by: str, size: int) -> bool:
        """Whether one that takes this node to be down is the one to give in: it has been cut off, and not this one.

        Both take each other to be down. The one that sees fewer nodes yields; of two that see as many, that with the
        greater uid. So a node that comes back does not fence all the others.
        """
        other = self.table.get(by)
        return other is not None and not other.is_up and (size, self.me.uid) < (self.size, by)

    def _hear_of_me(self, status: str, incarnation: int, seq: int, address: str, now: float) -> None:
        me = self.me
        if status == ALIVE:
            if address and address != me.address and incarnation >= me.incarnation:
                self._effects.append(Twin(address))
            elif (incarnation, seq) > _order(me):  # what our own disk has forgotten
                self._say_again(replace(me, incarnation=incarnation + 1, seq=0))
        elif status == SUSPECT and (incarnation, seq) >= _order(me):
            self.health.missed(1)
            same = incarnation == me.incarnation
            self._say_again(replace(me, seq=seq + 1) if same else replace(me, incarnation=incarnation + 1, seq=0))
        elif status in (DOWN, LEFT) and incarnation >= me.incarnation:
            self.health.missed(1)
            self._say_again(replace(me, incarnation=incarnation + 1, seq=0))
            # It was this node that could not be reached: those that it took to be down were perhaps not.
            down = [known.member for uid in self._down_since if (known := self.table[uid]).status == DOWN]
            self.remember(down, now)

    def _say_again(self, me: Member) -> None:
        is_fenced = me.incarnation > self.me.incarnation
        self.me = me
        self._gossip.add(me.uid, row_of(Known(me)), len(self.table) + 1, True)
        if is_fenced:
            self._effects.append(Changed(me))

    def _set(self, here: Known, status: str, now: float, by: str = "") -> None:
        """Change what is known of a member by what others say of it."""
        known = replace(here, status=status)
        self._put(known)
        self._spread(known, by)
        if status == SUSPECT:
            self._suspect(known, by, now)
            self._down_since.pop(known.member.uid, None)
            self._effects.append(Changed(known.shown()) if here.is_up else Up(known.shown()))
        else:
            self._buried(known, here, now)

    def _buried(self, known: Known, before: Known | None, now: float) -> None:
        self._suspicions.pop(known.member.uid, None)
        self._down_since[known.member.uid] = now
        if before is not None and before.is_up:
            self._effects.append(Down(known.shown(), known.status))

    def _suspect(self, known: Known, by: str, now: float) -> None:
        self._suspicions[known.member.uid] = Suspicion(now, self.size, by or self.me.uid)

    def _confirm(self, known: Known, by: str, now: float) -> None:
        suspicion = self._suspicions.get(known.member.uid)
        if suspicion is not None and suspicion.confirm(by, now):
            self._spread(known, by)

    def _spread(self, known: Known, by: str = "", is_urgent: bool = True) -> None:
        member = known.member
        if known.status in (ALIVE, LEFT):
            self._gossip.add(member.uid, row_of(known), len(self.table) + 1, is_urgent)
        else:
            news = self._said_of(member, known.status, by)
            self._gossip.add(member.uid, news, len(self.table) + 1, True)

    def _said_of(self, member: Member, status: str, by: str = "") -> list[Any]:
        return [member.uid, status, member.incarnation, member.seq, by or self.me.uid, self.size]

    def _put(self, known: Known) -> None:
        uid = known.member.uid
        before = self.table.get(uid)
        if before is None:
            self._uids = [*self._uids, uid]
        self._ups += known.is_up - (before is not None and before.is_up)
        if uid == self._follows or (known.is_up and self._distance(uid) < self._distance(self._follows)):
            self._follows = ""
        self.table[uid] = known

    def _distance(self, uid: str) -> tuple[bool, str]:
        """Return what orders members from this one on, round by uid."""
        return uid <= self.me.uid, uid

    def _next_one(self) -> str | None:
        """Return the uid of the next member that is up, by uid; None: there is none."""
        if not self._follows:
            ups = (uid for uid in self._uids if uid != self.me.uid and self.table[uid].is_up)
            self._follows = min(ups, key=self._distance, default="")
        return self._follows or None

    def _forget(self, uid: str) -> None:
        """Forget one that is not up."""
        self.table.pop(uid, None)
        self.heard.pop(uid, None)
        self._down_since.pop(uid, None)
        self._uids = [each for each in self._uids if each != uid]

    def _done(self) -> list[Effect]:
        effects, self._effects = self._effects, []
        return effects


def _apart_from_load(known: Known) -> Known:
    return replace(known, member=replace(known.member, load=0.0, work=0, seq=0))


def _order(member: Member) -> tuple[int, int]:
    return member.incarnation, member.seq
