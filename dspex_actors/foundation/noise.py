"""How far a mean is chance: an interval that it lies in, and a test of two runs on the same examples. Pure.

Chance is drawn with a seed: the same figures give the same answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from dspex_actors.errors import ConfigError

#: Draws of a bootstrap, and the seed of its chance.
DRAWS, SEED = 2000, 0
#: Scores with more different values are many, and their mean is as good as normal: it is not drawn.
MOST_VALUES = 2000
#: So many changes are all tried with both signs; of more the sum is as good as normal.
EXACT = 14


def interval(
    counts: Mapping[float, int], confidence: float = 0.95, *, draws: int = DRAWS, seed: int = SEED
) -> tuple[float, float] | None:
    """Return what the mean lies between, by the percentile bootstrap (Efron 1979).

    As many scores as there are are drawn from them, again and again: so the means lie that other examples of the same
    kind would have given. Of more than 2,000 different values the normal approximation is taken.

    Args:
        counts: score → how many examples have it.
        confidence: the part of the means that lies inside, above 0 and below 1.
        draws: how often.
        seed: of the chance.

    Returns:
        The lower and the upper end; None where there are fewer than two scores.

    Raises:
        ConfigError: confidence is no such part.
    """
    if isinstance(confidence, bool) or not isinstance(confidence, (int, float)) or not 0.0 < confidence < 1.0:
        raise ConfigError(f"confidence is invalid: got {confidence!r:.100}, expected a number above 0 and below 1")
    found = {score: count for score, count in sorted(counts.items()) if count > 0}
    total = sum(found.values())
    if total < 2:
        return None
    mean = math.fsum(score * count for score, count in found.items()) / total
    if len(found) == 1:
        return mean, mean
    if len(found) > MOST_VALUES:
        spread = math.fsum((score - mean) ** 2 * count for score, count in found.items()) / (total - 1)
        from statistics import NormalDist  # by those who have so many

        far = NormalDist().inv_cdf(0.5 + confidence / 2) * math.sqrt(spread / total)
        return mean - far, mean + far
    import numpy as np  # by those who ask for an interval

    values = np.array(list(found), dtype=float)
    shares = np.array(list(found.values()), dtype=float) / total
    # RandomState and not a Generator: its numbers are the same in every version of numpy.
    means = np.sort(np.random.RandomState(seed).multinomial(total, shares, size=draws) @ values / total)
    outside = (1.0 - confidence) / 2
    low, high = math.floor(outside * (draws - 1)), math.ceil((1.0 - outside) * (draws - 1))
    return float(means[low]), float(means[high])


@dataclass(frozen=True, slots=True)
class Paired:
    """Two runs on the same examples, compared.

    Args:
        n: examples with a score in both.
        better: of these those with a higher score in the second; `worse`: with a lower one.
        mean: what the second has more on average.
        low, high: what that mean lies between with 95 %; None of fewer than two examples.
        p: how likely a difference as large, or larger, would be if chance had given each score to one of the two runs;
            1.0 where nothing differs.
    """

    n: int
    better: int
    worse: int
    mean: float
    low: float | None
    high: float | None
    p: float

    @property
    def is_noise(self) -> bool:
        """Whether chance explains it: p is 0.05 or more."""
        return self.p >= 0.05


def paired(changes: Mapping[float, int], *, seed: int = SEED) -> Paired:
    """Test whether two runs differ by more than chance.

    The test is Fisher's sign test of the differences (1935): under chance each difference has either sign alike. Where
    all differences are equally large, as of scores of 0 and 1, that is McNemar's exact test; up to 14 differences all
    signs are tried; of more the sum is taken as normal.

    Args:
        changes: score in the second run minus score in the first → how many examples; 0 included.
        seed: of the chance of the interval.
    """
    found = {change: count for change, count in changes.items() if count > 0}
    n = sum(found.values())
    moved = {change: count for change, count in found.items() if change}
    better = sum(count for change, count in moved.items() if change > 0)
    worse = sum(moved.values()) - better
    mean = math.fsum(change * count for change, count in found.items()) / n if n else 0.0
    low, high = interval(found, seed=seed) or (None, None)
    return Paired(n, better, worse, mean, low, high, _chance(moved, better, worse))


def _chance(moved: Mapping[float, int], better: int, worse: int) -> float:
    count = better + worse
    if not count:
        return 1.0
    if max(map(abs, moved)) - min(map(abs, moved)) < 1e-12:
        return binomial_two_sided(min(better, worse), count)
    total = abs(math.fsum(change * times for change, times in moved.items()))
    if count > EXACT:
        spread = math.sqrt(math.fsum(change**2 * times for change, times in moved.items()))
        return math.erfc(total / spread / math.sqrt(2))
    sizes = [abs(change) for change, times in moved.items() for _ in range(times)]
    return float(_as_far(sizes, total) / 2**count)


def _as_far(sizes: Sequence[float], total: float) -> int:
    """Return for how many choices of signs the sum is at least as far from 0."""
    least = total - 1e-12
    return sum(
        abs(math.fsum(sign * size for sign, size in zip(signs, sizes, strict=True))) >= least
        for signs in product((1, -1), repeat=len(sizes))
    )


def binomial_two_sided(fewer: int, count: int) -> float:
    """Return how likely so few, or fewer, or as many of the others are of so many throws of a fair coin."""
    if 2 * fewer >= count:
        return 1.0
    log_half = count * math.log(0.5)
    logs = [
        math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1) + log_half for k in range(fewer + 1)
    ]
    return min(1.0, 2.0 * math.fsum(map(math.exp, logs)))
