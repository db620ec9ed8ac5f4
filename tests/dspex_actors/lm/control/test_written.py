"""Limits of days whose owners die: whoever follows knows how far they may have gone, on whatever host."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex_actors.foundation.days import utc
from dspex_actors.lm.control.budget import Budget
from dspex_actors.lm.control.desk import Desk
from dspex_actors.lm.control.written import MOST_WRITTEN, Written
from dspex_actors.lm.deployment import Limits

LIMIT, DAY = 1000, 86_400.0
NOON = 20_000 * DAY + DAY / 2


class Owner:
    """An owner on a host whose clocks are its own; what it gives of a day is counted by the provider's."""

    def __init__(self, world, boot, wrong=0.0):
        self.world, self.boot, self.wrong = world, boot, wrong
        self.desk = Desk(Budget(self.now, 1 << 20, utc))
        self.desk.budget.limit(Limits(rpd=LIMIT), self.now)
        self.desk.budget.write_down(Written(world.stored, self.now, self.wall, as_used=world.stored is not None))

    @property
    def now(self):
        return self.world.wall - self.boot

    @property
    def wall(self):
        return self.world.wall + self.wrong

    def give(self, count, write=True):
        """Serve so many requests; return how many were given."""
        budget = self.desk.budget
        budget.buckets.clock(self.now, self.wall)
        first = self.world.asked
        self.world.asked += count  # who did not get a turn has given up
        asks = [(number, 1, 1, 900.0, None, None) for number in range(first, first + count)]
        turns = self.desk.ask("w", asks, None, 0, self.now).turns
        self.world.give(len(turns))
        told = budget.to_write(self.desk.line.wanted, self.now, self.wall)
        if told is not None and write:
            self.world.stored = told
            budget.has_written(told, self.now, self.wall)
        return len(turns)


class World:
    def __init__(self):
        self.wall, self.stored, self.asked, self.given = NOON, None, 0, {}

    def give(self, count):
        day = utc(self.wall)[0]
        self.given[day] = self.given.get(day, 0) + count


def used_up(owner, at_once=10):
    """Let an owner give until it gives nothing more; return how many that were."""
    count, idle = 0, 0
    while idle < 2:
        given = owner.give(at_once)
        count, idle = count + given, 0 if given else idle + 1
    return count


def test_nothing_is_given_before_it_is_written_down_and_then_the_whole_limit():
    world = World()
    owner = Owner(world, boot=500.0)
    assert owner.give(10, write=False) == 0
    assert owner.give(10, write=False) == 0
    assert owner.give(10) == 0
    assert owner.give(10) == 10
    assert used_up(owner) == LIMIT - 10
    assert world.given == {20_000: LIMIT}


def test_who_follows_an_owner_that_died_gives_what_is_left_but_a_little():
    world = World()
    first = Owner(world, boot=500.0)
    while sum(world.given.values()) < 400:
        first.give(10)
    second = Owner(world, boot=-70_000.0)
    assert 0.95 * (LIMIT - 400) <= used_up(second) <= LIMIT - 400
    third = Owner(world, boot=0.0, wrong=-300.0)  # its clock is five minutes late
    assert used_up(third) == 0
    world.wall += DAY / 2 + 400.0  # the next day has begun
    assert used_up(third) == LIMIT
    assert used_up(Owner(world, boot=9.0)) == 0


def test_a_day_that_began_early_for_a_clock_that_is_ahead_is_not_granted_again():
    world = World()
    world.wall = 20_001 * DAY - 200.0
    assert used_up(Owner(world, boot=0.0)) == LIMIT
    assert used_up(Owner(world, boot=0.0, wrong=300.0)) == LIMIT
    world.wall += 400.0
    assert used_up(Owner(world, boot=7.0)) == 0


def test_what_users_may_have_of_a_day_is_written_down_for_so_many_of_them():
    now, budget = 0.0, Budget(0.0, 0, utc)
    budget.personal("user", Limits(rpd=5), now)
    budget.write_down(Written(None, now, NOON))
    desk = Desk(budget)
    count = MOST_WRITTEN + 20
    asks = [(number, 1, 1, 900.0, f"u{number}", None) for number in range(count)]
    given = 0
    for _ in range(3):
        budget.buckets.clock(now, NOON)
        turns = {number for number, *_ in desk.ask("w", asks, None, 0, now).turns}
        asks, given = [ask for ask in asks if ask[0] not in turns], given + len(turns)
        told = budget.to_write(desk.line.wanted, now, NOON)
        if told is not None:
            assert len(told) <= MOST_WRITTEN
            budget.has_written(told, now, NOON)
    assert given == count


@given(seed=st.integers(0, 1 << 32))
@settings(max_examples=12)
@pytest.mark.parametrize("wrong", [0.0, 300.0])
def test_no_day_has_more_than_the_limit_whoever_dies(wrong, seed):
    dice, world = random.Random(seed), World()
    owner = Owner(world, boot=0.0)
    for _ in range(80):
        world.wall += dice.choice([1.0, 300.0, 3000.0])
        owner.give(dice.randint(1, 100), write=dice.random() < 0.9)
        if dice.random() < 0.05:
            owner = Owner(world, boot=dice.uniform(-DAY, DAY), wrong=dice.uniform(-wrong, wrong))
    if wrong == 0.0:
        assert max(world.given.values(), default=0) <= LIMIT
    else:  # at midnight clocks differ: what one counts for this day another counts for the next
        assert sum(world.given.values()) <= LIMIT * (len(world.given) + 1)
