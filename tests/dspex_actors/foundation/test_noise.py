"""Intervals of means, and the test of two runs: tables of known values, and what must hold for all."""

import math
from collections import Counter
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.noise import MOST_VALUES, binomial_two_sided, interval, paired

SCORES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=2, max_size=60)


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    # Of 0 and 1 the means of a bootstrap are binomial: its quantiles are known.
    [({0.0: 50, 1.0: 50}, 0.40, 0.60), ({0.0: 10, 1.0: 90}, 0.84, 0.95), ({0.0: 900, 1.0: 100}, 0.082, 0.119)],
)
def test_an_interval_of_right_and_wrong_is_that_of_the_binomial(counts, low, high):
    assert interval(counts) == pytest.approx((low, high), abs=0.011)


def test_an_interval_is_the_same_each_time_and_wider_where_it_has_to_be_surer():
    counts = {0.0: 3, 0.5: 4, 1.0: 9}
    assert interval(counts) == interval(dict(reversed(counts.items())))
    (low, high), (lower, higher) = interval(counts, 0.8), interval(counts, 0.99)
    assert lower <= low < high <= higher


def test_of_many_different_scores_the_mean_is_taken_as_normal():
    count = MOST_VALUES + 1
    values = {place / count: 1 for place in range(count)}
    mean = sum(values) / count
    far = 1.96 * math.sqrt(1 / 12 / count)
    assert interval(values) == pytest.approx((mean - far, mean + far), abs=1e-4)


@pytest.mark.parametrize("confidence", [0, 1, 1.5, -0.1, True, "0.9", float("nan")])
def test_a_confidence_that_is_no_part_is_refused(confidence):
    with pytest.raises(ConfigError, match="confidence is invalid: got"):
        interval({0.0: 2, 1.0: 2}, confidence)


@given(SCORES)
def test_an_interval_holds_the_mean_and_stays_among_the_scores(scores):
    low, high = interval(Counter(scores), draws=200)
    mean = sum(scores) / len(scores)
    assert min(scores) - 1e-9 <= low <= mean + 0.13
    assert mean - 0.13 <= high <= max(scores) + 1e-9
    assert low <= high


@pytest.mark.parametrize("counts", [{}, {1.0: 1}, {1.0: 0}])
def test_of_fewer_than_two_scores_there_is_no_interval(counts):
    assert interval(counts) is None


@pytest.mark.parametrize(
    ("worse", "better", "p"),
    # McNemar's exact test: binomial, two-sided.
    [(0, 0, 1.0), (0, 1, 1.0), (0, 5, 0.0625), (0, 6, 0.03125), (1, 9, 0.021484375), (5, 5, 1.0), (40, 60, 0.0568879)],
)
def test_of_right_and_wrong_the_test_is_mcnemars(worse, better, p):
    found = paired({-1.0: worse, 1.0: better, 0.0: 17})
    assert (found.n, found.better, found.worse) == (worse + better + 17, better, worse)
    assert found.p == pytest.approx(p, rel=1e-5)
    assert found.is_noise == (p >= 0.05)


@given(st.lists(st.sampled_from([-1.0, -0.5, -0.25, 0.0, 0.25, 0.75]), max_size=9))
def test_of_few_differences_all_signs_are_tried(changes):
    moved = [change for change in changes if change]
    signs = list(product((1, -1), repeat=len(moved)))
    sums = [abs(sum(sign * change for sign, change in zip(row, moved, strict=True))) for row in signs]
    expected = sum(one >= abs(sum(moved)) - 1e-12 for one in sums) / len(sums)
    assert paired(Counter(changes)).p == pytest.approx(expected)


@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25]), max_size=40))
def test_the_other_way_round_it_is_the_same_chance(changes):
    one, other = paired(Counter(changes)), paired(Counter(-change for change in changes))
    assert one.p == pytest.approx(other.p)
    assert (one.better, one.worse, one.mean) == (other.worse, other.better, pytest.approx(-other.mean))
    assert 0.0 <= one.p <= 1.0


def test_of_many_differences_the_sum_is_normal_and_near_what_all_signs_would_say():
    changes = {0.5: 9, 1.0: 8, -0.5: 4, -1.0: 3, 0.25: 2}
    total, spread = 0.5 * 5 + 5 + 0.5, math.sqrt(0.25 * 13 + 11 + 0.125)
    assert paired(changes).p == pytest.approx(math.erfc(total / spread / math.sqrt(2)))


def test_a_large_sample_is_no_matter():
    assert binomial_two_sided(499_000, 1_000_000) == pytest.approx(0.0456, abs=0.0005)
    assert paired({-1.0: 400_000, 1.0: 410_000, 0.0: 190_000}).p < 1e-20
