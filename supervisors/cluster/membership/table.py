"""What is known of each member, and which of two pieces of news about one is the newer. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from supervisors.cluster.membership.messages import ALIVE, CORDONED, DOWN, DRAINING, ROLES, SUSPECT, Member
from supervisors.terms.checks import is_count, is_number, is_text
from supervisors.terms.errors import SpecError

#: It has said good-bye. Kept, and not shown, so that old news does not bring it back.
LEFT = "left"
_STATUSES = (ALIVE, SUSPECT, DOWN, LEFT)
_OWN_STATES = (ALIVE, DRAINING, CORDONED)
#: So many bytes of notes may a member have: they go with each of its datagrams.
MAX_NOTES = 200
#: How it is said that a node was copied.
SAME_FOLDER = "the same data folder runs at"
#: Load and work are told when they changed by this part of what was told, and load by so much at least.
CHANGE, LEAST_LOAD = 0.25, 0.25
#: No node tells of so many workers, or so much work.
MOST = 1 << 32


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a member.

    Args:
        member: as it has described itself last.
        status: alive, suspect, down or left.
    """

    member: Member
    status: str = ALIVE

    @property
    def is_up(self) -> bool:
        """Whether it takes part: alive or suspect."""
        return self.status in (ALIVE, SUSPECT)

    def shown(self, last_beat: float = 0.0) -> Member:
        """Return the member as others are to see it."""
        state = self.member.state if self.status == ALIVE else DOWN if self.status == LEFT else self.status
        return replace(self.member, state=state, last_beat=last_beat)


def overrides(known: Known, status: str, incarnation: int, seq: int) -> bool:
    """Whether news of a member changes what is known of it.

    Suspicion beats what the member said when it was suspected, and the member's next word beats suspicion. Death beats
    all words of an incarnation, and only the next incarnation beats death.

    Args:
        known: what is known.
        status: alive, suspect, down or left.
        incarnation: of the news.
        seq: of the news.
    """
    here, there = (known.member.incarnation, known.member.seq), (incarnation, seq)
    if not known.is_up:
        return incarnation > here[0] or (status == LEFT and known.status == DOWN and incarnation == here[0])
    match status:
        case "alive":
            return there > here
        case "suspect":
            return there > here or (there == here and known.status == ALIVE)
    return incarnation >= here[0]


def row_of(known: Known) -> list[Any]:
    """Return what is known as plain data: it is 100 to 200 bytes."""
    member = known.member
    return [
        member.uid,
        known.status,
        member.incarnation,
        member.seq,
        member.name,
        member.host,
        member.port,
        member.role,
        member.labels,
        member.version,
        member.state,
        member.load,
        member.workers,
        member.work,
        member.notes,
    ]


def mark_of(known: Known) -> list[Any]:
    """Return what says which of two rows of a member is the newer: the first of a row."""
    member = known.member
    return [member.uid, known.status, member.incarnation, member.seq]


def known_of(row: Any) -> Known:
    """Return what a row says.

    Raises:
        ValueError: it is none.
    """
    match row:
        case [
            str(uid),
            str(status),
            int(incarnation),
            int(seq),
            str(name),
            str(host),
            int(port),
            str(role),
            dict(labels),
            str(version),
            str(state),
            load,
            int(workers),
            int(work),
            list(notes),
            *_,
        ] if (
            status in _STATUSES
            and state in _OWN_STATES
            and role in ROLES
            and is_text(name)
            and is_text(uid)
            and 0 < port < 65536
            and is_number(load)
            and all(map(is_count, (incarnation, seq, workers, work)))
            and all(isinstance(part, str) for pair in labels.items() for part in pair)
            and all(isinstance(note, str) for note in notes)
        ):
            member = Member(
                name, uid, host, port, incarnation, role, labels, version, state, load, workers, work, notes, seq
            )
            return Known(member, status)
    raise ValueError(f"no row of a member: {row!r:.200}")


def is_worth_telling(before: Member, after: Member) -> bool:
    """Whether what a node has to do changed so much that others would choose another node for it.

    Args:
        before: as it was told last.
        after: as it is now.
    """

    def differs(one: float, other: float, least: float) -> bool:
        return abs(one - other) >= max(least, CHANGE * one)

    return differs(before.load, after.load, LEAST_LOAD) or differs(before.work, after.work, 1)


def checked_facts(facts: dict[str, Any]) -> dict[str, Any]:
    """Return those facts that a node may tell of itself.

    Raises:
        SpecError: one is none.
    """
    for key, value in facts.items():
        match key:
            case "load":
                is_fit = isinstance(value, int | float) and is_number(value) and 0 <= value < math.inf
            case "workers" | "work":
                is_fit = is_count(value) and value < MOST
            case "notes":
                # They go with each datagram: what others would not take in makes this node one that nobody hears.
                is_fit = isinstance(value, list) and all(map(is_text, value)) and _size(value) <= MAX_NOTES
            case _:
                is_fit = False
        if not is_fit:
            raise SpecError.of(
                f"Tell({key!r:.50})",
                value,
                f"load (a number), workers, work (whole numbers) or notes (texts of {MAX_NOTES} bytes in all)",
            )
    return facts


def _size(texts: list[str]) -> int:
    return sum(len(text.encode()) for text in texts)


def refusal(members: list[Member], new: Member, me: Member) -> str | None:
    """Return why a node cannot join, in one line; None: it can.

    Args:
        members: all that are known, those that are down too.
        new: the node.
        me: who is asked.
    """
    if new.uid == me.uid:
        if new.address == me.address:
            return f"{new.address} is this node itself: give the address of a node of the cluster"
        return f"{SAME_FOLDER} {me.address}: give each node a data folder of its own"
    if _is_loopback(new.host) and not _is_loopback(me.host):
        return (
            f"the node {new.name} has started on loopback ({new.host}), which {me.host} cannot reach: "
            "start it with --host ADDRESS"
        )
    if _is_loopback(me.host) and not _is_loopback(new.host):
        return f"the node {me.name} has started on loopback ({me.host}): start that one with --host ADDRESS"
    for other in members:
        if not other.is_up:
            continue
        if other.uid == new.uid and other.address != new.address:
            return f"{SAME_FOLDER} {other.address}: give each node a data folder of its own"
        if other.uid != new.uid and other.name == new.name:
            return f"the name {new.name} is taken by the node at {other.address}: start with --name NAME"
        if other.uid != new.uid and other.address == new.address:
            return f"the address {new.address} is that of the node {other.name}: start with another --host or --port"
    return None


def _is_loopback(host: str) -> bool:
    return host.startswith("127.")
