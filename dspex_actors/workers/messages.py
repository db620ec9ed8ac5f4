"""What http workers understand, and what they give back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from dspex_actors.lm.attempts import Attempt

#: What may be done about a failure: nothing ("no": another attempt would fail alike), another attempt ("yes"), or
#: another one that does not count as an attempt ("free": a limit on speed).
Again = Literal["no", "yes", "free"]


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one sending of one example.

    Args:
        index: the example's place in the dataset, from 0.
        send: the number of the sending.
        prediction: packed fields of the prediction; None when there is none.
        score: what the metric said.
        success: whether it counts as a success for a stop rule.
        error: the error's record; None when it went well.
        failure: name of our error's class, where the error is one of ours; a user's class may share it, but never
            this field.
        again: whether another attempt may mend the failure.
        latency: seconds it took; None when no worker came so far.
        extra: packed dict of what there is beside the prediction (trace, feedback, several scores); None: nothing.
        attempts: the requests it took.
    """

    VERSION: ClassVar[int] = 1

    index: int
    send: int
    prediction: bytes | None = None
    score: float | None = None
    success: bool = False
    error: dict[str, Any] | None = None
    failure: str | None = None
    again: Again = "no"
    latency: float | None = None
    extra: bytes | None = None
    attempts: list[Attempt] = field(default_factory=list)
