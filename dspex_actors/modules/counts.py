"""What is counted of a module's versions. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspex_actors.foundation.telemetry.stats import Stats
from dspex_actors.journal.tally import merge_usage

#: So many kinds of errors are told apart.
MOST_ERRORS = 20


class Counts:
    """Calls of one version, or of several together."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.calls = self.failed = self.asked = 0
        self.errors: dict[str, int] = {}
        self.latency = Stats()
        self.usage: dict[str, Any] = {}
        #: USD; of calls whose price is not known, nothing.
        self.cost = 0.0
        self.unpriced = 0

    def add(
        self, latency: float, at: float, error: str | None, usage: Mapping[str, Any], cost: float | None, asked: int
    ) -> None:
        """Count a call that has ended.

        Args:
            latency: seconds.
            at: wall-clock seconds.
            error: the error's type; None: it went well.
            usage: tokens by kind.
            cost: USD; None: unknown.
            asked: requests to LMs.
        """
        self.calls += 1
        self.asked += asked
        self.latency.add((latency,), at)
        merge_usage(self.usage, usage)
        if cost is None:
            self.unpriced += 1
        else:
            self.cost += cost
        if error is not None:
            self.failed += 1
            name = error if error in self.errors or len(self.errors) < MOST_ERRORS else "other"
            self.errors[name] = self.errors.get(name, 0) + 1

    def merge(self, other: Counts) -> None:
        """Add what another one has counted."""
        self.calls += other.calls
        self.failed += other.failed
        self.asked += other.asked
        self.unpriced += other.unpriced
        self.cost += other.cost
        self.latency.merge(other.latency)
        merge_usage(self.usage, other.usage)
        for name, count in other.errors.items():
            self.errors[name] = self.errors.get(name, 0) + count

    def figures(self) -> dict[str, Any]:
        """Return them for people."""
        return {
            "calls": self.calls,
            "failed": self.failed,
            "errors": dict(self.errors),
            "latency": self.latency.figures(),
            "asked": self.asked,
            "usage": dict(self.usage),
            "cost": None if self.unpriced and not self.cost else self.cost,
        }

    def to_plain(self) -> list[Any]:
        """Return them as plain data."""
        latency = self.latency.to_plain()
        return [self.calls, self.failed, self.asked, self.errors, latency, self.usage, self.cost, self.unpriced]

    @classmethod
    def from_plain(cls, plain: Any) -> Counts:
        """Rebuild what `to_plain` has made."""
        made = cls()
        made.calls, made.failed, made.asked, made.errors, latency, made.usage, made.cost, made.unpriced = plain
        made.latency = Stats.from_plain(latency)
        return made
