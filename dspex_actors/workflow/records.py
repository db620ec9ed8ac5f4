"""What a workflow says of itself: what became of its steps, and what it gave."""

from __future__ import annotations

from typing import Any, NamedTuple

#: What a step came to.
COMPLETED, FALLBACK, FAILED, CANCELLED, RESTORED = "completed", "fallback", "failed", "cancelled", "restored"


class StepRun(NamedTuple):
    """What became of a step.

    Args:
        name: its path: `branch/step`.
        duration: seconds, all tries together.
        attempts: how often it was tried, its fallback left out.
        state: completed; fallback: that did it; failed; cancelled; restored: an earlier run of this id has done it.
        error: type and message of the error that it failed with, or its fallback stood in for; None: it went well.
    """

    name: str
    duration: float
    attempts: int
    state: str
    error: str | None = None


class WorkflowResult(NamedTuple):
    """What a workflow gave.

    Args:
        data: what it was given, and what its steps gave.
        steps: what became of each, in the order in which they ended.
        run_id: of a durable one; None: it is not.
    """

    data: dict[str, Any]
    steps: list[StepRun]
    run_id: str | None = None


def label_of(function: Any) -> str:
    """Return what people call something that can be called."""
    while hasattr(function, "func") and hasattr(function, "keywords"):  # a partial
        function = function.func
    return str(getattr(function, "__name__", None) or type(function).__name__)
