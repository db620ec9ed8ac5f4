"""Raft, pure: a log that a majority of voters has on its disks, and one leader at a time that adds to it.

After D. Ongaro and J. Ousterhout, "In Search of an Understandable Consensus Algorithm" (2014), and Ongaro's thesis
(2014): pre-votes (9.6), a leader that hears no majority steps down (6.2), reads that are confirmed by a round of
heartbeats (6.4), one voter more or less at a time (4.1), a new voter that catches up before it counts (4.2.1), and one
that goes, who leads until that is sure (4.2.2).

After each input the caller takes what is ready (`take`): it writes `saves` to its disk, sends `sends`, then applies
`entries`. Messages may be lost, doubled, delayed and reordered: each carries its term, and what an answer refers to.
"""

from __future__ import annotations

import math
import random
from typing import Any

from supervisors.cluster.leases.raft_terms import (
    BATCH,
    CANDIDATE,
    COMMAND,
    ELECTION_SECONDS,
    FOLLOWER,
    HEARTBEAT_SECONDS,
    LEADER,
    NEAR,
    NOTHING,
    SILENT_SECONDS,
    VOTERS,
    Entry,
    Kept,
    Peer,
    Ready,
    Snapshot,
    majority_of,
)
from supervisors.cluster.leases.voters import next_step


class Raft:
    """One voter, or one that is about to become one.

    Args:
        me: its name.
        kept: what it has on its disk.
        now: the time, in seconds of a monotonic clock.
        dice: for the time until it wants to lead.
    """

    def __init__(self, me: str, kept: Kept, now: float, dice: random.Random) -> None:
        """Begin as a follower."""
        self.me, self._dice = me, dice
        self.term, self.voted, self.snapshot, self.log = kept.term, kept.voted, kept.snapshot, list(kept.log)
        self.role, self.leader = FOLLOWER, ""
        self.commit = self.applied = self.snapshot.at
        self.voters = self._voters_now()
        self._peers: dict[str, Peer] = {}
        self._votes: set[str] = set()
        self._is_asking = False  # for pre-votes
        self._wished: tuple[str, ...] = ()
        self._round, self._reads = 0, list[tuple[int, int, int]]()  # (round, index, number)
        self._heartbeat_at = 0.0
        self._ready = Ready()
        if self.snapshot.at:
            self._ready.restored = self.snapshot
        self._heard_leader_at = now
        self._rest(now)
        if self.voters == (me,):
            self._election_at = now  # nobody else can lead

    # --- the log ----------------------------------------------------------------------------------------------------

    @property
    def last(self) -> tuple[int, int]:
        """Index and term of the last entry."""
        return (self.log[-1].at, self.log[-1].term) if self.log else (self.snapshot.at, self.snapshot.term)

    def _term_at(self, index: int) -> int | None:
        if index == self.snapshot.at:
            return self.snapshot.term
        place = index - self.snapshot.at - 1
        return self.log[place].term if 0 <= place < len(self.log) else None

    def _voters_now(self, upto: float = math.inf) -> tuple[str, ...]:
        found = (tuple(entry.data) for entry in reversed(self.log) if entry.kind == VOTERS and entry.at <= upto)
        return next(found, self.snapshot.voters)

    @property
    def _may_lead(self) -> bool:
        """Whether it votes, or does as far as that is sure: who has been told to go alone may have the last entries."""
        return self.me in self.voters or self.me in self._voters_now(self.commit)

    def _append(self, entries: list[Entry]) -> None:
        """Put entries at the end, in the place of all from the index of the first on."""
        del self.log[entries[0].at - self.snapshot.at - 1 :]
        self.log += entries
        self._ready.saves.append(("log", entries))
        self.voters = self._voters_now()

    def compact(self, data: bytes) -> None:
        """Take `data`, made of all that has been applied, in the place of the entries."""
        term = self._term_at(self.applied)
        assert term is not None
        if self.applied == self.snapshot.at:
            return
        behind = self.log[self.applied - self.snapshot.at :]
        voters = self._voters_now(self.applied)
        self.snapshot, self.log = Snapshot(self.applied, term, voters, data), behind
        self._ready.saves.append(("snapshot", self.snapshot))

    # --- what the caller asks ---------------------------------------------------------------------------------------

    def take(self) -> Ready:
        """Return what is to be done, once."""
        if self.commit > self.applied:
            place = self.applied - self.snapshot.at
            self._ready.entries += self.log[place : self.commit - self.snapshot.at]
            self.applied = self.commit
        ready, self._ready = self._ready, Ready()
        return ready

    def propose(self, data: Any, now: float) -> tuple[int, int] | None:
        """Add a command to the log; return its index and term: it counts if it is applied with this term there.

        None: this one does not lead.
        """
        if self.role != LEADER:
            return None
        entry = self._add(COMMAND, data)
        self._spread(now)
        return entry.at, entry.term

    def read(self, number: int, now: float) -> bool:
        """Have `number` in `Ready.reads` when what is applied is as new as anybody knows; False: ask the leader."""
        if self.role != LEADER or self._term_at(self.commit) != self.term:
            return False
        self._round += 1
        self._reads.append((self._round, self.commit, number))
        self._spread(now, everyone=True)
        self._settle()
        return True

    def wish(self, voters: tuple[str, ...], now: float) -> None:
        """Have these as voters, one step after the other; only the leader can do it, and only while it leads."""
        self._wished = voters if self.role == LEADER else ()
        if self.role == LEADER:
            for name in voters:
                if name not in self._peers and name != self.me:
                    self._peers[name] = Peer(self.last[0] + 1, heard_at=now)
            for name in set(self._peers) - set(self.voters) - set(voters):
                del self._peers[name]
            self._step_voters(now)

    def next_at(self) -> float:
        """Return when `tick` has something to do."""
        waits_for = self._election_at if self._may_lead else 1e18
        return self._heartbeat_at if self.role == LEADER else waits_for

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self.role == LEADER:
            heard = [self._peers[name].heard_at for name in self.voters if name in self._peers]
            if majority_of([*heard, now] if self.me in self.voters else heard) < now - 2 * ELECTION_SECONDS:
                self._follow(self.term, "", now)
            elif now >= self._heartbeat_at:
                self._step_voters(now)
                self._spread(now, everyone=True)
        elif now >= self._election_at and self._may_lead:
            self._rest(now)
            self.leader = ""
            self._is_asking, self._votes = True, {self.me}
            if self._has_won():
                self._campaign(now)
            else:
                self._to_voters("prevote", self.term + 1)

    def receive(self, sender: str, message: tuple[Any, ...], now: float) -> None:
        """Take in a message of another one."""
        kind, term, *content = message
        if kind == "prevote":
            self._prevote(now, sender, term, *content)
            return
        if kind == "prevoted":
            self._prevoted(now, sender, term, *content)
            return
        if term > self.term:
            self._follow(term, "", now)
        match kind:
            case "vote":
                self._vote(now, sender, term, *content)
            case "voted":
                if self.role == CANDIDATE and term == self.term and content[0]:
                    self._votes.add(sender)
                    if self._has_won():
                        self._lead(now)
            case "append" | "snapshot" if term < self.term:
                self._send(sender, "appended", False, 0, 0)
            case "append":
                self._obey(sender, now)
                self._take_entries(sender, *content)
            case "snapshot":
                self._obey(sender, now)
                self._take_snapshot(sender, *content)
            case "appended":
                if self.role == LEADER and term == self.term and sender in self._peers:
                    self._appended(now, self._peers[sender], *content)

    # --- elections --------------------------------------------------------------------------------------------------

    def _rest(self, now: float) -> None:
        self._election_at = now + ELECTION_SECONDS * (1 + self._dice.random())

    def _send(self, to: str, kind: str, *content: Any) -> None:
        self._ready.sends.append((to, (kind, self.term, *content)))

    def _to_voters(self, kind: str, term: int) -> None:
        for name in self.voters:
            if name != self.me:
                self._ready.sends.append((name, (kind, term, *self.last)))

    def _has_won(self) -> bool:
        return 2 * len(self._votes & set(self.voters)) > len(self.voters)

    def _set_term(self, term: int, voted: str) -> None:
        self.term, self.voted = term, voted
        self._ready.saves.append(("vote", term, voted))

    def _campaign(self, now: float) -> None:
        self._is_asking = False
        self.role, self._votes = CANDIDATE, {self.me}
        self._set_term(self.term + 1, self.me)
        self._rest(now)
        if self._has_won():
            self._lead(now)
        else:
            self._to_voters("vote", self.term)

    def _lead(self, now: float) -> None:
        self.role, self.leader, self._wished = LEADER, self.me, ()
        self._peers = {name: Peer(self.last[0] + 1, heard_at=now) for name in self.voters if name != self.me}
        self._add(NOTHING, None)
        self._spread(now, everyone=True)

    def _follow(self, term: int, leader: str, now: float) -> None:
        if term > self.term:
            self._set_term(term, "")
        if self.role == LEADER:
            self._ready.failed += [number for _, _, number in self._reads]
            self._reads, self._peers = [], {}
        if self.role != FOLLOWER:
            self._rest(now)
        self.role, self.leader, self._is_asking = FOLLOWER, leader, False

    def _obey(self, leader: str, now: float) -> None:
        self._follow(self.term, leader, now)
        self._heard_leader_at = now
        self._rest(now)

    def _prevote(self, now: float, sender: str, term: int, index: int, of_term: int) -> None:
        has_leader = self.role == LEADER or (self.leader != "" and now < self._heard_leader_at + ELECTION_SECONDS)
        granted = term > self.term and not has_leader and (of_term, index) >= (self.last[1], self.last[0])
        self._ready.sends.append((sender, ("prevoted", term if granted else self.term, granted)))

    def _prevoted(self, now: float, sender: str, term: int, granted: bool) -> None:
        if not granted:
            if term > self.term:
                self._follow(term, "", now)
        elif self._is_asking and term == self.term + 1:
            self._votes.add(sender)
            if self._has_won():
                self._campaign(now)

    def _vote(self, now: float, sender: str, term: int, index: int, of_term: int) -> None:
        granted = (
            term == self.term
            and self.role == FOLLOWER
            and self.voted in ("", sender)
            and (of_term, index) >= (self.last[1], self.last[0])
        )
        if granted:
            if self.voted != sender:
                self._set_term(term, sender)
            self._rest(now)
        self._send(sender, "voted", granted)

    # --- the leader -------------------------------------------------------------------------------------------------

    def _add(self, kind: int, data: Any) -> Entry:
        entry = Entry(self.last[0] + 1, self.term, kind, data)
        self._append([entry])
        self._advance()
        return entry

    def _spread(self, now: float, everyone: bool = False) -> None:
        """Send each peer what it has not got; `everyone`: those that have everything too, so that they hear of it."""
        if everyone:
            self._heartbeat_at = now + HEARTBEAT_SECONDS
        for name, peer in self._peers.items():
            is_silent = now - peer.heard_at > SILENT_SECONDS
            if (is_silent and now - peer.sent_at < SILENT_SECONDS) or not (everyone or peer.next <= self.last[0]):
                continue
            peer.sent_at = now
            before = max(peer.next - 1, self.snapshot.at) if is_silent else peer.next - 1
            term = self._term_at(before)
            if term is None:
                self._send(name, "snapshot", *self.snapshot, self._round)
                peer.next = self.snapshot.at + 1
                continue
            place = before - self.snapshot.at
            rows = [] if is_silent else [tuple(entry) for entry in self.log[place : place + BATCH]]
            self._send(name, "append", before, term, rows, self.commit, self._round)
            peer.next += len(rows)  # what is lost is sent again when its answer says where it stands

    def _appended(self, now: float, peer: Peer, ok: bool, index: int, round_: int) -> None:
        peer.heard_at = now
        peer.round = max(peer.round, round_)
        if ok:
            peer.match = max(peer.match, index)
            peer.next = max(peer.next, peer.match + 1)
            self._advance()
        else:
            peer.next = max(peer.match + 1, min(index, self.last[0]) + 1)
        self._settle()
        if peer.next <= self.last[0] and (not ok or peer.next == peer.match + 1):
            self._spread(now)

    def _advance(self) -> None:
        """Count as done what a majority has, up to the last entry of this term."""
        index = majority_of([self.last[0] if name == self.me else self._peer(name).match for name in self.voters])
        if index > self.commit and self._term_at(index) == self.term:
            self.commit = index
            if self.me not in self.voters:
                self._follow(self.term, "", self._heartbeat_at)

    def _peer(self, name: str) -> Peer:
        return self._peers.get(name) or Peer(0)

    def _settle(self) -> None:
        """Tell which reads are confirmed: a majority has answered a message that was sent after they were asked."""
        rounds = [self._round if name == self.me else self._peer(name).round for name in self.voters]
        confirmed = majority_of(rounds)
        while self._reads and self._reads[0][0] <= confirmed:
            self._ready.reads.append(self._reads.pop(0)[2])

    def _step_voters(self, now: float) -> None:
        """Bring the voters one nearer to those that are wished, if the last step is done."""
        settled = self._term_at(self.commit) == self.term and all(
            entry.kind != VOTERS for entry in self.log[self.commit - self.snapshot.at :]
        )
        if not self._wished or not settled or set(self._wished) == set(self.voters):
            return
        fresh = [name for name in self._wished if name not in self.voters]
        if not all(self._is_near(self._peers.get(name), now) for name in fresh):
            return  # with half of them in, one death more would be too much
        heard = {n for n, peer in self._peers.items() if peer.match and now - peer.heard_at < SILENT_SECONDS}
        if (step := next_step(self.voters, self._wished, self.me, heard)) is not None:
            self._add(VOTERS, step)

    def _is_near(self, peer: Peer | None, now: float) -> bool:
        """Whether it answers, and has nearly all of the log."""
        return peer is not None and peer.match > max(0, self.last[0] - NEAR) and now - peer.heard_at < SILENT_SECONDS

    # --- the follower -----------------------------------------------------------------------------------------------

    def _take_entries(self, leader: str, before: int, of_term: int, rows: list[Any], commit: int, round_: int) -> None:
        if before < self.snapshot.at:  # what the snapshot has is the same everywhere
            rows = [row for row in rows if row[0] > self.snapshot.at]
            before, of_term = self.snapshot.at, self.snapshot.term
            if rows and rows[0][0] != before + 1:
                rows = []
        mine = self._term_at(before)
        if mine != of_term:
            hint = min(self.last[0], before - 1)
            while mine is not None and hint > self.snapshot.at and self._term_at(hint) == mine:
                hint -= 1  # none of that term is of use
            self._send(leader, "appended", False, max(hint, self.commit), round_)
            return
        entries = [Entry(*row) for row in rows]
        fresh = next((n for n, entry in enumerate(entries) if self._term_at(entry.at) != entry.term), None)
        if fresh is not None:
            self._append(entries[fresh:])
        known = before + len(entries)
        self.commit = max(self.commit, min(commit, known))
        self._send(leader, "appended", True, known, round_)

    def _take_snapshot(self, leader: str, index: int, term: int, voters: list[str], data: bytes, round_: int) -> None:
        if index > self.commit:
            snapshot = Snapshot(index, term, tuple(voters), data)
            keeps = self._term_at(index) == term
            behind = self.log[index - self.snapshot.at :] if keeps else []
            self.snapshot, self.log = snapshot, behind
            self.commit = self.applied = index
            self.voters = self._voters_now()
            self._ready.entries = []
            self._ready.restored = snapshot
            self._ready.saves.append(("snapshot", snapshot))
        self._send(leader, "appended", True, index, round_)
