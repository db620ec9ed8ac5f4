"""Who is in sync, and what counts: messages are lost, late and twice, nodes die, and what counted stays."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from property_kit import examples

from dspex_actors.runs.standby.core import InSync

NODES = ("a", "b", "c")
#: A run, and one of its steps: they have one set.
RUNS = ("o", "o.0")


def stand(log):
    """Return how far a log is, and of which epoch its last entry is."""
    return len(log), log[-1][0] if log else 0


class World:
    """Three nodes with logs on disks, a store that compares and sets, and whoever coordinates by it.

    A log is a list of (epoch, content); the number of an entry is its place in it, from 1. Each node has one of each
    run of a family.
    """

    def __init__(self, seed, runs=RUNS[:1]):
        self.dice, self.runs = random.Random(seed), runs
        self.logs = {(node, run): [] for node in NODES for run in runs}
        self.claimed = dict.fromkeys(self.logs, 0)
        self.epoch, self.set, self.version = 0, frozenset("a"), 1
        self.told = {run: set() for run in runs}  # what was told to count
        self.next = 0
        self.coordinators = {}  # node → [epoch, InSync, the version of the set that it knows, how far each run is]
        self.asked = []  # on their way to the store: (node, epoch, version, set)
        self.copies = []  # on their way: (run, from, to, epoch, the stand that they are for, anew, entries)
        self.acks = []  # on their way: (run, from, to, epoch, number)
        self.take_over("a")

    def step(self):
        rules = [self.write, self.send, self.send, self.arrive, self.arrive, self.acknowledge, self.acknowledge]
        rules += [self.ask, self.put, self.put]
        self.dice.choice(rules * 4 + [self.die, self.take_over])()
        for node in self.set:
            for run in self.runs:
                assert self.told[run] <= set(self.logs[node, run]), (node, run, self.told, self.logs)
        for run in self.runs:
            seen = {}
            for node in NODES:
                for number, entry in enumerate(self.logs[node, run], 1):
                    assert seen.setdefault((number, entry[0]), entry) == entry

    def pick(self, things):
        """Take something that is on its way: perhaps not the first, and perhaps it comes again."""
        place = self.dice.randrange(len(things))
        return things[place] if self.dice.random() < 0.2 else things.pop(place)

    def leads(self, node, epoch):
        return node in self.coordinators and self.coordinators[node][0] == epoch

    def tell(self, node):
        for run, copied in self.coordinators[node][3].items():
            self.told[run] |= set(self.logs[node, run][: copied.counted])

    def write(self):
        run = self.dice.choice(self.runs)
        for node, (epoch, _, _, family) in list(self.coordinators.items()):
            if self.claimed[node, run] != epoch:
                del self.coordinators[node]  # fenced by its own disk
                continue
            self.next += 1
            self.logs[node, run].append((epoch, self.next))
            family[run].wrote(len(self.logs[node, run]))
            self.tell(node)

    def send(self):
        """Look what a copy has, and send what it lacks; another content only to one that cannot claim."""
        to, run = self.dice.choice(NODES), self.dice.choice(self.runs)
        for node, (epoch, _, _, family) in self.coordinators.items():
            mine, theirs, copied = self.logs[node, run], self.logs[to, run], family[run]
            if node == to:
                continue
            if theirs == [] or stand(theirs) == stand(mine[: len(theirs)]):
                copied.begins_at(to, len(theirs))
                self.copies.append((run, node, to, epoch, stand(theirs), False, tuple(mine[len(theirs) :])))
            elif copied.is_left_out(to):
                copied.begins_at(to, 0)
                self.copies.append((run, node, to, epoch, stand(theirs), True, tuple(mine)))
            else:
                copied.leave_out(to)

    def arrive(self):
        if not self.copies:
            return
        run, sender, to, epoch, seen, anew, entries = self.pick(self.copies)
        log = self.logs[to, run]
        if epoch < self.claimed[to, run] or stand(log) != seen:
            return
        if anew:
            log.clear()
        log.extend(entries[: self.dice.randint(0, len(entries))] if not anew else entries)
        self.claimed[to, run] = epoch
        self.acks.append((run, to, sender, epoch, len(log)))

    def acknowledge(self):
        if self.acks:
            run, node, to, epoch, number = self.pick(self.acks)
            if self.leads(to, epoch):
                self.coordinators[to][3][run].has(node, number)
                self.tell(to)

    def ask(self):
        for node, (epoch, core, version, _) in self.coordinators.items():
            for one in NODES:
                if self.dice.random() < 0.3:
                    core.leave_out(one)
                else:
                    core.take_in(one)
            if (aim := core.wish(NODES)) is not None:
                core.ask(aim)
                self.asked.append((node, epoch, version, aim))

    def put(self):
        """What was asked for gets to the store, at once or late; the answer may be lost."""
        if not self.asked:
            return
        node, epoch, version, aim = self.pick(self.asked)
        if (epoch, version) == (self.epoch, self.version):
            self.set, self.version = aim, version + 1
        # An answer to what was given up long ago is not heard: since then another one was asked for.
        is_heard = self.leads(node, epoch) and epoch == self.epoch and version == self.coordinators[node][2]
        if is_heard and self.dice.random() < 0.7:
            self.coordinators[node][2] = self.version  # of a conflict one learns too what is there
            self.coordinators[node][1].settled(self.set)
            self.tell(node)

    def die(self):
        """What is in memory is gone, not what is on the disk."""
        self.coordinators.pop(self.dice.choice(NODES), None)

    def take_over(self, node=None):
        """The lease is over, and one of the set claims the run with the next epoch; the one before may not know."""
        node = node or self.dice.choice(sorted(self.set))
        self.epoch += 1
        for run in self.runs:
            self.claimed[node, run] = self.epoch
            self.logs[node, run].append((self.epoch, "claim"))
        first, *others = self.runs
        core = InSync(node, self.set, len(self.logs[node, first]))
        family = {first: core} | {run: core.add(len(self.logs[node, run])) for run in others}
        self.coordinators[node] = [self.epoch, core, self.version, family]
        self.tell(node)


@settings(max_examples=examples(150), deadline=None)
@given(seed=st.integers(0, 1 << 32), runs=st.sampled_from([RUNS, RUNS[:1]]))
def test_what_counted_is_on_the_disk_of_all_who_may_claim_the_run(seed, runs):
    """Of all runs of a family: who may claim one of them may claim all."""
    world = World(seed, runs)
    for _ in range(250):
        world.step()


def test_a_cluster_left_alone_counts_everything_and_has_all_in_sync():
    world = World(1, RUNS)
    [(_, core, _, family)] = world.coordinators.values()
    for _ in range(800):
        for one in NODES:
            core.take_in(one)
        world.dice.choice([world.write, world.send, world.arrive, world.acknowledge, world.put])()
        if (aim := core.wish(NODES)) is not None:
            core.ask(aim)
            world.asked.append(("a", 1, world.version, aim))
    assert core.agreed == world.set == set(NODES)
    assert all(copied.counted > 20 for copied in family.values())
