"""The budget of an optimisation: given out in parts, and never passed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_actors.teleprompt.purse import Purse


def test_what_is_left_is_divided_and_comes_back():
    purse = Purse(8.0)
    assert purse.hold("a", 4) == 2.0
    assert purse.hold("b", 3) == 2.0
    assert purse.left == 4.0
    purse.ended("a", 0.5)
    assert (purse.spent, purse.left) == (0.5, 5.5)
    assert purse.hold("a", 1) == 6.0  # 0.5 that it has cost, and all that is left
    assert purse.left == 0.0


def test_without_a_budget_nothing_is_limited():
    purse = Purse(None)
    assert purse.hold("a", 4) is None
    purse.ended("a", 3.0)
    assert (purse.spent, purse.left) == (3.0, float("inf"))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 4), st.floats(0, 1)), max_size=30))
def test_runs_that_keep_to_their_parts_never_pass_the_budget(moves):
    purse, cost, held = Purse(1.0), {}, {}
    for run, parts, share in moves:
        if run in held:
            cost[run] = cost.get(run, 0.0) + share * (held.pop(run) - cost.get(run, 0.0))
            purse.ended(run, cost[run])
        else:
            held[run] = purse.hold(run, parts)
        at_most = sum(max(held.get(one, 0.0), cost.get(one, 0.0)) for one in "abc")
        assert at_most <= 1.0 + 1e-9
        assert purse.spent == pytest.approx(sum(value for one, value in cost.items() if one not in held))
