"""The desk of a deployment's owner: workers that ask, begin anew and die; time is a parameter."""

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from property_kit import examples

from dspex_actors.lm.control.budget import Budget
from dspex_actors.lm.control.desk import LEASE_EXTRA, SPARE_SECONDS, Desk
from dspex_actors.lm.deployment import Limits
from tests.dspex_actors.foundation.test_buckets import most_in_any_window


def desk_of(now=1000.0, user=None, tag=None, **limits):
    budget = Budget(now - 200.0, first=500)
    budget.limit(Limits(**limits), now - 200.0)
    for kind, each in (("user", user), ("tag", tag)):
        if each:
            budget.personal(kind, Limits(**each), now)
    return Desk(budget)


def ask(number, tokens_in=10, tokens_out=10, seconds=600.0, user=None, tags=None):
    return (number, tokens_in, tokens_out, seconds, user, tags)


def numbers(leased):
    return [number for number, _, _ in leased.turns]


def test_a_worker_says_all_that_waits_and_is_served_once():
    desk = desk_of(tpm=60.0)
    assert numbers(desk.ask("w", [ask(1, 30, 20)], None, 0, 1000.0)) == [1]
    for _ in range(3):
        leased = desk.ask("w", [ask(2), ask(3)], None, 0, 1001.0)
        assert (leased.turns, len(desk.line)) == ([], 2)
    desk.ask("w", [ask(3)], None, 0, 1002.0)
    assert len(desk.line) == 1, "who has given up is not in line any more"


def test_a_turn_that_came_while_another_worker_asked_waits_for_whose_it_is():
    desk = desk_of(rps=10.0)
    assert numbers(desk.ask("a", [ask(1)], None, 0, 1000.0)) == [1]
    assert desk.ask("b", [ask(number, seconds=9.0) for number in range(5)], None, 0, 1000.0).turns
    later = desk.ask("a", [], None, 0, 1000.3)
    assert later.turns == []
    assert numbers(desk.ask("b", [ask(number, seconds=9.0) for number in range(2, 5)], None, 0, 1000.3)) != []


def test_a_turn_that_nobody_fetches_any_more_goes_back():
    desk = desk_of(tpm=100.0)
    first = desk.ask("a", [ask(1, 50, 40)], None, 0, 1000.0)
    desk.ask("b", [ask(1, 50, 40)], None, 0, 1000.0)
    desk.settle([(first.turns[0][1], 0, 0, 0)], [], 1000.1)
    desk.ask("a", [], None, 0, 1050.0)  # b's turn has come now
    assert desk.ask("b", [], None, 0, 1050.1).turns == []
    assert desk.budget.buckets.free("tpm", 1050.1) == pytest.approx(100.0)


def test_spare_leases_are_for_when_nobody_waits():
    desk = desk_of(rpm=600.0)
    assert len(desk.ask("w", [ask(1)], ask(0), 4, 1000.0).spares) == 4
    assert desk.ask("w", [ask(number) for number in range(2, 40)], ask(0), 4, 1000.0).spares == []


def test_users_and_tags_have_limits_of_their_own():
    desk = desk_of(rpm=600.0, user={"rpm": 1.0}, tag={"tpm": 100.0})
    asks = [ask(1, user="ann"), ask(2, user="ann"), ask(3, user="bob"), ask(4), ask(5, 40, 40, tags={"t": "x"})]
    assert numbers(desk.ask("w", asks, None, 0, 1000.0)) == [1, 3, 4, 5]
    asks = [ask(2, user="ann"), ask(6, 40, 40, tags={"t": "x"}), ask(7, 40, 40, tags={"t": "y"})]
    assert numbers(desk.ask("w", asks, None, 0, 1001.0)) == [7]
    assert desk.ask("w", [ask(8, 80, 80, tags={"t": "z"})], None, 0, 1002.0).refusals == [(8, math.inf, "tag:t=z:tpm")]
    desk.ask("w", [], None, 0, 1002.5)
    desk.budget.forget(1200.0)
    assert [name for name in desk.budget.buckets.names() if ":" in name] == []


def test_what_was_used_comes_back_by_kind():
    desk = desk_of(rpm=600.0, itpm=1000.0, otpm=500.0, tpm=5000.0)
    ((_, first, _),) = desk.ask("w", [ask(1, 400, 300)], None, 0, 1000.0).turns
    ((_, second, _),) = desk.ask("w", [ask(2, 400, 200)], None, 0, 1050.0).turns
    assert desk.ask("w", [ask(3, 400, 1)], None, 0, 1050.5).turns == []
    desk.settle([(first, 1, 350, 20), (second, 1, -1, -1), (777, 1, 5, 5)], [], 1051.0)
    desk.settle([(first, 0, 0, 0)], [], 1051.0)
    free = {name: row["free"] for name, row in desk.budget.used(1051.0).items()}
    assert free == {"rpm": 598, "itpm": 250, "otpm": 280, "tpm": 5000 - 350 - 20 - 600}


def test_less_than_one_request_in_the_time_is_one_in_a_longer_time():
    desk = desk_of(rpm=0.5)
    assert numbers(desk.ask("w", [ask(1)], None, 0, 1000.0)) == [1]
    leased = desk.ask("w", [ask(2, seconds=100.0)], None, 0, 1001.0)
    assert 118 < leased.refusals[0][1] < 123


def test_a_limit_that_nobody_tells_any_more_is_not_forgotten_while_it_is_used():
    desk = desk_of(rpd=2.0)
    desk.ask("w", [ask(1), ask(2)], None, 0, 1000.0)
    desk.budget.limit(Limits(), 1100.0)
    desk.budget.forget(1100.0)
    assert desk.budget.used(1100.0) == {}
    desk.budget.limit(Limits(rpd=2.0), 1200.0)
    assert desk.ask("w", [ask(3)], None, 0, 1200.0).turns == []


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(st.sampled_from(["ask", "ask", "ask", "die", "owner"]), st.integers(0, 2), st.floats(0.0, 1.0),
                  st.integers(1, 400), st.integers(1, 8)),
        min_size=5, max_size=60,
    )
)  # fmt: skip
def test_no_window_has_more_than_the_limit_whoever_dies(steps):
    """Workers that die with turns that they have begun or not, owners that die: the provider's count is the judge."""
    limits = {"rpm": 20.0, "tpm": 2000.0}
    desk, now, last, sent = desk_of(**limits), 1000.0, 0, []
    waiting = {worker: [] for worker in range(3)}
    for kind, worker, gap, tokens, count in steps:
        now += gap
        if kind == "owner":
            kept = desk.budget.kept()
            desk = desk_of(now, **limits)
            desk.budget.restore(kept, 0.0)
        elif kind == "die":
            waiting[worker] = []
            desk.drop(worker, now)
        else:
            for _ in range(count):
                last += 1
                waiting[worker].append(ask(last, tokens, 1))
            leased = desk.ask(worker, waiting[worker], None, 0, now)
            given = {number: (lease, now + delay) for number, lease, delay in leased.turns}
            gone = {number for number, _, _ in leased.refusals} | given.keys()
            sizes = {number: size for number, size, *_ in waiting[worker]}
            waiting[worker] = [one for one in waiting[worker] if one[0] not in gone]
            # What is to start later is given back, as by one who dies before: it was not sent.
            for number, (lease, at) in given.items():
                if at <= now:
                    sent.append((at, sizes[number] + 1))
                else:
                    desk.settle([(lease, 0, 0, 0)], [], now)
    assert most_in_any_window([(at, 1) for at, _ in sent], 60.0) <= 20
    assert most_in_any_window(sent, 60.0) <= 2000


def test_the_limits_of_a_user_who_waits_for_another_limit_are_not_forgotten():
    desk = desk_of(user={"rpm": 1}, rps=10.0)
    desk.ask("w", [ask(number) for number in range(10)], None, 0, 1000.0)
    desk.ask("w", [ask(number, user="ann") for number in (10, 11)], None, 0, 1000.0)
    assert len(desk.line) > 1
    desk.forget(1000.1)
    turns: list[int] = []
    for at in (1001.0, 1002.0, 1003.0):
        waiting = [ask(number, user="ann") for number in (10, 11) if number not in turns]
        turns += numbers(desk.ask("w", waiting, None, 0, at))
    assert turns == [10], "one a minute"
    desk.ask("w", [], None, 0, 1003.0)
    desk.forget(1100.0)
    assert desk.budget.buckets.names() == ["rps"], "who has gone is forgotten"


def test_who_waits_when_another_limit_is_told_is_counted_by_it_too():
    desk = desk_of(rpm=60)
    many = [ask(number, tokens_in=100, tokens_out=0) for number in range(30)]
    first = numbers(desk.ask("a", many, None, 0, 1000.0))
    assert first
    desk.budget.limit(Limits(rpm=60, tpm=600), 1000.0)
    left = [each for each in many if each[0] not in first]
    granted = 0
    for step in range(1, 590):
        now = 1000.0 + step / 10
        got = numbers(desk.ask("a", left, None, 0, now))
        granted += len(got)
        left = [each for each in left if each[0] not in got]
    assert 1 <= granted <= 6, "of 100 tokens each, in less than a minute"
    desk.budget.limit(Limits(rpm=6000), 1100.0)
    assert len(numbers(desk.ask("a", left, None, 0, 1100.0))) == len(left), "and not by one that is gone"


def test_a_turn_whose_answer_was_lost_is_given_again_and_counted_once():
    desk = desk_of(rpd=3)
    for step in range(10):  # each answer is lost on its way
        assert numbers(desk.ask("a", [ask(1)], None, 0, 1000.0 + step)) == [1]
    assert desk.budget.buckets.open_leases == 1
    assert desk.budget.used(1010.0)["rpd"]["free"] == 2
    assert numbers(desk.ask("a", [ask(2)], None, 0, 1010.0)) == [2]
    assert desk.budget.buckets.open_leases == 2, "the first one was heard"


def test_a_lease_that_nobody_settles_is_over_a_minute_after_its_call_can_be():
    desk = desk_of(rpd=10)
    desk.ask("a", [ask(1, seconds=30.0)], ask(0, seconds=0.0), 1, 1000.0)
    assert desk.budget.buckets.open_leases == 2
    desk.forget(1000.0 + 30.0 + LEASE_EXTRA + 1.0)
    assert desk.budget.buckets.open_leases == 1
    desk.forget(1000.0 + SPARE_SECONDS + 1.0)
    assert desk.budget.buckets.open_leases == 0
    assert desk.budget.used(2000.0)["rpd"]["free"] == 8, "nobody knows whether they were used"
