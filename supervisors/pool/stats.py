"""What a pool shows of itself: its status as poolboy's, and statistics over a window of time."""

from __future__ import annotations

import math
from collections import Counter, deque
from typing import Any, NamedTuple

#: What a pool counts, as PoolStats has it.
COUNTED = ("served", "full", "timed_out", "work_timed_out", "failed_starts", "unhealthy", "replaced")

#: No more waits than this are kept, however busy the window.
MAX_SAMPLES = 20_000


class PoolStatus(NamedTuple):
    """What `status` returns.

    Args:
        state: ready - a worker is idle; overflow - none is, but one more may be started; full - none may.
        idle: workers that nobody has.
        overflow: workers beyond the pool's present size.
        checked_out: workers that are out.
    """

    state: str
    idle: int
    overflow: int
    checked_out: int


class PoolStats(NamedTuple):
    """What `stats` returns; the counts begin with the pool, the waits cover the last `window` seconds.

    Args:
        size: how many workers the pool keeps at present, between min_size and max_size.
        workers: how many it has, those that are out or being checked too.
        starting: how many are being started.
        idle, in_use, overflow: as in the status.
        queue: checkouts that wait.
        served: checkouts that got a worker.
        full: non-blocking checkouts that were refused.
        timed_out: checkouts that were not served in time.
        work_timed_out: workers taken away because the work took too long.
        failed_starts: workers that did not start.
        unhealthy: workers that failed their health check.
        replaced: workers started in the place of one that was lost.
        p50, p95, p99: percentiles of the seconds that served checkouts waited; None when there were none.
        longest: the longest of these waits.
        window: seconds that the waits cover.
    """

    size: int
    workers: int
    starting: int
    idle: int
    in_use: int
    overflow: int
    queue: int
    served: int
    full: int
    timed_out: int
    work_timed_out: int
    failed_starts: int
    unhealthy: int
    replaced: int
    p50: float | None
    p95: float | None
    p99: float | None
    longest: float | None
    window: float


class Waits:
    """How long checkouts waited, over the last `window` seconds; and counts of what happened."""

    def __init__(self, window: float) -> None:
        """Begin with nothing."""
        self.window = window
        self.counts: Counter[str] = Counter()
        self._samples: deque[tuple[float, float]] = deque(maxlen=MAX_SAMPLES)

    def add(self, now: float, waited: float) -> None:
        """Note that a checkout was served after so many seconds."""
        self.counts["served"] += 1
        self._samples.append((now, waited))
        self._forget(now)

    def _forget(self, now: float) -> None:
        while self._samples and self._samples[0][0] < now - self.window:
            self._samples.popleft()

    def percentiles(self, now: float) -> tuple[float | None, float | None, float | None, float | None]:
        """Return p50, p95, p99 and the maximum, each a wait that happened (nearest rank)."""
        self._forget(now)
        waits = sorted(waited for _, waited in self._samples)
        if not waits:
            return None, None, None, None
        p50, p95, p99 = (waits[math.ceil(share * len(waits)) - 1] for share in (0.50, 0.95, 0.99))
        return p50, p95, p99, waits[-1]

    def shown(self, now: float) -> dict[str, Any]:
        """Return the counts, the percentiles and the window, by their names in PoolStats."""
        names = ("p50", "p95", "p99", "longest")
        counts = {name: self.counts[name] for name in COUNTED}
        return {**counts, **dict(zip(names, self.percentiles(now), strict=True)), "window": self.window}
