"""Figures of many values, and of values that several processes have: as exact ones are, or as near as was said."""

import math
import statistics

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from property_kit import examples

from dspex_actors.foundation.telemetry import sketch
from dspex_actors.foundation.telemetry.stats import LARGEST, POINTS, Stats

SIZES = st.floats(-LARGEST, LARGEST, allow_nan=False)
HEAVY = st.builds(lambda power, sign: sign * 10.0**power, st.floats(-9, 7), st.sampled_from((1, -1)))
WHOLE = st.integers(-(10**6), 10**6)
BATCHES = st.lists(st.lists(st.one_of(HEAVY, WHOLE, st.just(0.0), st.floats(0, 100)), max_size=30), max_size=8)


def of(*batches):
    made = Stats()
    for batch in batches:
        made.add(batch, 1.0)
    return made


def exact(values, point):
    return sorted(values)[max(0, math.ceil(point * len(values)) - 1)]


@settings(max_examples=examples(80), deadline=None)
@given(BATCHES)
def test_merged_quantiles_are_within_one_percent_of_exact_ones(batches):
    merged = Stats()
    for batch in batches:
        merged.merge(of(batch))
    values = [value for batch in batches for value in batch]
    figures = merged.figures()
    for point, name in zip(POINTS, ("p50", "p90", "p99"), strict=True):
        if values:
            assert figures[name] == pytest.approx(exact(values, point), rel=0.01, abs=1e-150)
        else:
            assert figures[name] is None


@settings(max_examples=examples(80), deadline=None)
@given(BATCHES)
def test_the_other_figures_are_those_of_all_values_together(batches):
    merged = Stats()
    for batch in batches:
        merged.merge(of(batch))
    values = [value for batch in batches for value in batch]
    figures = merged.figures()
    assert figures["count"] == len(values)
    if values:
        largest = max(map(abs, values))
        near = {"rel": 1e-9, "abs": 1e-9 * largest}
        assert figures["sum"] == pytest.approx(math.fsum(values), **near)
        assert (figures["min"], figures["max"]) == (min(values), max(values))
        assert figures["mean"] == pytest.approx(statistics.fmean(values), **near)
        assert figures["std"] == pytest.approx(statistics.pstdev(map(float, values)), rel=1e-6, abs=1e-7 * largest)


@given(st.lists(SIZES, max_size=40), st.sampled_from([math.nan, math.inf, -math.inf, 1e151, -1e200, 10**400]))
def test_what_is_no_value_is_left_out_wherever_it_stands(values, bad):
    with_it, without = of([*values[:3], bad, *values[3:]]), of(values)
    assert with_it.to_plain() == without.to_plain()


@given(BATCHES)
def test_figures_are_the_same_after_a_journey(batches):
    here = of(*batches)
    there = Stats.from_plain(msgpack.unpackb(msgpack.packb(here.to_plain()), strict_map_key=False))
    assert there.figures() == here.figures()
    if here.count:
        there.merge(of([1.0]))
        assert there.count == here.count + 1


def test_a_counter_is_exact_beyond_what_floats_hold():
    made = of([2**53, 1], [1])
    assert made.sum == 2**53 + 2


def test_one_value_is_told_as_it_was():
    figures = of([0.123]).figures()
    assert {figures[name] for name in ("min", "max", "mean", "p50", "p90", "p99")} == {0.123}
    assert figures["std"] == 0


def test_bins_are_bounded_and_the_high_quantiles_stay_right():
    values = [10.0 ** (power / 500) for power in range(-50_000, 50_000, 3)]  # 200 decades
    made = of(values)
    assert len(made.bins) <= sketch.MOST_BINS
    assert sum(made.bins.values()) == len(values)
    assert made.figures()["p99"] == pytest.approx(exact(values, 0.99), rel=0.01)
    other = of([-value for value in values])
    other.merge(made)
    assert len(other.bins) <= sketch.MOST_BINS
    assert other.count == 2 * len(values)


@given(st.lists(st.floats(-1000, 1000), max_size=50), st.lists(st.floats(-1000, 1000), min_size=1, max_size=8))
def test_counts_up_to_bounds_are_right_to_a_bin(values, bounds):
    bounds.sort()
    counts = sketch.count_up_to(of(values).bins, bounds)
    for bound, count in zip(bounds, counts, strict=True):
        slack = 0.01 * abs(bound) + 1e-150
        assert (
            sum(value <= bound - slack for value in values) <= count <= sum(value <= bound + slack for value in values)
        )
