"""What Raft is made of, pure: entries, snapshots, what a voter keeps, and what its caller has to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

#: Heartbeats of a leader, and how long a voter waits for one until it wants to lead (up to twice as long), in seconds.
HEARTBEAT_SECONDS, ELECTION_SECONDS = 0.15, 1.0
#: A peer that does not answer is written to this often only, and without entries or a snapshot: what is sent to it may
#: queue up somewhere, for minutes.
SILENT_SECONDS = 1.0
#: So many entries go in one message, and so far behind may a new voter be to count.
BATCH, NEAR = 500, 50

FOLLOWER, CANDIDATE, LEADER = "follower", "candidate", "leader"
#: What an entry is: nothing (a new leader's first), a command of the user's, or the list of the voters.
NOTHING, COMMAND, VOTERS = 0, 1, 2


class Entry(NamedTuple):
    """One entry of the log."""

    at: int
    term: int
    kind: int
    data: Any


class Snapshot(NamedTuple):
    """What all entries up to the one at `at` have made."""

    at: int
    term: int
    voters: tuple[str, ...]
    data: bytes


EMPTY = Snapshot(0, 0, (), b"")


@dataclass(slots=True)
class Kept:
    """What a voter has on its disk.

    Args:
        term: the highest that it knows.
        voted: for whom it has voted in it; "": nobody.
        snapshot: what the log begins behind.
        log: entries behind it.
    """

    term: int = 0
    voted: str = ""
    snapshot: Snapshot = EMPTY
    log: list[Entry] = field(default_factory=list)


@dataclass(slots=True)
class Ready:
    """What is to be done, in this order.

    Args:
        saves: ("vote", term, voted), ("log", entries: the first one replaces all from its place on), ("snapshot",
            Snapshot: it replaces the log up to its place, or the whole log where that is shorter or another).
        sends: (to, message).
        restored: a snapshot that replaces the state of the user's; None: none.
        entries: to be applied now.
        reads: numbers of reads that may be answered from what is applied then.
        failed: numbers of reads that this one cannot answer any more.
    """

    saves: list[tuple[Any, ...]] = field(default_factory=list)
    sends: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)
    restored: Snapshot | None = None
    entries: list[Entry] = field(default_factory=list)
    reads: list[int] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Peer:
    """What a leader knows of another one: what to send next, what it has, when it was heard of and written to."""

    next: int
    match: int = 0
    heard_at: float = 0.0
    sent_at: float = -1e9
    round: int = 0


def majority_of(values: list[Any]) -> Any:
    """Return the greatest value that a majority of voters has reached, given that of each."""
    return sorted(values)[(len(values) - 1) // 2]
