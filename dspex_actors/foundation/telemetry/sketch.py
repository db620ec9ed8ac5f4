"""Quantiles of many values in little room: DDSketch's bins, kept in a dict. Pure.

A value stands in the bin whose bounds are one step of `GAMMA` apart, so every quantile is right to `ACCURACY` of
itself, and two sketches are merged by adding their bins (Masson, Rim, Lee: DDSketch, VLDB 2019).

The library of that name was tried: its bins are an array from the smallest value to the largest, 1 MB for a series that
holds 1e-300 and 1e300; the ones that are bounded lose the low quantiles after nine decades; and it writes itself down
through protobuf only. HdrHistogram takes three times as long per value, and needs bounds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

#: Quantiles are right to so much of the value, relative.
ACCURACY = 0.005
GAMMA = (1 + ACCURACY) / (1 - ACCURACY)
_PER_LOG = 1 / math.log(GAMMA)
#: Smaller ones are zero.
TINY = 1e-150
#: Bins at most: those nearest to zero become one where there are more, which takes values over 17 decades.
MOST_BINS = 4096
#: Bins are numbered in the order of their values: positive ones from here up, negative ones down, zero is 0.
_MIDDLE = 1 << 20

#: How many values are in which bin.
Bins = dict[int, int]


def add_values(bins: Bins, values: Iterable[float]) -> None:
    """Put values into bins.

    Args:
        bins: changed.
        values: finite numbers.
    """
    log, ceil, get = math.log, math.ceil, bins.get
    for value in values:
        if value > TINY:
            key = _MIDDLE + ceil(log(value) * _PER_LOG)
        elif value < -TINY:
            key = -_MIDDLE - ceil(log(-value) * _PER_LOG)
        else:
            key = 0
        bins[key] = get(key, 0) + 1
    if len(bins) > MOST_BINS:
        _narrow(bins)


def add_bins(bins: Bins, more: Mapping[int, int]) -> None:
    """Add another sketch's bins."""
    for key, count in more.items():
        bins[key] = bins.get(key, 0) + count
    if len(bins) > MOST_BINS:
        _narrow(bins)


def _narrow(bins: Bins) -> None:
    """Make the bins nearest to zero one, so that there are `MOST_BINS`."""
    near = sorted(bins, key=abs)[: len(bins) - MOST_BINS + 1]
    bins[near[-1]] = sum(bins.pop(key) for key in near)


def quantiles(bins: Mapping[int, int], points: Sequence[float]) -> list[float]:
    """Return the least values that at least the parts `points` (0 to 1, ascending) of all values do not exceed.

    That is the nearest rank: the 99th percentile of two values is the larger one. Empty for no values.
    """
    if not bins:
        return []
    count = sum(bins.values())
    ranks = [nearest_rank(point, count) for point in points]
    found: list[float] = []
    seen = 0
    for key in sorted(bins):
        seen += bins[key]
        while len(found) < len(ranks) and ranks[len(found)] < seen:
            found.append(value_of(key))
    return found


def nearest_rank(point: float, count: int) -> int:
    """Return where, from 0, the quantile `point` stands among `count` values in their order."""
    return max(0, math.ceil(point * count) - 1)


def value_of(key: int) -> float:
    """Return what stands for the values of a bin."""
    if key == 0:
        return 0.0
    size: float = 2 * GAMMA ** (abs(key) - _MIDDLE) / (1 + GAMMA)
    return size if key > 0 else -size


def count_up_to(bins: Mapping[int, int], bounds: Sequence[float]) -> list[int]:
    """Return how many values are not above each of `bounds` (ascending); right to the width of a bin."""
    counts = [0] * len(bounds)
    place, seen = 0, 0
    for key in sorted(bins):
        value = value_of(key)
        while place < len(bounds) and value > bounds[place]:
            counts[place] = seen
            place += 1
        seen += bins[key]
    counts[place:] = [seen] * (len(bounds) - place)
    return counts
