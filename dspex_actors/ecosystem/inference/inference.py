"""One inference under way, as the coordinator has it."""

from __future__ import annotations

import asyncio
from typing import Any

from dspex_actors.journal.tally import merge_usage
from dspex_actors.runs.work import Result
from supervisors import Ref

#: Who waits for an inference: a session of a program, and the inference's number in it.
Asker = tuple[str, int]


class Inference:
    """An inference, for all who want it at the same time.

    Args:
        number: among those of this coordinator.
        key: of its answer.
        inputs: packed.
        operation: what its first asker's context carries; empty: nothing.
        began: seconds of the loop's clock.
    """

    __slots__ = (
        "asked",
        "askers",
        "at",
        "began",
        "cost",
        "end",
        "found",
        "inputs",
        "is_cached",
        "is_over",
        "key",
        "number",
        "operation",
        "prediction",
        "refused",
        "requests",
        "skipped",
        "stage",
        "tries",
        "usage",
        "warnings",
    )

    def __init__(self, number: int, key: str, inputs: bytes, operation: bytes, began: float) -> None:
        """Begin with nothing known."""
        self.number, self.key, self.inputs, self.operation, self.began = number, key, inputs, operation, began
        #: Who waits → until when, in seconds of the loop's clock, and the timer for that.
        self.askers: dict[Asker, tuple[float, asyncio.TimerHandle]] = {}
        #: Who has it, for the error of one that takes too long.
        self.stage = "validator and cache"
        #: Of these two, how many have not answered yet; what they said.
        self.asked = 2
        self.refused: dict[str, Any] | None = None
        self.found: bytes | None = None
        self.warnings: list[str] = []
        self.skipped: list[str] = []
        #: The worker, or then the processor, that has it; to how many workers it was given.
        self.at: Ref | None = None
        self.tries = 0
        #: When the worker gives it up, in seconds of the loop's clock.
        self.end = 0.0
        self.prediction: bytes | None = None
        self.is_cached = self.is_over = False
        self.usage: dict[str, Any] = {}
        self.cost: float | None = 0.0
        self.requests = 0

    @property
    def size(self) -> int:
        """About how many bytes it takes in a message."""
        return len(self.prediction or self.inputs) + 100

    @property
    def tokens(self) -> int:
        """Tokens that it took, in and out."""
        return int(self.usage.get("input_total", 0)) + int(self.usage.get("output_total", 0))

    def until(self) -> float:
        """Return when the most patient of its askers gives up."""
        return max((end for end, _ in self.askers.values()), default=0.0)

    def book(self, result: Result) -> None:
        """Take in what a worker's work on it has cost, and its prediction."""
        self.prediction = result.prediction
        self.requests += len(result.attempts)
        for attempt in result.attempts:
            merge_usage(self.usage, attempt.tokens or {})
            if attempt.outcome == "answered" and self.cost is not None:
                self.cost = None if attempt.cost is None else self.cost + attempt.cost
