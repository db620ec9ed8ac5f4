"""`Stats`: what is known of the values of a series. Added to in batches, merged, and written as plain data. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from dspex_actors.foundation.telemetry.sketch import Bins, add_bins, add_values, quantiles

#: A value is not larger than this, and no less than its negative: squares of them can be summed.
LARGEST = 1e150
POINTS = (0.5, 0.9, 0.99)
QUANTILES = ("p50", "p90", "p99")


class Stats:
    """Count, sum, extremes, squared deviations, the last value and a sketch.

    Args:
        has_bins: whether quantiles are wanted.
    """

    __slots__ = ("at", "bins", "count", "largest", "last", "smallest", "squares", "sum")

    def __init__(self, *, has_bins: bool = True) -> None:
        """Begin with nothing."""
        self.count: int = 0
        self.sum: float = 0
        self.smallest, self.largest = math.inf, -math.inf
        #: Sum of the squared deviations from the mean.
        self.squares = 0.0
        #: What came last, and when, wall-clock seconds.
        self.last: float = 0
        self.at = 0.0
        self.bins: Bins | None = {} if has_bins else None

    def add(self, values: Sequence[float], at: float) -> None:
        """Add values, in the order in which they came; what is no number, or none that can be summed, is left out.

        Args:
            values: numbers.
            at: when the last one came, wall-clock seconds.
        """
        smallest, largest = min(values, default=0), max(values, default=0)
        total = sum(values) if smallest >= -LARGEST and largest <= LARGEST else math.nan
        if math.isnan(total):
            self.add([value for value in values if -LARGEST <= value <= LARGEST], at)
            return
        if not values:
            return
        count = len(values)
        squares = 0.0
        if smallest != largest:
            if type(total) is not int:  # whole numbers stay whole: a counter is exact
                total = math.fsum(values)
            mean = total / count
            squares = sum([(value - mean) ** 2 for value in values])
        self._join(count, total, smallest, largest, squares)
        self.last, self.at = values[-1], at
        if self.bins is not None:
            add_values(self.bins, values)

    def merge(self, other: Stats) -> None:
        """Add what another one knows."""
        if not other.count:
            return
        self._join(other.count, other.sum, other.smallest, other.largest, other.squares)
        if other.at >= self.at:
            self.last, self.at = other.last, other.at
        if self.bins is not None and other.bins is not None:
            add_bins(self.bins, other.bins)

    def _join(self, count: int, total: float, smallest: float, largest: float, squares: float) -> None:
        """Add values of which these figures are known (Chan, Golub, LeVeque: updating formulae, 1979)."""
        if self.count:
            apart = total / count - self.sum / self.count
            squares += apart * apart * (count * self.count / (count + self.count))
        self.squares += squares
        self.count += count
        self.sum += total
        self.smallest = min(self.smallest, smallest)
        self.largest = max(self.largest, largest)

    def copy(self) -> Stats:
        """Return one like it that does not change with it."""
        return Stats.from_plain(self.to_plain())

    def figures(self) -> dict[str, Any]:
        """Return count, sum, min, max, mean, std, p50, p90, p99; the last three are None where there is no sketch."""
        count = self.count
        if not count:
            return {"count": 0, "sum": 0, **dict.fromkeys(("min", "max", "mean", "std", *QUANTILES))}
        found = quantiles(self.bins, POINTS) if self.bins else []
        points: list[float | None] = [min(self.largest, max(self.smallest, value)) for value in found]
        return {
            "count": count,
            "sum": self.sum,
            "min": self.smallest,
            "max": self.largest,
            "mean": self.sum / count,
            "std": math.sqrt(self.squares / count),
            **dict(zip(QUANTILES, points or [None] * len(POINTS), strict=True)),
        }

    def to_plain(self) -> list[Any]:
        """Return it as plain data."""
        return [self.count, self.sum, self.smallest, self.largest, self.squares, self.last, self.at, self.bins]

    @classmethod
    def from_plain(cls, plain: Sequence[Any]) -> Stats:
        """Rebuild what `to_plain` has made."""
        made = cls()
        (made.count, made.sum, made.smallest, made.largest, made.squares, made.last, made.at, bins) = plain
        made.bins = None if bins is None else dict(bins)
        return made
