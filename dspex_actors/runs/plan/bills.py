"""What a worker answers for one example, and what all attempts at it have cost together. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from dspex_actors.journal.tally import merge_usage


class Answer(NamedTuple):
    """One row of a worker's batch.

    Args:
        number: the example's place in the dataset, from 0.
        send: the number of the sending that this answers.
        prediction: packed fields of the prediction; None when there is none.
        score: what the metric said.
        error: the error's record; None when it went well.
        latency: seconds it took; None when no worker came so far.
        usage: tokens by kind; None when nothing was answered.
        asked: requests made.
        cost: their price; None: unknown.
        success: whether it counts for a stop rule.
    """

    number: int
    send: int
    prediction: bytes | None
    score: float | None
    error: dict[str, Any] | None
    latency: float | None
    usage: dict[str, Any] | None
    asked: int
    cost: float | None
    success: bool


@dataclass(frozen=True, slots=True)
class Bill:
    """Requests, tokens and price of some attempts; `cost` None: unknown."""

    asked: int = 0
    usage: dict[str, Any] | None = None
    cost: float | None = 0.0

    def plus(self, answer: Answer) -> Bill:
        """Return the bill with an attempt on it."""
        usage = self.usage
        if answer.usage:
            usage = {**(usage or {})}
            merge_usage(usage, answer.usage)
            usage["estimated"] = bool(usage.get("estimated") or answer.usage.get("estimated"))
        cost = None if self.cost is None or answer.cost is None else self.cost + answer.cost
        return replace(self, asked=self.asked + answer.asked, usage=usage, cost=cost)


class Bills:
    """Keeps what attempts have cost that were not the last one, until their example has its result."""

    def __init__(self) -> None:
        """Start with nothing."""
        self._open: dict[int, Bill] = {}

    def note(self, answer: Answer) -> None:
        """Take in an attempt after which the example is tried again."""
        if answer.asked:
            self._open[answer.number] = self._open.get(answer.number, Bill()).plus(answer)

    def settle(self, answer: Answer) -> Answer:
        """Return the last attempt's answer with everything on it that was paid for the example."""
        before = self._open.pop(answer.number, None)
        if before is None:
            return answer
        bill = before.plus(answer)
        return answer._replace(asked=bill.asked, usage=bill.usage, cost=bill.cost)
