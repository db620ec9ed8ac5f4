"""Who votes: the plan, and the steps to it, while nodes come, die and leave."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisors.cluster.leases.voters import REPLACED_SECONDS, next_step, plan_voters

LONG = REPLACED_SECONDS + 1


@pytest.mark.parametrize(
    ("now", "nodes", "planned"),
    [
        ("a", {"a": 0}, "a"),
        ("a", {"a": 0, "b": 0}, "a"),
        ("a", {"a": 0, "b": 0, "c": 0}, "abc"),
        ("a", {"a": 0, "b": 0, "c": 1.0}, "a"),
        ("abc", {"a": 0, "b": 0, "c": LONG}, "abc"),
        ("abc", {"a": 0, "b": 0, "c": 5.0, "d": 0}, "abc"),
        ("abc", {"a": 0, "b": 0, "c": LONG, "d": 0}, "abd"),
        ("abc", {"a": 0, "b": 0, "d": 0}, "abd"),
        ("abc", {"a": 0, "b": LONG, "d": 0}, "adb"),
        ("abc", {"a": 0, "b": 0}, "ab"),
        ("ab", {"a": 0, "b": 0}, "a"),
        ("abcde", {"a": 0, "b": 0, "c": 0, "d": 0}, "abcd"),
        ("abcd", {"a": 0, "b": 0, "c": 0, "d": 0}, "abc"),
        ("abc", {}, "abc"),
    ],
)
def test_the_plan(now, nodes, planned):
    assert "".join(plan_voters(tuple(now), nodes)) == planned


names = st.lists(st.sampled_from("abcdefg"), unique=True, min_size=1, max_size=5)


states = st.fixed_dictionaries({name: st.sampled_from([0.0, 0.0, 0.0, 5.0, LONG, None]) for name in "abcdefg"})


@given(names, states, st.data())
def test_whatever_leaves_or_dies_no_step_ends_where_too_few_answer(now, nodes, data):
    """From voters of which most answer all steps are among such, and come to an end where those that left are out."""
    nodes = {name: down for name, down in nodes.items() if down is not None}
    heard = {name for name, down in nodes.items() if not down}
    if 2 * len(heard & {*now}) <= len(now):
        return  # nothing is decided
    for _ in range(30):
        me = data.draw(st.sampled_from(sorted(heard & {*now})))
        step = next_step(now, plan_voters(tuple(now), nodes), me, heard - {me})
        if step is None:
            break
        assert len({*step} ^ {*now}) == 1
        assert 2 * len(heard & {*step}) > len(step)
        now = step
    else:
        pytest.fail("it does not come to an end")
    assert 1 <= len(now) <= 5
    assert {*now} <= {*nodes}
