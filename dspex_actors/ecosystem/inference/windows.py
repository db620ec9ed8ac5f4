"""What happened in the last so many seconds: a sum and a sketch for each second, merged when asked. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dspex_actors.ecosystem.inference.messages import Concluded
from dspex_actors.foundation.telemetry.stats import Stats

#: The longest window, in seconds: so many seconds are remembered.
LONGEST = 3600
#: What can be asked of a window, and its unit.
METRICS = {
    "latency.mean": "s",
    "latency.max": "s",
    "latency.p50": "s",
    "latency.p90": "s",
    "latency.p99": "s",
    "inferences.count": "",
    "inferences.rate": "/s",
    "errors.count": "",
    "errors.share": "of 1",
    "cache.hit_share": "of 1",
    "tokens.count": "",
    "tokens.rate": "/s",
    "cost.sum": "USD",
    "cost.rate": "USD/s",
}


class _Second:
    __slots__ = ("cached", "cost", "failed", "latency", "tokens")

    def __init__(self) -> None:
        self.latency = Stats()
        self.failed = self.cached = self.tokens = 0
        self.cost = 0.0

    def merge(self, other: _Second) -> None:
        self.latency.merge(other.latency)
        self.failed += other.failed
        self.cached += other.cached
        self.tokens += other.tokens
        self.cost += other.cost


class Windows:
    """The last seconds, at most `keep` of them.

    Args:
        keep: seconds that are remembered.
    """

    def __init__(self, keep: int = 60) -> None:
        """Begin with nothing."""
        self._keep = min(keep, LONGEST)
        self._seconds: dict[int, _Second] = {}

    def add(self, rows: Iterable[Concluded], now: float) -> None:
        """Take in inferences that ended about now (seconds of any clock that goes forward)."""
        second = self._seconds.get(int(now))
        if second is None:
            second = self._seconds[int(now)] = _Second()
            oldest = int(now) - self._keep
            for at in [at for at in self._seconds if at <= oldest]:
                del self._seconds[at]
        latencies = []
        for row in rows:
            latencies.append(row.latency)
            second.failed += row.error is not None
            second.cached += row.is_cached
            second.tokens += row.tokens
            second.cost += row.cost or 0.0
        second.latency.add(latencies, now)

    def figures(self, window: float, now: float) -> dict[str, float | None]:
        """Return all metrics over the last so many seconds; None where nothing happened that would tell.

        Args:
            window: seconds.
            now: seconds, of the clock of `add`.
        """
        total = _Second()
        for at, second in self._seconds.items():
            if now - window < at + 1:
                total.merge(second)
        told = total.latency.figures()
        count = int(told["count"])
        share = (lambda part: part / count) if count else (lambda part: None)
        found: dict[str, Any] = {f"latency.{name}": told[name] for name in ("mean", "max", "p50", "p90", "p99")}
        return found | {
            "inferences.count": count,
            "inferences.rate": count / window,
            "errors.count": total.failed,
            "errors.share": share(total.failed),
            "cache.hit_share": share(total.cached),
            "tokens.count": total.tokens,
            "tokens.rate": total.tokens / window,
            "cost.sum": total.cost,
            "cost.rate": total.cost / window,
        }
