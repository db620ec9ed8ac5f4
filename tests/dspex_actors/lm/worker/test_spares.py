"""Leases that a worker keeps where limits are far away."""

import math

import pytest

from dspex_actors.lm.deployment import Limits
from dspex_actors.lm.worker.spares import FAR_MOST, FAR_SECONDS, MOST_SPARES, SPARE_SECONDS, Spares, is_far

FAR = Limits(rpm=600_000_000, tpm=600_000_000_000)
NEAR = Limits(rpm=600)


def filled(limits, wanted=8, late=1.0, now=100.0):
    spares = Spares()
    for _ in range(wanted):
        spares.want(10, 20)
    _, count, left = spares.wanted(limits, now)
    assert left == []
    spares.fill(list(range(1, count + 1)), now, now, late)
    return spares


def test_as_many_are_asked_for_as_came_since_and_none_for_a_single_call():
    spares = Spares()
    spares.want(1, 1)
    assert spares.wanted(FAR, 0.0) == (None, 0, [])
    for size in (5, 9, 7):
        spares.want(size, size + 1)
    ask, count, _ = spares.wanted(NEAR, 0.0)
    assert (ask[1:3], count) == ((9, 10), 3)


@pytest.mark.parametrize(("limits", "seconds"), [(FAR, FAR_SECONDS), (NEAR, SPARE_SECONDS)])
def test_they_are_good_for_longer_where_limits_are_far_away(limits, seconds):
    assert filled(limits).take(10, 20, 100.0 + seconds) is not None
    spares = filled(limits)
    assert spares.take(10, 20, 100.001 + seconds) is None
    assert len(spares.over(100.001 + seconds)) == 8
    assert spares.end == math.inf


def test_none_is_good_for_longer_than_a_request_may_be_late_for_its_turn():
    assert filled(FAR, late=0.1).take(10, 20, 100.2) is None


def test_one_is_not_good_for_a_larger_request():
    spares = filled(FAR)
    assert spares.take(11, 20, 100.0) is None
    assert spares.take(10, 21, 100.0) is None
    assert spares.take(10, 20, 100.5) == (1, 0.5)


def test_no_window_of_a_second_has_any():
    spares = Spares()
    for _ in range(9):
        spares.want(1, 1)
    assert spares.wanted(Limits(rps=1e9, rpm=1e9), 0.0) == (None, 0, [])


def test_a_rate_that_was_learnt_knows_none():
    spares = filled(FAR)
    for _ in range(9):
        spares.want(1, 1)
    assert spares.wanted(FAR, 100.0, is_learnt=True) == (None, 0, list(range(1, 9)))


def test_who_asks_for_them_late_does_not_call_them_older_than_they_are():
    spares = filled(FAR)
    spares.given_up()
    spares.fill([7], 100.0, 100.3, 1.0)
    assert spares.take(10, 20, 100.5) == (7, pytest.approx(0.2))
    spares.fill([7], 100.0, 100.3, 1.0)
    assert spares.take(10, 20, 101.1) is None, "good from when they were asked for"


def test_calls_that_come_in_waves_find_one_each():
    spares, now, waits = Spares(), 100.0, 0
    for wave in range(20):
        for _ in range(200):
            spares.want(10, 20)
            if spares.take(10, 20, now) is None:
                waits += 1
            if spares.run_low or not waits:
                _, count, _ = spares.wanted(FAR, now)
                spares.fill(range(count), now, now, 1.0)
        if not wave:
            _, count, _ = spares.wanted(FAR, now)
            spares.fill(range(count), now, now, 1.0)
        now += 0.45
    assert waits <= 200


def test_more_are_fetched_before_the_last_is_gone_and_what_is_left_stays():
    spares = filled(FAR)
    for _ in range(6):
        assert not spares.run_low
        spares.want(10, 20)
        spares.take(10, 20, 100.0)
    assert spares.run_low
    _, count, back = spares.wanted(FAR, 100.0)
    assert (count, back) == (8 + 6 - 2, [])


def test_near_a_limit_what_is_left_goes_back_before_more_is_asked_for():
    spares = filled(NEAR, wanted=2)
    assert not spares.run_low
    for _ in range(2):
        spares.want(10, 20)
    assert spares.wanted(NEAR, 100.1)[1:] == (2, [1, 2])


def test_there_are_never_more_than_so_many():
    assert len(filled(NEAR, wanted=9999).given_up()) == MOST_SPARES
    assert len(filled(FAR, wanted=9999).given_up()) == FAR_MOST


@pytest.mark.parametrize(
    ("limits", "count", "expected"),
    [
        (FAR, 512, True),
        (Limits(rpm=60_000), 62, True),
        (Limits(rpm=60_000), 63, False),
        (Limits(rpm=60_000, tpm=60_000), 10, False),
        (Limits(itpm=600_000, otpm=6_000), 10, False),
        (Limits(rpd=10_000), 2, False),
        (Limits(), 512, True),
    ],
)
def test_a_limit_is_far_away_if_it_lets_them_through_in_a_sixteenth_of_a_second(limits, count, expected):
    assert is_far(limits, count, 10, 20) is expected
