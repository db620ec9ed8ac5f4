"""One protected key, decided without clock and processes; and what users may say of it."""

import math

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from property_kit import examples

from dspex_actors.errors import CircuitOpen, ConfigError, DspexError, Overloaded, RateLimited
from dspex_actors.protection import spec
from dspex_actors.protection.core import Entry, Guard
from dspex_actors.protection.handle import _told

KEY = "sk-proj-" + "aB3dE5gH7jK9mN1pQ3sT5vX7zA9cE1fG"


def guard(now=0.0, **how):
    protection, _ = spec.protection(how.get("circuit"), how.get("limits"), how.get("pool"))
    return Guard("search", protection, now)


def enter(made, call, now=0.0, *, holder="me", costs=None, user=None, until=math.inf):
    return made.enter(call, holder, costs, user, now, until)


def test_a_call_draws_from_all_buckets_or_from_none():
    made = guard(limits={"requests": (10, 1.0), "tokens": (100, 1.0)})
    assert isinstance(enter(made, 1, costs={"tokens": 80}), Entry)
    assert enter(made, 2, costs={"tokens": 30}) is None  # waits, and took no request
    assert made.stats(0.0)["free"] == {"requests": 9, "tokens": 20}
    answers, _ = made.serve(1.1)
    assert [(call, type(answer)) for call, answer in answers] == [(2, Entry)]


def test_who_comes_first_is_served_first_and_a_large_one_is_not_starved():
    made = guard(limits={"tokens": (100, 1.0)})
    assert isinstance(enter(made, "a", costs={"tokens": 50}), Entry)
    assert enter(made, "large", costs={"tokens": 90}) is None
    assert enter(made, "small", costs={"tokens": 10}) is None  # would fit, and is behind
    answers, _ = made.serve(1.1)
    assert [call for call, _ in answers] == ["large", "small"]


def test_the_pool_lets_so_many_in_and_so_many_wait():
    made = guard(pool={"max_concurrent": 2, "queue": 1})
    assert [isinstance(enter(made, n), Entry) for n in (1, 2)] == [True, True]
    assert enter(made, 3) is None
    assert isinstance(enter(made, 4), Overloaded)
    assert made.leave(1, 1.0, failed=False)
    assert [call for call, _ in made.serve(1.0)[0]] == [3]
    assert not made.leave(1, 1.0, failed=False)  # told twice


def test_who_can_have_no_turn_in_time_is_refused_at_once_with_when_it_comes():
    made = guard(limits={"requests": (1, 10.0)})
    enter(made, 1)
    refused = enter(made, 2, now=1.0, until=3.0)
    assert isinstance(refused, RateLimited)
    assert refused.retry_after == pytest.approx(9.0, abs=0.1)
    never = enter(guard(limits={"requests": (1, 10.0)}), 1, costs={"requests": 2})
    assert (type(never), never.retryable) == (RateLimited, False)


def test_users_have_buckets_of_their_own():
    made = guard(limits={"user:requests": (1, 1.0)})
    assert isinstance(enter(made, 1, user="ann"), Entry)
    assert isinstance(enter(made, 2, user="bob"), Entry)
    assert enter(made, 3, user="ann") is None
    assert isinstance(enter(made, 4), Entry)  # of nobody
    assert isinstance(enter(made, 5, user="cid", costs={"requests": 1}), Entry)
    assert isinstance(enter(made, 6, costs={"tokens": 1}), ConfigError)


def test_the_circuit_is_asked_first_and_nothing_is_drawn_while_it_is_open():
    made = guard(limits={"requests": (10, 1.0)}, circuit={"failure_threshold": 2, "recovery_time": 5.0})
    for call in (1, 2):
        enter(made, call)
        made.leave(call, 0.0, failed=True, reason="boom")
    refused = enter(made, 3, now=1.0)
    assert (type(refused), refused.retry_after, "boom" in str(refused)) == (CircuitOpen, 4.0, True)
    assert made.stats(1.0)["free"]["requests"] == 8
    assert enter(made, 4, now=5.0).probe is not None
    assert enter(made, 5, now=5.0).retry_after == 5.0  # the probe may be answered long before its time is over
    made.leave(4, 5.5, failed=False)
    assert isinstance(enter(made, 6, now=5.5), Entry)


def test_who_waits_is_sent_away_when_it_opens():
    made = guard(pool=1, circuit={"failure_threshold": 1, "recovery_time": 5.0})
    enter(made, 1)
    assert enter(made, 2) is None
    made.leave(1, 1.0, failed=True)
    assert [(call, type(answer)) for call, answer in made.serve(1.0)[0]] == [(2, CircuitOpen)]


def test_what_a_dead_process_held_comes_back_its_probe_too():
    made = guard(pool=1, circuit={"failure_threshold": 1, "recovery_time": 5.0})
    enter(made, 1)
    made.leave(1, 0.0, failed=True)
    enter(made, 2, now=5.0, holder="dead")
    assert isinstance(enter(made, 3, now=5.0), CircuitOpen)
    assert made.gone("dead", 6.0) == [2]
    assert isinstance(enter(made, 4, now=6.0), Entry)
    assert made.holders == {"me"}


def test_configured_again_what_was_used_stays_used():
    made = guard(limits={"requests": (4, 1.0)}, pool=1)
    enter(made, 1)
    protection, _ = spec.protection(None, {"requests": (3, 1.0), "tokens": (5, 1.0)}, 2)
    made.configure(protection, 0.1)
    assert made.stats(0.1)["free"] == {"requests": 2, "tokens": 5, "pool": 1}
    made.configure(spec.protection(None, None, None)[0], 0.1)
    assert made.stats(0.1)["free"] == {}
    made.leave(1, 0.2, failed=False)
    assert isinstance(enter(made, 2, now=0.2), Entry)


CALLS = st.lists(
    st.tuples(st.sampled_from(["enter", "leave", "time", "die", "owner"]), st.integers(1, 4), st.floats(0.0, 2.0)),
    max_size=80,
)


@settings(max_examples=examples(200), deadline=None)
@given(CALLS)
def test_promises(steps):
    """Never more than the pool at once, never more than the limit in any window, whoever dies in between."""
    made = guard(limits={"tokens": (10, 3.0)}, pool={"max_concurrent": 3})
    now, number, inside, used = 0.0, 0, {}, []

    def took(call, cost):
        inside[call] = True
        used.append((now, cost))
        assert len(inside) <= 3
        assert sum(amount for at, amount in used if at > now - 3.0 + 1e-6) <= 10

    costs = {}
    for what, amount, seconds in steps:
        if what == "enter":
            number += 1
            costs[number] = amount
            answer = enter(made, number, now, holder=number % 3, costs={"tokens": amount})
            if isinstance(answer, Entry):
                took(number, amount)
        elif what == "leave" and inside:
            call = list(inside)[amount % len(inside)]
            del inside[call]
            assert made.leave(call, now, failed=False)
        elif what == "die":
            for call in made.gone(amount % 3, now):
                del inside[call]
        elif what == "owner":
            kept = msgpack.unpackb(msgpack.packb(made.kept()), strict_map_key=False)
            made = Guard("search", spec.Protection.from_plain(kept["protection"]), now)
            made.restore(kept, now)
            assert set(made.entries) == set(inside)
        else:
            now += seconds
        for call, answer in made.serve(now)[0]:
            if not isinstance(answer, DspexError):
                took(call, costs[call])


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (({"failure_threshold": 0}, None, None), "circuit_breaker: failure_threshold is invalid"),
        (({"threshold": 3}, None, None), "circuit_breaker is invalid: got 'threshold'"),
        (({"trip": 3}, None, None), "trip is invalid: got 3"),
        ((5, None, None), "circuit_breaker is invalid"),
        ((None, {"requests": 5}, None), "requests is invalid: got 5"),
        ((None, {"requests": (0, 1.0)}, None), "requests is invalid"),
        ((None, {"requests": (1, float("nan"))}, None), "requests is invalid"),
        ((None, {"requests": (True, 1)}, None), "requests is invalid"),
        ((None, {"user:": (1, 1)}, None), "as a bucket"),
        ((None, {"": (1, 1)}, None), "as a bucket"),
        ((None, [("requests", 1)], None), "rate_limiter is invalid"),
        ((None, None, 0), "pool is invalid"),
        ((None, None, {}), "pool is invalid"),
        ((None, None, {"max_concurrent": 0}), "max_concurrent is invalid"),
        ((None, None, {"max_concurrent": 1, "size": 1}), "pool is invalid"),
        ((None, None, {"queue": 3}), "max_concurrent is invalid: got None"),
        ((None, None, {"size": 3, "queue": -1}), "queue is invalid"),
    ],
)
def test_what_protects_nothing_is_refused_in_one_line(how, words):
    with pytest.raises(ConfigError, match=words) as caught:
        spec.protection(*how)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("costs", [5, {1: 2}, {"a": -1}, {"a": math.nan}, {"a": "1"}, {"a": True}])
def test_costs_that_are_none_are_refused(costs):
    with pytest.raises(ConfigError, match="costs"):
        spec.check_costs(costs)


@pytest.mark.parametrize("timeout", [0, -1, math.inf, "5", True])
def test_timeouts_that_are_none_are_refused(timeout):
    with pytest.raises(ConfigError, match="timeout"):
        spec.check_timeout(timeout)


def test_users_who_have_gone_are_forgotten_and_those_who_wait_are_not():
    made = guard(limits={"user:requests": (1, 10.0)}, pool={"max_concurrent": 1})
    assert isinstance(enter(made, "in", user="first"), Entry)
    assert enter(made, "waits", user="ann") is None
    for number in range(5000):
        now = 20.0 * number
        enter(made, number, now, user=f"user {number}")
        made.leave(number, now, failed=None)
    assert len(made.stats(now)["free"]) < 1000
    assert enter(made, "too", now, user="ann") is None
    made.leave("in", now, failed=False)
    assert [call for call, _ in made.serve(now)[0]] == ["waits"]
    made.leave("waits", now, failed=False)
    assert made.serve(now)[0] == [], "one in ten seconds"


def test_a_pool_that_was_away_for_a_moment_knows_who_is_in():
    made = guard(pool=2)
    assert all(isinstance(enter(made, call), Entry) for call in "ab")
    made.configure(spec.protection(None, {"requests": (100, 1.0)}, None)[0], 0.0)
    made.configure(spec.protection(None, None, 2)[0], 0.0)
    assert enter(made, "c") is None
    made.leave("a", 0.0, failed=False)
    assert [call for call, _ in made.serve(0.0)[0]] == ["c"]


def test_many_who_wait_cost_as_much_each_as_few():
    def work(count):
        made, waits = guard(pool=1), 0
        enter(made, "in")
        reserve = made._buckets.reserve

        def counting(*args, **about):
            nonlocal waits
            waits += 1
            return reserve(*args, **about)

        made._buckets.reserve = counting
        for number in range(count):
            assert enter(made, number) is None
            made.serve(0.0)
        return waits / count

    assert work(2000) <= work(100) + 1


def test_what_an_error_says_leaves_the_process_without_keys_and_in_one_short_line():
    class Broken(Exception):
        def __str__(self):
            raise ValueError

    assert _told(ValueError(f"no\nkey {KEY} here")).startswith("ValueError: no key ")
    assert KEY not in _told(ValueError(f"key {KEY}"))
    assert KEY[:20] not in _told(ValueError("x" * 270 + KEY))
    assert len(_told(ValueError("x" * 100_000))) == 300
    assert _told(Broken()) == "Broken: ?"
