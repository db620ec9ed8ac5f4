"""Limits as buckets: what is granted within any window, and what comes back."""

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from property_kit import examples

from dspex_actors.foundation.buckets import Buckets, Grant, Refusal, daily, held, per, shifted, total
from dspex_actors.foundation.days import SHORTEST, day_of, utc
from dspex_actors.foundation.line import Line

FAST = settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])


def most_in_any_window(grants, seconds):
    """Return the most that any window of so many seconds has, of (moment, amount)."""
    grants = sorted(grants)
    most = total = 0.0
    first = 0
    for at, amount in grants:
        total += amount
        while grants[first][0] <= at - seconds:
            total -= grants[first][1]
            first += 1
        most = max(most, total)
    return most


arrivals = st.lists(
    st.tuples(st.floats(0, 3.0), st.integers(1, 1000), st.floats(0, 1.3), st.sampled_from("aaab")),
    min_size=1,
    max_size=60,
)


@FAST
@given(arrivals, st.sampled_from([None, 0.05, 1.0]), st.sampled_from([1.0, 7.0, 60.0]), st.booleans())
def test_no_window_ever_has_more_than_the_limit(arrivals, burst, seconds, restarts):
    """Whatever comes, is refunded, used beyond what was reserved, or taken over by another owner."""
    limits = {"requests": 6.0, "tokens": 1500.0}
    made = {name: per(limit, seconds, burst=burst) for name, limit in limits.items()}
    buckets, now = Buckets(made, 0.0), 0.0
    granted = {name: [] for name in limits}
    for gap, tokens, used, kind in arrivals:
        now += gap
        found = buckets.reserve({"requests": 1, "tokens": tokens}, now, ahead=0.25)
        if isinstance(found, Refusal) and math.isfinite(found.retry_after):
            now += found.retry_after
            found = buckets.reserve({"requests": 1, "tokens": tokens}, now)
            assert isinstance(found, Grant), "what was said to fit then fits then"
        if isinstance(found, Grant):
            assert found.at >= now
            # Never more than what was reserved: what is used beyond it, nobody has been asked for.
            actual = int(tokens * min(1.0, used))
            if kind == "b":
                buckets.settle(found.lease, {"requests": 1, "tokens": actual}, now)
                assert not buckets.settle(found.lease, {}, now), "once"
            else:
                actual = tokens
            granted["requests"].append((found.at, 1))
            granted["tokens"].append((found.at, actual))
        if restarts and kind == "b":
            kept, buckets = buckets.kept(), Buckets(made, now)
            buckets.restore(kept)
    for name, limit in limits.items():
        assert most_in_any_window(granted[name], seconds) <= limit + 1e-6


@FAST
@given(st.lists(st.integers(5, 60), min_size=30, max_size=100), st.sampled_from([1.0, 60.0]))
def test_nearly_all_of_the_tighter_limit_is_used_by_requests_of_mixed_sizes(sizes, seconds):
    buckets = Buckets({"rpm": per(1e6, seconds, burst=seconds / 60), "tpm": per(3000, seconds, burst=seconds / 60)}, 0)
    now = start = 3 * seconds
    used = 0
    for size in sizes * (1 + 9_000 // sum(sizes)):
        found = buckets.reserve({"rpm": 1, "tpm": size}, now, ahead=seconds * 100)
        used += size
        now = found.at
    assert used >= 0.95 * 3000 * (now - start) / seconds


def test_two_limits_together_keep_both_promises_at_low_rates():
    buckets = Buckets({"rpm": per(6, 60, burst=1.0), "tpm": per(6000, 60, burst=1.0)}, 0.0)
    grants = []
    now = 0.0
    for _ in range(6):
        found = buckets.reserve({"rpm": 1, "tpm": 6000}, now, ahead=1e4)
        grants.append((found.at, 6000))
        now = found.at
    assert most_in_any_window(grants, 60) == 6000
    assert grants[1][0] - grants[0][0] >= 60


def test_a_burst_is_a_second_s_worth_in_any_second_and_a_new_owner_has_none():
    buckets = Buckets({"rpm": per(1200, 60, burst=1.0)}, 0.0)
    first = buckets.reserve({"rpm": 1}, 0.0, ahead=10)
    second = buckets.reserve({"rpm": 1}, 0.0, ahead=10)
    assert second.at - first.at == pytest.approx(61 / 1200)
    now = 100.0
    grants = [(buckets.reserve({"rpm": 1}, now, ahead=100).at, 1) for _ in range(200)]
    assert grants[15][0] == now, "a burst after a pause"
    assert most_in_any_window(grants, 1.0) <= 20


def test_a_cost_is_reserved_whole_or_not_at_all():
    buckets = Buckets({"one": per(10, 60), "two": per(5, 60)}, 0.0)
    refused = buckets.reserve({"one": 1, "two": 6}, 0.0)
    assert refused == Refusal(math.inf, ("two",))
    assert buckets.free("one", 0.0) == 10
    assert isinstance(buckets.reserve({"one": 10, "two": 5}, 0.0), Grant)
    late = buckets.reserve({"one": 1, "two": 1}, 30.0)
    assert late.names == ("one", "two")
    assert 30 < late.retry_after < 32


def test_what_was_reserved_and_not_used_comes_back_once():
    buckets = Buckets({"tpm": per(1000, 60)}, 0.0)
    grant = buckets.reserve({"tpm": 900}, 0.0)
    assert buckets.check({"tpm": 200}, 1.0) is not None
    assert buckets.settle(grant.lease, {"tpm": 100}, 1.0)
    assert not buckets.settle(grant.lease, {"tpm": 0}, 1.0)
    assert buckets.free("tpm", 1.0) == pytest.approx(900)
    beyond = buckets.reserve({"tpm": 100}, 2.0)
    buckets.settle(beyond.lease, {"tpm": 300}, 3.0)
    assert buckets.free("tpm", 3.0) == pytest.approx(600)


def test_places_come_back_when_they_are_settled_and_not_with_time():
    buckets = Buckets({"in_flight": held(2)}, 0.0)
    one, _ = buckets.reserve({"in_flight": 1}, 0.0), buckets.reserve({"in_flight": 1}, 0.0)
    assert buckets.reserve({"in_flight": 1}, 1e6) == Refusal(None, ("in_flight",))
    assert buckets.check({"in_flight": 3}, 0.0) == Refusal(math.inf, ("in_flight",))
    buckets.settle(one.lease, None, 1.0)
    assert isinstance(buckets.reserve({"in_flight": 1}, 1.0), Grant)


def test_what_was_begun_late_leaves_the_window_late():
    buckets = Buckets({"rps": per(2, 1.0), "usd": total(9.0)}, 0.0)
    grant = buckets.reserve({"rps": 2, "usd": 1}, 0.0)
    buckets.move(grant.lease, 0.2)
    buckets.move(12345, 0.2)
    assert 1.2 < buckets.check({"rps": 1}, 0.2).retry_after + 0.2 < 1.26
    buckets.settle(grant.lease, {}, 0.3)
    assert buckets.free("rps", 0.3) == 2


def test_money_is_filled_once_and_never_passed():
    buckets = Buckets({"usd": total(1.0)}, 0.0)
    first = buckets.reserve({"usd": 0.7}, 0.0)
    assert buckets.reserve({"usd": 0.4}, 1e9) == Refusal(math.inf, ("usd",))
    buckets.settle(first.lease, {"usd": 0.1}, 1.0)
    assert isinstance(buckets.reserve({"usd": 0.9}, 1.0), Grant)
    assert buckets.free("usd", 1.0) == pytest.approx(0.0)


def test_the_leases_of_one_who_died_come_back_if_they_cannot_have_been_begun():
    buckets = Buckets({"rps": per(1, 1.0), "in_flight": held(9)}, 0.0)
    begun = buckets.reserve({"rps": 1, "in_flight": 1}, 0.0, holder="w")
    waits = buckets.reserve({"rps": 1, "in_flight": 1}, 0.0, ahead=5.0, holder="w")
    assert begun.at < 0.5 < waits.at
    assert buckets.drop("w", 0.5) == 2
    assert buckets.free("in_flight", 0.5) == 9
    again = buckets.reserve({"rps": 1}, 0.5, ahead=5.0)
    assert again.at == pytest.approx(waits.at)
    assert buckets.drop("w", 0.5) == 0


def test_a_lease_that_nobody_settles_is_over_and_counts_as_used():
    buckets = Buckets({"tpm": per(100, 60), "in_flight": held(1)}, 0.0)
    grant = buckets.reserve({"tpm": 50, "in_flight": 1}, 0.0, seconds=10.0)
    buckets.expire(9.0)
    assert buckets.open_leases == 1
    buckets.expire(10.0)
    assert buckets.free("tpm", 10.0) == 50
    assert buckets.free("in_flight", 10.0) == 1
    assert not buckets.settle(grant.lease, {}, 11.0)


def test_a_provider_is_heeded_when_it_says_that_less_is_left_and_only_then():
    buckets = Buckets({"rpm": per(60, 60.0)}, 0.0)
    for _ in range(10):
        buckets.reserve({"rpm": 1}, 0.0)
    buckets.correct("rpm", 55, 30.0, 1.0)
    assert buckets.free("rpm", 1.0) == 50, "more is not heard"
    buckets.correct("rpm", 20, 30.0, 1.0)
    assert buckets.free("rpm", 1.0) == 20
    buckets.correct("rpm", 50, 30.0, 1.0)
    assert buckets.free("rpm", 1.0) == 20
    assert buckets.free("rpm", 31.5) == 50, "until the moment that it told"
    for odd in [(-1, 30.0), (20, 0.0), (20, -1.0)]:  # as Azure sends them
        buckets.correct("rpm", *odd, 32.0)
    assert buckets.free("rpm", 32.0) == 50


def test_another_limit_holds_at_once_and_what_was_used_stays_used():
    buckets = Buckets({"rpm": per(60, 60.0)}, 0.0)
    for _ in range(40):
        buckets.reserve({"rpm": 1}, 0.0)
    buckets.put("rpm", per(30, 60.0), 1.0)
    assert buckets.check({"rpm": 1}, 1.0) is not None
    buckets.put("rpm", per(100, 60.0), 2.0)
    assert buckets.free("rpm", 2.0) == 60


# --- days -----------------------------------------------------------------------------------------------------------


@FAST
@given(
    st.lists(
        st.tuples(st.floats(0, 90_000), st.floats(-200_000, 200_000) | st.just(0.0), st.integers(1, 40)), max_size=60
    ),
    st.floats(0, 86_400),
)
def test_no_day_is_granted_twice_however_the_clock_of_the_wall_is_set(steps, begin):
    """By the clock that only grows there are never more days than can have begun, whatever the other one says."""
    buckets, now, wall = Buckets({"rpd": daily(40, utc)}, 0.0), 0.0, 20_000 * 86_400.0 + begin
    grants, begun_at = [], None
    for gap, step, amount in steps:
        now, wall = now + gap, max(1e9, wall + gap + step)
        begun_at = now - wall % 86_400 if begun_at is None else begun_at
        buckets.clock(now, wall)
        if isinstance(buckets.reserve({"rpd": amount}, now), Grant):
            grants.append((now, amount))
    used = 0.0
    for at, amount in grants:
        used += amount
        assert used <= 40 * (1 + (at - begun_at + 1) // SHORTEST)


def test_a_day_begins_where_the_provider_is_and_survives_a_new_owner():
    pacific = day_of("America/Los_Angeles")
    midnight = 1_763_971_200.0  # 24 November 2025, 08:00 UTC
    assert pacific(midnight - 1)[1] == pytest.approx(1)
    assert pacific(midnight)[0] == pacific(midnight - 1)[0] + 1
    buckets = Buckets({"rpd": daily(5, pacific)}, 0.0)
    buckets.clock(0.0, midnight - 3600)
    assert isinstance(buckets.reserve({"rpd": 5}, 0.0), Grant)
    later = Buckets({"rpd": daily(5, pacific)}, 50.0)
    later.restore({"rpd": shifted(buckets.kept()["rpd"], 50.0)})
    later.clock(51.0, midnight - 3599)
    assert later.check({"rpd": 1}, 51.0).retry_after == pytest.approx(3599)
    later.clock(50.0 + 3600, midnight)
    assert later.check({"rpd": 1}, 50.0 + 3600) is None
    assert day_of("Nowhere/Town") is None


# --- the line -------------------------------------------------------------------------------------------------------


def test_a_large_request_is_not_starved_by_small_ones():
    buckets, line = Buckets({"tpm": per(1000, 60)}, 0.0), Line()
    buckets.reserve({"tpm": 500}, 0.0)
    assert line.add(buckets, "large", {"tpm": 900}, 1.0, until=500.0) is None
    for number in range(20):
        line.add(buckets, number, {"tpm": 50}, 1.0, until=500.0)
    served, _, soonest = line.serve(buckets, 1.0)
    assert served == []
    served, _, _ = line.serve(buckets, 1.0 + soonest)
    assert [key for key, _, _ in served][:3] == ["large", 0, 1]


def test_who_waits_for_a_limit_of_his_own_holds_up_nobody_else():
    buckets, line = Buckets({"rpm": per(100, 60), "user:a:rpm": per(1, 60)}, 0.0), Line()
    for key in ("first", "second"):
        line.add(buckets, key, {"rpm": 1, "user:a:rpm": 1}, 0.0, until=900.0)
    line.add(buckets, "other", {"rpm": 1}, 0.0, until=900.0)
    served, _, soonest = line.serve(buckets, 0.0)
    assert [key for key, _, _ in served] == ["first", "other"]
    assert 60 < soonest < 62


def test_who_cannot_have_his_turn_in_time_is_told_at_once_and_after_how_long_he_could():
    buckets, line = Buckets({"rpm": per(60, 60.0, burst=1.0)}, 0.0), Line()
    told = [line.add(buckets, number, {"rpm": 1}, 0.0, until=5.0) for number in range(12)]
    assert told[:5] == [None] * 5
    assert all(one is not None and 5 < one.retry_after < 12 for one in told[8:])
    assert line.add(buckets, "huge", {"rpm": 61}, 0.0, until=1e9).retry_after == math.inf


def test_nobody_waits_for_the_next_day_if_he_has_not_so_long():
    buckets, line = Buckets({"rpd": daily(2, utc), "rps": per(1, 1.0)}, 0.0), Line()
    buckets.clock(0.0, 20_000 * 86_400.0 + 36_000)
    cost = {"rpd": 1, "rps": 1}
    told = [line.add(buckets, number, cost, 0.0, until=60.0) for number in range(3)]
    assert told[:2] == [None, None]
    assert told[2] == Refusal(50_400, ("rpd",))
    buckets.reserve({"rpd": 1}, 0.0)  # somebody else
    served, gone, _ = line.serve(buckets, 0.0)
    assert [key for key, _, _ in served] == [0]
    assert [(key, "rpd" in refusal.names) for key, _, refusal in gone] == [(1, True)]
    assert len(line) == 0


def test_whose_time_is_over_leaves_the_line():
    buckets, line = Buckets({"in_flight": held(1)}, 0.0), Line()
    buckets.reserve({"in_flight": 1}, 0.0)
    assert line.add(buckets, "a", {"in_flight": 1}, 0.0, until=5.0, holder="w") is None
    assert line.of("w") == ["a"]
    assert line.serve(buckets, 4.0) == ([], [], None)
    _, gone, _ = line.serve(buckets, 5.1)
    assert [key for key, _, _ in gone] == ["a"]
    assert len(line) == 0


@FAST
@given(arrivals)
def test_all_who_stand_in_line_are_served_in_order(arrivals):
    buckets, line = Buckets({"r": per(5, 1.0), "t": per(1000, 1.0)}, 0.0), Line()
    now, order = 0.0, []
    for number, (gap, tokens, _, _) in enumerate(arrivals):
        now += gap
        line.add(buckets, number, {"r": 1, "t": tokens}, now, until=math.inf)
        order += [key for key, _, _ in line.serve(buckets, now, ahead=0.25)[0]]
    while len(line):
        served, _, soonest = line.serve(buckets, now, ahead=0.25)
        order += [key for key, _, _ in served]
        now += soonest or 0.0
    assert order == list(range(len(arrivals)))


def test_places_that_are_taken_stay_taken_while_their_bucket_is_away():
    buckets = Buckets({"places": held(2)}, 0.0)
    leases = [buckets.reserve({"places": 1}, 0.0).lease for _ in range(2)]
    buckets.remove("places")
    buckets.settle(leases[0], None, 1.0)
    buckets.put("places", held(2), 2.0)
    assert buckets.free("places", 2.0) == 1
    buckets.settle(leases[1], None, 3.0)
    assert buckets.free("places", 3.0) == 2


@FAST
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3), st.booleans(), st.booleans()), max_size=60))
def test_a_line_knows_what_those_want_who_wait(steps):
    """However they come, change their minds, leave and are served."""
    buckets, line, now = Buckets({name: per(2, 1.0) for name in "abc"}, 0.0), Line(), 0.0
    waiting = {}
    for number, (bucket, amount, leaves, changes) in enumerate(steps):
        now += 0.1
        cost = {"abcd"[bucket]: amount, "c": 1}
        if line.add(buckets, number, cost, now, until=now + amount) is None:
            waiting[number] = cost
        if changes and waiting:
            key = min(waiting)
            waiting[key] = {"a": 1}
            line.change(key, waiting[key])
        if leaves and waiting:
            key = max(waiting)
            line.remove(key)
            del waiting[key]
        served, gone, _ = line.serve(buckets, now)
        for key, _, _ in (*served, *gone):
            del waiting[key]
        assert line.names() == {name for cost in waiting.values() for name in cost}
        assert len(line) == len(waiting)
        for name in "abcd":
            assert line.is_wanted({name: 1}) == any(name in cost for cost in waiting.values())
            assert line._wanted.get(name, 0.0) == pytest.approx(sum(cost.get(name, 0) for cost in waiting.values()))


def test_a_long_line_is_not_gone_through_for_each_who_comes():
    """Ten thousand are no more work for each of them than one hundred."""
    looked = 0

    class Looking(dict):
        def items(self):
            nonlocal looked
            looked += 1
            return super().items()

    buckets, line = Buckets({"places": held(1)}, 0.0), Line()
    buckets.reserve({"places": 1}, 0.0)
    for number in range(3000):
        assert line.add(buckets, number, Looking(places=1), 0.0, until=1000.0) is None
        line.serve(buckets, 0.0)
    assert looked < 5 * 3000
