"""What an example has cost with all its attempts, until it has its result. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dspex_actors.journal.tally import merge_usage


class Paid(Protocol):
    """What a bill says of a request."""

    @property
    def usage(self) -> dict[str, Any] | None:
        """Return its tokens by kind; None: unknown."""

    @property
    def cost(self) -> float | None:
        """Return its price; None: unknown."""

    @property
    def outcome(self) -> str:
        """Return what became of it."""

    @property
    def finish_reason(self) -> str | None:
        """Return why its answer ended."""


@dataclass(frozen=True, slots=True)
class Bill:
    """Requests, tokens and price of some attempts; `cost` None: unknown."""

    asked: int = 0
    usage: dict[str, Any] | None = None
    cost: float | None = 0.0
    finish_reason: str | None = None

    def plus(self, attempts: Sequence[Paid]) -> Bill:
        """Return the bill with more requests on it."""
        usage, cost, finish_reason = self.usage, self.cost, self.finish_reason
        for attempt in attempts:
            if attempt.usage is not None:
                usage = {} if usage is None else {**usage}
                merge_usage(usage, attempt.usage)
                usage.setdefault("estimated", False)
            cost = None if cost is None or attempt.cost is None else cost + attempt.cost
            if attempt.outcome == "answered":
                finish_reason = attempt.finish_reason
        return Bill(self.asked + len(attempts), usage, cost, finish_reason)


class Bills:
    """Keeps what attempts have cost that were not the last one."""

    def __init__(self) -> None:
        """Start with nothing."""
        self._open: dict[int, Bill] = {}

    def note(self, index: int, attempts: Sequence[Paid]) -> None:
        """Take in an attempt after which the example is tried again."""
        if attempts:
            self._open[index] = self._open.get(index, Bill()).plus(attempts)

    def settle(self, index: int, attempts: Sequence[Paid]) -> Bill:
        """Return everything that was paid for an example, its last attempt included."""
        before = self._open.pop(index, None)
        if before is None and len(attempts) == 1:
            only = attempts[0]
            return Bill(1, only.usage, only.cost, only.finish_reason)
        return (before or Bill()).plus(attempts)
