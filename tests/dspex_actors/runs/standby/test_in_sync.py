"""Who is in sync, and what counts: messages are lost, late and twice, nodes die, and what counted stays."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from property_kit import examples

from dspex_actors.runs.standby.core import InSync

NODES = ("a", "b", "c")


def stand(log):
    """Return how far a log is, and of which epoch its last entry is."""
    return len(log), log[-1][0] if log else 0


class World:
    """Three nodes with logs on disks, a store that compares and sets, and whoever coordinates by it.

    A log is a list of (epoch, content); the number of an entry is its place in it, from 1.
    """

    def __init__(self, seed):
        self.dice = random.Random(seed)
        self.logs = {node: [] for node in NODES}
        self.claimed = dict.fromkeys(NODES, 0)
        self.epoch, self.set, self.version = 0, frozenset("a"), 1
        self.told = set()  # what was told to count
        self.next = 0
        self.coordinators = {}  # node → [epoch, InSync, the version of the set that it knows]
        self.asked = []  # on their way to the store: (node, epoch, version, set)
        self.copies = []  # on their way: (from, to, epoch, the stand that they are for, anew, entries)
        self.acks = []  # on their way: (from, to, epoch, number)
        self.take_over("a")

    def step(self):
        rules = [self.write, self.send, self.send, self.arrive, self.arrive, self.acknowledge, self.acknowledge]
        rules += [self.ask, self.put, self.put]
        self.dice.choice(rules * 4 + [self.die, self.take_over])()
        for node in self.set:
            assert self.told <= set(self.logs[node]), (node, self.told, self.logs)
        seen = {}
        for log in self.logs.values():
            for number, entry in enumerate(log, 1):
                assert seen.setdefault((number, entry[0]), entry) == entry

    def pick(self, things):
        """Take something that is on its way: perhaps not the first, and perhaps it comes again."""
        place = self.dice.randrange(len(things))
        return things[place] if self.dice.random() < 0.2 else things.pop(place)

    def leads(self, node, epoch):
        return node in self.coordinators and self.coordinators[node][0] == epoch

    def tell(self, node):
        counted = self.coordinators[node][1].counted
        self.told |= set(self.logs[node][:counted])

    def write(self):
        for node, (epoch, core, _) in list(self.coordinators.items()):
            if self.claimed[node] != epoch:
                del self.coordinators[node]  # fenced by its own disk
                continue
            self.next += 1
            self.logs[node].append((epoch, self.next))
            core.wrote(len(self.logs[node]))
            self.tell(node)

    def send(self):
        """Look what a copy has, and send what it lacks; another content only to one that cannot claim."""
        to = self.dice.choice(NODES)
        for node, (epoch, core, _) in self.coordinators.items():
            mine, theirs = self.logs[node], self.logs[to]
            if node == to:
                continue
            if theirs == [] or stand(theirs) == stand(mine[: len(theirs)]):
                core.begins_at(to, len(theirs))
                self.copies.append((node, to, epoch, stand(theirs), False, tuple(mine[len(theirs) :])))
            elif core.is_left_out(to):
                core.begins_at(to, 0)
                self.copies.append((node, to, epoch, stand(theirs), True, tuple(mine)))
            else:
                core.leave_out(to)

    def arrive(self):
        if not self.copies:
            return
        sender, to, epoch, seen, anew, entries = self.pick(self.copies)
        if epoch < self.claimed[to] or stand(self.logs[to]) != seen:
            return
        if anew:
            self.logs[to] = []
        self.logs[to].extend(entries[: self.dice.randint(0, len(entries))] if not anew else entries)
        self.claimed[to] = epoch
        self.acks.append((to, sender, epoch, len(self.logs[to])))

    def acknowledge(self):
        if self.acks:
            node, to, epoch, number = self.pick(self.acks)
            if self.leads(to, epoch):
                self.coordinators[to][1].has(node, number)
                self.tell(to)

    def ask(self):
        for node, (epoch, core, version) in self.coordinators.items():
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
        self.claimed[node] = self.epoch
        self.logs[node].append((self.epoch, "claim"))
        self.coordinators[node] = [self.epoch, InSync(node, self.set, len(self.logs[node])), self.version]
        self.tell(node)


@settings(max_examples=examples(150), deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_what_counted_is_on_the_disk_of_all_who_may_claim_the_run(seed):
    world = World(seed)
    for _ in range(250):
        world.step()


def test_a_cluster_left_alone_counts_everything_and_has_all_in_sync():
    world = World(1)
    [(_, core, _)] = world.coordinators.values()
    for _ in range(400):
        for one in NODES:
            core.take_in(one)
        world.dice.choice([world.write, world.send, world.arrive, world.acknowledge, world.put])()
        if (aim := core.wish(NODES)) is not None:
            core.ask(aim)
            world.asked.append(("a", 1, world.version, aim))
    assert core.agreed == world.set == set(NODES)
    assert core.counted > 20
