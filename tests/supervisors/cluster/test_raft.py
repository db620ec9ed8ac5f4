"""Raft, in a world that loses, doubles, delays and reorders messages, cuts the net, kills and stops voters."""

import heapq
import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from property_kit import examples

from supervisors.cluster.leases.raft import Raft
from supervisors.cluster.leases.raft_disk import RaftFile
from supervisors.cluster.leases.raft_terms import COMMAND, EMPTY, LEADER, SILENT_SECONDS, VOTERS, Entry, Kept, Snapshot


class Disk:
    """What a voter has written, as its shell writes it."""

    def __init__(self, kept):
        self.kept = kept

    def copy(self):
        return Kept(self.kept.term, self.kept.voted, self.kept.snapshot, list(self.kept.log))

    def save(self, what):
        kept = self.kept
        match what:
            case ("vote", term, voted):
                assert term >= kept.term
                kept.term, kept.voted = term, voted
            case ("log", entries):
                place = entries[0].at - kept.snapshot.at - 1
                assert 0 <= place <= len(kept.log)
                kept.log = kept.log[:place] + list(entries)
            case ("snapshot", snapshot):
                same = [e for e in kept.log if (e.at, e.term) == (snapshot.at, snapshot.term)]
                kept.log = [e for e in kept.log if e.at > snapshot.at] if same else []
                kept.snapshot = snapshot


class FileDisk:
    """The same on a real file, as its shell uses it."""

    def __init__(self, path, kept):
        self.path = path
        file = RaftFile(path)
        file.replace("group", kept)
        file.close()
        self.file, self.voter = RaftFile(path), None

    def copy(self):
        self.file.close()
        self.file = RaftFile(self.path)
        return self.file.kept

    def save(self, what):
        raft = self.voter.raft
        self.file.save("group", [what], Kept(raft.term, raft.voted, raft.snapshot, raft.log))


class Voter:
    """A voter with its disk, and a state that is the list of all commands in their order."""

    def __init__(self, world, name, kept):
        self.world, self.name, self.disk = world, name, world.make_disk(name, kept)
        self.disk.voter = self
        self.is_up, self.is_stopped, self.waiting = True, False, []
        self.start()

    def start(self):
        self.raft = Raft(self.name, self.disk.copy(), self.world.now, self.world.random)
        self.state, self.asked, self.reading = [], {}, {}
        self.turn()

    def turn(self):
        ready = self.raft.take()
        for what in ready.saves:
            self.disk.save(what)
            if self.world.random.random() < self.world.kills:  # between the disk and the net
                return self.kill()
        for to, message in ready.sends:
            self.world.send(self.name, to, message)
        if ready.restored is not None:
            self.state = [tuple(each) for each in ready.restored.data]
        for entry in ready.entries:
            if entry.kind == COMMAND:
                self.state.append((entry.at, entry.data))
                self.world.applied(self, entry)
            term = self.asked.pop(entry.at, None)
            if term == entry.term:
                self.world.done.append((entry.at, entry.data))
        for number in ready.reads:
            before = self.reading.pop(number)
            assert len(self.state) >= before, f"an old state was read at {self.name}"
            self.world.reads += 1
        for number in ready.failed:
            self.reading.pop(number)
        if self.raft.role == LEADER:
            assert self.world.leaders.setdefault(self.raft.term, self.name) == self.name
        if len(self.raft.log) > 20 and self.world.random.random() < 0.1:
            self.raft.compact(list(self.state))
            for what in self.raft.take().saves:
                self.disk.save(what)
        return None

    def kill(self):
        self.is_up = False
        self.world.later(self.world.random.uniform(0.1, 6), self.revive)

    def revive(self):
        self.is_up = True
        self.start()

    def stop(self):
        self.is_stopped = True
        self.world.later(self.world.random.uniform(0.5, 20), self.go_on)

    def go_on(self):
        self.is_stopped = False
        waiting, self.waiting = self.waiting, []
        for sender, message in waiting:
            self.take(sender, message)

    def take(self, sender, message):
        if self.is_stopped:
            self.waiting.append((sender, message))
        elif self.is_up:
            self.raft.receive(sender, message, self.world.now)
            self.turn()

    def tick(self):
        if self.is_up and not self.is_stopped and self.world.now >= self.raft.next_at():
            self.raft.tick(self.world.now)
            self.turn()


class World:
    def __init__(self, seed, count, faults, make_disk=lambda name, kept: Disk(kept)):
        self.make_disk = make_disk
        self.random = random.Random(seed)
        self.now, self.number, self.events = 0.0, itertools.count(), []
        self.faults, self.kills = faults, 0.002 if faults else 0.0
        self.truth, self.done, self.leaders, self.reads = {}, [], {}, 0
        self.cuts, self.commands = set(), itertools.count()
        names = [chr(97 + n) for n in range(count)]
        first = Snapshot(1, 0, (names[0],), [])
        self.voters = {name: Voter(self, name, Kept(snapshot=first if name == names[0] else EMPTY)) for name in names}
        self.wanted = tuple(names[: count if count % 2 else count - 1])

    def later(self, seconds, function, *args):
        heapq.heappush(self.events, (self.now + seconds, next(self.number), function, args))

    def send(self, sender, to, message):
        if (sender, to) in self.cuts or to not in self.voters:
            return
        copies = 1
        if self.faults:
            copies = self.random.choice([0, 1, 1, 1, 1, 1, 1, 1, 1, 2])
        for _ in range(copies):
            delay = self.random.uniform(0.001, 0.02)
            if self.faults and self.random.random() < 0.1:
                delay = self.random.expovariate(1 / 1.5)
            self.later(delay, self.voters[to].take, sender, message)

    def applied(self, voter, entry):
        known = self.truth.setdefault(entry.at, (entry.term, entry.data))
        assert known == (entry.term, entry.data), f"{voter.name} has another entry {entry.at}"

    def step(self):
        self.later(0.05, self.step)
        for voter in self.voters.values():
            voter.tick()
        up = [voter for voter in self.voters.values() if voter.is_up and not voter.is_stopped]
        for voter in up:
            if voter.raft.role == LEADER:
                voter.raft.wish(self.wanted, self.now)
                voter.turn()
        if up:
            voter = self.random.choice(up)
            place = voter.raft.propose(next(self.commands), self.now)
            if place is not None:
                voter.asked[place[0]] = place[1]
            number = next(self.number)
            if voter.raft.read(number, self.now):
                # Whatever anybody was told to be done must be in what is read.
                last = max(self.done, default=(0,))[0]
                voter.reading[number] = sum(index <= last for index in self.truth)
            voter.turn()
        if not self.faults:
            return
        dice = self.random.random()
        if dice < 0.01:
            self.random.choice(list(self.voters.values())).kill()
        elif dice < 0.015:
            self.random.choice(list(self.voters.values())).stop()
        elif dice < 0.03:
            names = list(self.voters)
            half = set(self.random.sample(names, self.random.randint(1, len(names) - 1)))
            both = self.random.random() < 0.5
            self.cuts = {(a, b) for a in names for b in names if a in half and b not in half}
            self.cuts |= {(b, a) for a, b in self.cuts} if both else set()
        elif dice < 0.06:
            self.cuts = set()
        elif dice < 0.065:
            names = list(self.voters)
            self.wanted = tuple(self.random.sample(names, self.random.choice([1, 3, 3, 5]) if len(names) > 4 else 3))

    def run(self, seconds):
        if not self.events or all(function != self.step for _, _, function, _ in self.events):
            self.later(0, self.step)
        until = self.now + seconds
        while self.events and self.events[0][0] <= until:
            self.now, _, function, args = heapq.heappop(self.events)
            function(*args)
        self.now = until

    def heal(self):
        self.faults, self.kills, self.cuts = False, 0.0, set()
        self.run(30)

    def check(self):
        for voter in self.voters.values():
            assert voter.state == [(i, self.truth[i][1]) for i, _ in voter.state]
            assert [i for i, _ in voter.state] == [i for i in sorted(self.truth) if i <= voter.raft.applied]
        for index, command in self.done:
            assert self.truth[index][1] == command


@settings(max_examples=examples(8))
@given(st.integers(0, 2**32), st.sampled_from([3, 5, 6]))
def test_what_was_done_stays_and_all_copies_agree_whatever_happens(seed, count):
    world = World(seed, count, faults=True)
    world.run(40)
    world.heal()
    world.check()
    before = len(world.done)
    world.run(5)
    world.check()
    assert len(world.done) > before, "nothing is decided though everything is well again"


@pytest.mark.soak
def test_what_was_done_stays_in_many_longer_worlds(rounds):
    for number in rounds:
        world = World(number, 3 + number % 4, faults=True)
        world.run(300)
        world.heal()
        world.check()


def test_what_a_voter_has_on_a_real_file_is_what_it_goes_on_from(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fdatasync", lambda fd: None)
    monkeypatch.setattr("os.fsync", lambda fd: None)
    for seed in range(2):
        world = World(seed, 3, True, lambda name, kept, seed=seed: FileDisk(tmp_path / f"{name}{seed}", kept))
        world.run(60)
        world.heal()
        world.check()
        for voter in world.voters.values():
            kept = voter.disk.copy()
            raft = voter.raft
            assert (kept.term, kept.voted, kept.log) == (raft.term, raft.voted, raft.log)
            assert tuple(kept.snapshot.voters) == raft.snapshot.voters
            assert kept.snapshot.data == raft.snapshot.data


def test_things_happen_in_that_world():
    """The test above would hold in a world where nothing is decided."""
    done = reads = leaders = 0
    for seed in range(4):
        world = World(seed, 5, faults=True)
        world.run(60)
        done, reads, leaders = done + len(world.done), reads + world.reads, leaders + len(world.leaders)
    assert done > 100
    assert reads > 100
    assert leaders > 10


def test_one_voter_becomes_three_and_five_and_one_again():
    world = World(1, 5, faults=False)
    for wanted in ("a", "abc", "abcde", "cde", "e"):
        world.wanted = tuple(wanted)
        world.run(10)
        leader = next(voter for voter in world.voters.values() if voter.raft.role == LEADER)
        assert sorted(leader.raft.voters) == list(wanted)
        assert leader.name in wanted
    world.check()
    assert len(world.done) > 100


def test_a_new_voter_counts_only_with_all_that_are_to_come():
    """Of two voters none may die; so nobody is made the second one while the third does not answer."""
    world = World(1, 3, faults=False)
    world.cuts = {(x, y) for x in "abc" for y in "abc" if "c" in (x, y)}
    world.run(10)
    assert world.voters["a"].raft.voters == ("a",)
    world.cuts = set()
    world.run(10)
    assert sorted(world.voters["b"].raft.voters) == ["a", "b", "c"]


@pytest.mark.parametrize("is_new", [False, True])
@pytest.mark.parametrize("dead", [0, 1, 2])
def test_a_voter_that_is_gone_for_good_is_not_kept_while_one_that_is_there_goes(dead, is_new):
    """Of a leader, one that answers and one that is dead two are to go: with the dead one left nothing counts again."""
    world = World(1, 3, faults=False)
    world.run(10)
    first = next(voter for voter in world.voters.values() if voter.raft.role == LEADER)
    gone = world.voters[first.raft.voters[dead]]
    gone.is_up = False
    left = [voter for voter in world.voters.values() if voter is not gone]
    if is_new:  # who begins to lead has heard of nobody yet
        world.run(0.1)
        world.wanted = (left[0].name,)
        left[1].is_up = False
        left[0].start()
        world.run(0.1)
        left[1].revive()
    world.run(5)
    leader = next(voter for voter in left if voter.raft.role == LEADER)
    world.wanted = (leader.name,)
    world.run(10)
    assert leader.raft.voters == world.wanted
    before = len(world.done)
    world.run(5)
    assert len(world.done) > before
    world.check()


@pytest.mark.parametrize("heard_before", [False, True])
def test_who_leads_and_goes_leads_until_those_that_stay_know(heard_before):
    """Else nobody would: the one that stays lacks the last entry, and the one that has it is no voter by that."""
    world = World(1, 2, faults=False)
    before = Snapshot(2, 1, ("a", "b"), [])
    goes = Entry(3, 2, VOTERS, ["b"])
    kept = {"a": Kept(2, "a", before, [goes]), "b": Kept(2, "a", before, [goes] if heard_before else [])}
    world.voters = {name: Voter(world, name, each) for name, each in kept.items()}
    world.wanted = ("b",)
    world.run(15)
    stays = world.voters["b"].raft
    assert (stays.role, stays.voters) == (LEADER, ("b",))
    assert world.done
    world.check()


def test_a_peer_that_is_silent_gets_nothing_large():
    """What is sent to a node that is down is kept for it by the transport, for minutes."""
    world = World(1, 3, faults=False)
    world.run(10)
    leader = next(voter for voter in world.voters.values() if voter.raft.role == LEADER)
    other = next(voter for voter in world.voters.values() if voter is not leader)
    other.is_stopped = True
    world.run(5)
    leader.raft.compact([tuple(each) for each in leader.state])
    leader.turn()
    other.waiting.clear()
    world.run(20)
    assert other.waiting
    assert {message[0] for _, message in other.waiting} <= {"append", "prevote"}
    assert not any(message[4] for _, message in other.waiting if message[0] == "append")
    other.go_on()
    world.run(5)
    world.check()
    assert other.raft.applied >= leader.raft.applied - 2


def test_of_three_voters_one_may_die_and_with_two_dead_nothing_is_decided():
    world = World(1, 3, faults=False)
    world.run(10)
    leader = next(voter for voter in world.voters.values() if voter.raft.role == LEADER)
    leader.is_up = False
    before = len(world.done)
    world.run(10)
    assert len(world.done) > before
    other = next(voter for voter in world.voters.values() if voter.is_up and voter.raft.role == LEADER)
    other.is_up = False
    world.run(5)
    before = len(world.done)
    world.run(30)
    last = next(voter for voter in world.voters.values() if voter.is_up)
    assert (len(world.done), last.raft.role == LEADER) == (before, False)
    assert last.raft.term < 100  # and it does not shout
    leader.revive()
    world.run(10)
    assert len(world.done) > before
    world.check()


def test_a_leader_that_is_cut_off_leads_no_more_and_its_return_disturbs_nobody():
    world = World(3, 3, faults=False)
    world.run(10)
    old = next(voter for voter in world.voters.values() if voter.raft.role == LEADER)
    world.cuts = {(x, y) for x in "abc" for y in "abc" if old.name in (x, y)}
    world.run(5)
    assert old.raft.role != LEADER
    new = next(voter for voter in world.voters.values() if voter.raft.role == LEADER)
    term = new.raft.term
    world.run(20)
    world.cuts = set()
    world.run(5)
    assert (new.raft.role, new.raft.term) == (LEADER, term)
    assert old.raft.leader == new.name


@pytest.mark.parametrize(
    ("method", "broken"),
    [
        (
            "_take_entries",
            lambda self, leader, before, term, rows, commit, round_: Raft.__dict__["_was"](
                self, leader, before, self._term_at(before), rows, commit, round_
            ),
        ),
        ("_has_won", lambda self: True),
        ("_set_term", lambda self, term, voted: (setattr(self, "term", term), setattr(self, "voted", voted))),
    ],
)
def test_a_raft_that_is_broken_is_found_out(monkeypatch, method, broken):
    """Of the tests above: they fail where a rule is left out."""
    monkeypatch.setattr(Raft, "_was", getattr(Raft, method), raising=False)
    monkeypatch.setattr(Raft, method, broken)

    def many():
        for seed in range(60):
            world = World(seed, 3, faults=True)
            world.run(30)
            world.check()

    with pytest.raises((AssertionError, IndexError, TypeError)):
        many()


def test_a_silent_peer_is_not_written_to_all_the_time():
    world = World(1, 3, faults=False)
    world.run(10)
    leader = next(voter for voter in world.voters.values() if voter.raft.role == LEADER)
    other = next(voter for voter in world.voters.values() if voter is not leader)
    other.is_stopped = True
    world.run(20)
    assert 10 < len(other.waiting) < 60
    other.go_on()
    world.run(2)
    world.check()
    assert other.raft.applied >= leader.raft.applied - 2
    assert SILENT_SECONDS == 1.0
