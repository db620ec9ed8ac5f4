"""Owners of a deployment's limits that follow one another: whatever dies or is cut off, no window has too much."""

import dataclasses
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from property_kit import examples

from dspex_actors.lm.control.budget import LATE_MOST, Budget
from dspex_actors.lm.control.desk import AHEAD_SECONDS, Desk
from dspex_actors.lm.control.tenure import FAR_SECONDS, Start, ahead_seconds, left_by, start_after
from dspex_actors.lm.deployment import Limits

LIMIT, BURST, TTL = 60, 10.0, 5.0


@pytest.mark.parametrize(
    ("left", "start"),
    [
        (None, Start.ASK),
        (left_by("me", 0.0, None), Start.GO_ON),
        (left_by("other", 0.0, None), Start.AS_ALL_USED),
        (left_by("", 0.0, None), Start.AS_ALL_USED),
        (left_by("", 5.0, {}), Start.FROM_WHAT_IS_LEFT),
        (left_by("me", 5.0, {"rpm": []}), Start.FROM_WHAT_IS_LEFT),
    ],
)
def test_how_an_owner_begins(left, start):
    assert start_after(left, "me") is start


def test_what_was_given_for_the_next_moments_is_over_before_the_next_owner_counts():
    assert ahead_seconds() >= AHEAD_SECONDS + LATE_MOST + FAR_SECONDS


@dataclasses.dataclass
class Node:
    """A node's client actor: its own clock, which shows another number than others' and goes as fast."""

    name: str
    offset: float
    epoch: int = 0
    believed_until: float = -1.0
    gives_from: float = 0.0
    looked_at: float = 0.0
    desk: Desk | None = None
    cut: bool = False
    stopped: bool = False
    kept: dict | None = None
    is_sure: bool = True

    def clock(self, now):
        return now + self.offset


class World:
    """Nodes, the store of leases, and time. Grants are used up to `LATE_MOST` after their moment."""

    def __init__(self, seed, limits):
        self.dice, self.limits = random.Random(seed), limits
        self.now, self.epoch, self.holder, self.until, self.left = 1000.0, 0, None, 0.0, None
        self.nodes = [Node(name, self.dice.uniform(-500, 500)) for name in "abc"]
        self.begun, self.asked, self.rests_until = [], 0, 0.0

    def look(self, node):
        """A node takes or renews the lease, if the store hears it."""
        if node.cut or node.stopped:
            return
        sent_at = self.now
        if self.holder is node and self.now < self.until:
            self.until = self.now + TTL
            node.believed_until = sent_at + 0.9 * TTL
        elif self.now >= self.until:
            self.epoch += 1
            self.holder, self.until, node.epoch = node, self.now + TTL, self.epoch
            node.believed_until = sent_at + 0.9 * TTL
            self.begin(node)

    def begin(self, node):
        now = node.clock(self.now)
        start, left = start_after(self.left, node.name), self.left
        if node.desk is None:
            node.desk = Desk(Budget(now, 1 << 20))
            if node.kept is not None:  # its file
                node.desk.budget.restore(node.kept, 0.0)
        budget = node.desk.budget
        node.gives_from = self.now
        if start == Start.AS_ALL_USED:
            node.gives_from = self.now + ahead_seconds()
            budget.use_all(node.clock(node.gives_from))
        elif start == Start.FROM_WHAT_IS_LEFT:
            budget.restore(left[2], now - left[1])
        budget.limit(self.limits, now)
        budget.burst(BURST, now)
        self.left = left_by(node.name if budget.is_sure(node.clock(node.gives_from)) else "", 0.0, None)

    def ask(self, node):
        """A worker asks a node for turns, and uses what it gets as late as it may."""
        if node.stopped or node.desk is None or not (node.gives_from <= self.now < node.believed_until):
            return
        asks = [(number, 1, 1, 900.0, None, None) for number in range(self.asked, self.asked + 30)]
        leased = node.desk.ask("worker", asks, None, 0, node.clock(self.now))
        node.kept = node.desk.budget.kept()
        self.asked += len(leased.turns)
        for _, lease, delay in leased.turns:
            late = self.dice.uniform(0.0, leased.late)
            self.begun.append(self.now + delay + late)
            node.desk.settle([(lease, 1, 1, 1)], [(lease, late)], node.clock(self.now))

    def die(self, node):
        """A node's client actor is killed: its file stays; its lease is released where the node can."""
        node.desk, node.believed_until = None, -1.0
        if self.holder is node:
            self.holder = None
            self.until = self.until if node.cut or node.stopped else self.now

    def leave(self, node):
        """It ends in order."""
        if node.desk is None or self.holder is not node or node.cut or node.stopped:
            return
        budget, now = node.desk.budget, node.clock(self.now)
        if node.gives_from <= self.now < node.believed_until:
            self.left = left_by("", now, budget.kept() if budget.is_sure(now) else None)
        self.die(node)

    def run(self, steps):
        for _ in range(steps):
            self.now += self.dice.choice([0.01, 0.05, 0.3, 1.0])
            for node in self.dice.sample(self.nodes, 3):
                if self.now - node.looked_at > 1.0:
                    node.looked_at = self.now
                    self.look(node)
                if self.now > self.rests_until:
                    self.ask(node)
            node = self.dice.choice(self.nodes)
            match self.dice.choices(["", "rest", "cut", "stop", "die", "leave"], [95, 2, 1, 1, 1, 1])[0]:
                case "rest":
                    self.rests_until = self.now + self.dice.uniform(10.0, 40.0)
                case "cut":
                    node.cut = not node.cut
                case "stop":
                    node.stopped = not node.stopped
                case "die":
                    self.die(node)
                case "leave":
                    self.leave(node)


@given(seed=st.integers(0, 1 << 32))
@settings(max_examples=examples(10), deadline=None)
def test_no_window_has_more_than_the_limit_whoever_owns_it(seed):
    world = World(seed, Limits(rpm=LIMIT))
    world.run(1500)
    begun = sorted(world.begun)
    assert world.epoch > 1
    for place, start in enumerate(begun):
        assert sum(1 for at in begun[place:] if at < start + 60.0) <= LIMIT


@pytest.mark.parametrize("knows", [True, False])
def test_what_an_owner_gave_before_it_died_counts_for_the_next_one(knows):
    """The first one gives a burst, and goes on evenly; the second one would give as much again."""
    begun = []

    def give(budget, since, until):
        desk, now, number = Desk(budget), since, 0
        while now < until:
            leased = desk.ask(
                "w", [(each, 1, 1, 900.0, None, None) for each in range(number, number + 30)], None, 0, now
            )
            begun.extend(now + delay for _, _, delay in leased.turns)
            number += len(leased.turns)
            now += 0.1

    first, second = Budget(0.0), Budget(130.0)
    for budget, at in ((first, 0.0), (second, 130.0)):
        budget.limit(Limits(rpm=LIMIT), at)
        budget.burst(BURST, at)
    give(first, 100.0, 130.0)
    if knows:
        second.use_all(131.25)
    give(second, 131.25, 190.0)
    most = max(sum(1 for at in begun if start <= at < start + 60.0) for start in begun)
    assert (most <= LIMIT) is knows
    assert len([at for at in begun if at > 150.0]) > 20  # it does not wait for a whole window


def test_who_follows_another_owner_goes_on_soon_with_requests_and_after_a_window_with_tokens():
    budget = Budget(100.0)
    budget.limit(Limits(rpm=60, tpm=6000), 100.0)
    budget.use_all(100.0)
    assert budget.buckets.check({"rpm": 1.0}, 100.0).retry_after < 8.0
    assert 58.0 < budget.buckets.check({"tpm": 1.0}, 100.0).retry_after <= 62.0
