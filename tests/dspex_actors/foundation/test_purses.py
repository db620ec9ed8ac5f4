"""Money with a limit: never passed, whoever dies when and whatever message is lost; and hardly any of it is left."""

import copy
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from property_kit import examples

from dspex_actors.foundation.purses import DOLLAR, Book, Purse, Used, units

RUN, DAY = "run:r", "day:1"


class World:
    """Workers with purses, and their owner; what is on the disk is all that a new owner has."""

    def __init__(self, limits, seed):
        self.limits = limits
        self.rng = random.Random(seed)
        self.book = Book()
        self.disk = copy.deepcopy(self.book)
        self.purses = {}  # a worker's life → its purse: what stands in its file is always the same
        self.under_way = []  # (worker's life, amount)
        self.truth = 0  # what the server has charged
        self.lives = dict.fromkeys(range(3), 0)
        self.refused = 0

    def holder(self, worker):
        return f"{worker}-{self.lives[worker]}"

    def accounts(self, worker):
        return (DAY, RUN) if worker else (RUN,)

    def used(self):
        return {purse: Used(one.spent, one.held) for purse, one in self.purses.items()}

    def send(self, worker, amount, lost=False):
        """Have a worker make a request that costs so much at most; `lost`: the owner's answer does not arrive."""
        place = self.holder(worker), 0
        purse = self.purses.setdefault(place, Purse())
        if not purse.hold(amount):
            self.book.open(place, self.accounts(worker))
            self.book.take_back(place, purse.returned)
            answer = self.book.ask(place, amount - max(0, purse.free), 4 * amount, self.limits, self.used())
            self.disk = copy.deepcopy(self.book)
            if lost:
                return None
            purse.given = max(purse.given, answer.given)
            if not purse.hold(amount):
                self.refused += answer.verdict == "empty"
                return answer.verdict
        self.under_way.append((place, amount))
        return "sent"

    def end(self, number, part):
        """Have a request end that has cost a part of what was thought."""
        place, amount = self.under_way.pop(number % len(self.under_way))
        cost = int(amount * part)
        self.truth += cost
        self.purses[place].settle(amount, cost)

    def give_back(self, worker, lost):
        purse = self.purses.get((self.holder(worker), 0))
        if purse is not None:
            purse.give_back()
            if not lost:
                self.book.take_back((self.holder(worker), 0), purse.returned)
                self.disk = copy.deepcopy(self.book)

    def kill(self, worker):
        """Kill a worker: the server may charge anything for what was under way."""
        place = self.holder(worker), 0
        for each in [each for each in self.under_way if each[0] == place]:
            self.under_way.remove(each)
            self.truth += self.rng.randint(0, each[1])
        self.lives[worker] += 1
        if place in self.purses:
            one = self.purses.pop(place)
            self.book.close(place, Used(one.spent, one.held))
            self.disk = copy.deepcopy(self.book)

    def kill_owner(self):
        self.book = copy.deepcopy(self.disk)

    def check(self):
        most = self.truth + sum(amount for _, amount in self.under_way)
        assert most <= self.limits[RUN]
        for account, limit in self.limits.items():
            assert self.book.out(account) <= limit


steps = st.one_of(
    st.tuples(st.just("send"), st.integers(0, 2), st.integers(1, 3 * DOLLAR // 100), st.booleans()),
    st.tuples(st.just("end"), st.integers(0, 99), st.floats(0, 1)),
    st.tuples(st.just("give_back"), st.integers(0, 2), st.booleans()),
    st.tuples(st.just("kill"), st.integers(0, 2)),
    st.tuples(st.just("kill_owner")),
)


@settings(max_examples=examples(200), deadline=None)
@given(st.lists(steps, max_size=120), st.integers(0, 99))
def test_a_limit_is_never_passed_whoever_dies(taken, seed):
    world = World({RUN: DOLLAR // 5, DAY: DOLLAR // 8}, seed)
    for name, *arguments in taken:
        if name != "end" or world.under_way:
            getattr(world, name)(*arguments)
        world.check()


@pytest.mark.parametrize("seed", range(6))
def test_of_a_limit_hardly_anything_is_left(seed):
    rng = random.Random(seed)
    world = World({RUN: DOLLAR, DAY: 2 * DOLLAR}, seed)
    while True:
        worker = rng.randrange(3)
        # Prices are unequal, and what a request may cost is several times what it does.
        verdict = world.send(worker, int(rng.choice([0.0002, 0.002, 0.015]) * DOLLAR), lost=rng.random() < 0.02)
        if verdict == "empty":
            break
        if verdict == "wait":
            for other in range(3):
                if other != worker:
                    world.give_back(other, lost=False)
        if len(world.under_way) > 64 or verdict == "wait":
            for _ in range(min(8, len(world.under_way))):
                world.end(rng.randrange(1000), rng.choice([0.05, 0.3, 0.9]))
        world.check()
    assert not world.under_way
    assert world.truth >= 0.98 * DOLLAR


def test_a_request_that_costs_more_than_the_limit_is_refused_at_once():
    book = Book()
    book.open(("a", 0), (RUN,))
    answer = book.ask(("a", 0), 2 * DOLLAR, 8 * DOLLAR, {RUN: DOLLAR}, {})
    assert (answer.verdict, answer.account, answer.spent, answer.limit) == ("empty", RUN, 0, DOLLAR)


def test_what_others_hold_is_waited_for_and_what_lies_with_them_too():
    book, limits = Book(), {RUN: DOLLAR}
    for holder in ("a", "b"):
        book.open((holder, 0), (RUN,))
    book.ask(("a", 0), DOLLAR, DOLLAR, limits, {})
    assert book.ask(("b", 0), 1, 1, limits, {("a", 0): Used(0, DOLLAR)}).verdict == "wait"
    assert book.ask(("b", 0), 1, 1, limits, {("a", 0): Used(0, 0)}).verdict == "wait"
    assert book.holders_of([RUN], {("a", 0): Used(0, 0)}) == {"a"}
    assert book.holders_of([RUN], {("a", 0): Used(0, 0)}, ("a", 1)) == {"a"}
    assert not book.holders_of([RUN], {("a", 0): Used(0, 0)}, ("a", 0))
    assert book.ask(("b", 0), 1, 1, limits, {("a", 0): Used(DOLLAR, 0)}).verdict == "empty"


def test_of_a_holder_that_left_nothing_to_read_all_counts_as_spent():
    book, limits = Book({RUN: 5}), {RUN: DOLLAR}
    book.open(("a", 0), (RUN,))
    given = book.ask(("a", 0), 10, 10, limits, {}).given
    book.close(("a", 0), None)
    book.close(("a", 0), None)
    assert book.spent == {RUN: 5 + given}


def test_a_larger_limit_lets_it_go_on():
    book = Book({RUN: DOLLAR})
    book.open(("a", 0), (RUN,))
    assert book.ask(("a", 0), 1, 1, {RUN: DOLLAR}, {}).verdict == "empty"
    assert book.ask(("a", 0), 1, 1, {RUN: 2 * DOLLAR}, {}).verdict == "given"


def test_amounts_are_rounded_up():
    assert units(1e-13) == 1
    assert units(1.0) == DOLLAR
