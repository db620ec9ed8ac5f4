"""What an example has cost with all its attempts, until it has its result. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from dspex_actors.journal.schema import from_json, to_json
from dspex_actors.journal.tally import merge_usage
from dspex_actors.lm.attempts import Attempt


class Bill(NamedTuple):
    """Requests, tokens (JSON, as they are written) and price of some attempts; `cost` None: unknown."""

    asked: int = 0
    usage: str | None = None
    cost: float | None = 0.0
    finish_reason: str | None = None

    def plus(self, attempts: Sequence[Attempt]) -> Bill:
        """Return the bill with more requests on it."""
        usage: dict[str, Any] | None = from_json(self.usage)
        cost, finish_reason = self.cost, self.finish_reason
        for attempt in attempts:
            tokens = attempt.tokens
            if tokens is not None:
                usage = {} if usage is None else usage
                merge_usage(usage, tokens)
                usage.setdefault("estimated", False)
            cost = None if cost is None or attempt.cost is None else cost + attempt.cost
            if attempt.outcome == "answered":
                finish_reason = attempt.finish_reason
        return Bill(self.asked + len(attempts), None if usage is None else to_json(usage), cost, finish_reason)


class Bills:
    """Keeps what attempts have cost that were not the last one."""

    def __init__(self) -> None:
        """Start with nothing."""
        self._open: dict[int, Bill] = {}

    def note(self, index: int, attempts: Sequence[Attempt]) -> None:
        """Take in an attempt after which the example is tried again."""
        if attempts:
            self._open[index] = self._open.get(index, Bill()).plus(attempts)

    def settle(self, index: int, attempts: Sequence[Attempt]) -> Bill:
        """Return everything that was paid for an example, its last attempt included."""
        before = self._open.pop(index, None)
        if before is None and len(attempts) == 1:
            only = attempts[0]
            return Bill(1, only.usage, only.cost, only.finish_reason)
        return (before or Bill()).plus(attempts)
