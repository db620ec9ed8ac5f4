"""Which limits hold for a deployment, and how its budget goes on when they change."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dspex_actors.foundation.buckets import Grant
from dspex_actors.lm.control.budget import Budget
from dspex_actors.lm.control.told import HOLDS_SECONDS, Told
from dspex_actors.lm.deployment import Limits


def test_the_smallest_of_what_was_told_in_the_last_minute_holds() -> None:
    told = Told()
    told.tell(Limits(600.0, None, 8), 0.0)
    told.tell(Limits(60.0, 9000.0), 10.0)
    assert told.in_force(10.0) == Limits(60.0, 9000.0, 8)
    told.tell(Limits(600.0, None, 8), 50.0)
    assert told.in_force(10.0 + HOLDS_SECONDS) == Limits(60.0, 9000.0, 8)
    assert told.in_force(10.1 + HOLDS_SECONDS) == Limits(600.0, None, 8)
    assert told.in_force(51.0 + HOLDS_SECONDS) == Limits()


def test_only_what_was_told_before_is_not_new() -> None:
    told = Told()
    assert told.tell(Limits(60.0), 0.0)
    assert not told.tell(Limits(60.0), 1.0)
    assert told.tell(Limits(60.0, 1.0), 1.0)


def test_an_lm_that_tells_no_limit_contradicts_nobody() -> None:
    told = Told()
    told.tell(Limits(60.0), 0.0)
    told.tell(Limits(), 0.0)
    told.tell(Limits(None, 500.0), 0.0)
    assert not told.differ()
    told.tell(Limits(30.0), 0.0)
    assert told.differ()


def test_ages_carry_over_to_a_process_with_another_clock() -> None:
    here, there = Told(), Told()
    here.tell(Limits(60.0), 100.0)
    there.take(here.ages(130.0), 5000.0)
    assert there.in_force(5000.0 + HOLDS_SECONDS - 31.0) == Limits(60.0)
    assert there.in_force(5000.0 + HOLDS_SECONDS - 29.0) == Limits()


def reserved(budget: Budget, count: int, now: float) -> list[float]:
    """Return when each of so many requests may start."""
    grants = [budget.buckets.reserve({"rpm": 1}, now, ahead=1e6) for _ in range(count)]
    return [grant.at for grant in grants if isinstance(grant, Grant)]


@given(
    st.lists(
        st.tuples(st.floats(0, 2), st.sampled_from([None, 60.0, 600.0]), st.integers(1, 5)), min_size=1, max_size=60
    )
)
def test_no_change_of_limits_lets_more_through_than_the_largest_of_them(
    steps: list[tuple[float, float | None, int]],
) -> None:
    """Requests start no faster than ten a second and one second's worth, once a limit is set."""
    now, starts = 0.0, []
    budget = Budget(now)
    for wait, rpm, count in steps:
        now += wait
        budget.limit(Limits(rpm or 600.0), now)
        starts += reserved(budget, count, now)
    starts.sort()
    for place, start in enumerate(starts):
        within = sum(1 for other in starts[place:] if other < start + 5.0)
        assert within <= 10 * (5.0 + 1.0) + 1


def test_what_was_reserved_at_another_rate_stays_reserved() -> None:
    budget = Budget(0.0)
    budget.limit(Limits(60.0), 0.0)
    last = reserved(budget, 10, 0.0)[-1]
    budget.limit(Limits(600.0), 0.0)
    assert reserved(budget, 1, 0.0)[0] >= last
