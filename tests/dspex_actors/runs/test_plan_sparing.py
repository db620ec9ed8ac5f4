"""A run with a rule that is to be sparing: it asks for hardly anything that a sequential pass would not come to."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_kit import worked_off

from dspex_actors.runs.plan.plan import RunPlan
from dspex_actors.runs.plan.stop_rule import StopRule
from dspex_actors.runs.plan.types import PlanSettings


def sparing(passes, successes, spare, rng, known=()):
    """Return how many are asked, beside what is known already, and the rule."""
    rule = StopRule(successes=successes)
    for index in known:
        rule.observe(index, success=passes[index])
    plan = RunPlan(PlanSettings(max_in_flight=64, spare=spare), rule=rule)
    return len(worked_off(plan, len(passes), passes.__getitem__, rng, known)), rule


def comes_to(passes, successes):
    """Return how many a sequential pass asks."""
    passed = 0
    for count, one in enumerate(passes, 1):
        passed += one
        if passed == successes:
            return count
    return len(passes)


@given(
    st.lists(st.booleans(), max_size=80), st.integers(1, 12), st.integers(0, 6), st.sets(st.integers(0, 30)),
    st.randoms(use_true_random=False),
)  # fmt: skip
def test_it_ends_where_a_sequential_pass_does_and_goes_on_where_one_has_left_off(passes, successes, spare, known, rng):
    known = {index for index in known if index < len(passes)}
    _, rule = sparing(passes, successes, spare, rng, known)
    assert rule.prefix == comes_to(passes, successes)


@given(
    st.lists(st.sampled_from([True, True, False]), max_size=80), st.integers(1, 12), st.integers(0, 6),
    st.randoms(use_true_random=False),
)  # fmt: skip
def test_of_a_short_pass_nothing_is_asked_in_vain_but_what_may_be(passes, successes, spare, rng):
    pass_ = comes_to(passes, successes)
    asked, _ = sparing(passes, successes, spare, rng)
    assert asked <= pass_ + pass_ * 5 // 100 + spare or passes[:pass_].count(True) < pass_ / 3


@pytest.mark.parametrize(
    ("share", "successes", "count"),
    [(0.1, 16, 200), (0.1, 16, 1000), (0.3, 16, 200), (0.8, 16, 200), (0.5, 4, 60), (0.2, 4, 200), (0.05, 4, 400)],
)
@pytest.mark.parametrize("rule", ["by chance", "one in so many"])
def test_at_most_one_in_twenty_is_asked_in_vain_and_many_are_under_way(share, successes, count, rule):
    asked = needed = 0
    for seed in range(20):
        rng = random.Random(seed)
        passes = [rng.random() < share if rule == "by chance" else not (n + 1) % round(1 / share) for n in range(count)]
        one, _ = sparing(passes, successes, 0, rng)
        asked, needed = asked + one, needed + comes_to(passes, successes)
    assert asked <= 1.05 * needed


def test_where_little_passes_more_are_under_way_than_are_needed():
    rule = StopRule(successes=4)
    for index in range(150):
        rule.observe(index, success=index % 50 == 49)
    # One more is needed. Three of 150 have passed: it is likely to take many.
    assert rule.room(150, 64, 0) == 9
    assert StopRule(successes=4).room(0, 64, 0) == 4
    assert StopRule(successes=4).room(0, 64, 3) == 7
    assert StopRule(successes=4).room(0, 2, 3) == 2


def test_of_a_large_dataset_in_which_nothing_passes_no_more_is_looked_at_than_may_be_under_way():
    """Each result asks for the room: a walk through all that may be needed yet would hold up the whole run."""
    rule = StopRule(successes=4)
    rule.prefix = 10**12
    assert rule.room(10**12, 64, 0) == 64
    rule.observe(10**12 + 1, success=False)
    assert rule.room(10**12 + 2, 64, 0) == 62
    assert rule.room(10**12 + 70, 64, 0) == -6
