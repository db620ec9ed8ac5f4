"""What a program outside and the feeder of its stream say to each other.

The inputs are numbered by the program from 0, the answers by the feeder from 1. Both sides say again what the other one
has not acknowledged, so a lost reply, a killed door or a feeder that was started anew loses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from supervisors import message


@message(240)
@dataclass(frozen=True, slots=True)
class Exchange:
    """Inputs for answers. Asked again and again; the reply is a `Given`, as soon as there is something to give.

    Args:
        numbers: of these inputs, rising.
        payloads: for each its packed fields.
        got: the last answer that the program has.
        seconds: how long to wait for an answer.
    """

    VERSION: ClassVar[int] = 1

    numbers: list[int]
    payloads: list[bytes]
    got: int
    seconds: float


@message(241)
@dataclass(frozen=True, slots=True)
class Answered:
    """What became of one input.

    Args:
        number: of the input.
        prediction: packed fields; None where it failed.
        error: the error's record; None where it went well.
        attempts: how often it was tried.
        latency: seconds of the last attempt.
        usage: tokens by kind, as JSON; None: not told.
        cost: US dollars; None: not known.
        finish_reason: why the answer ended.
        cached: the cache it came from.
    """

    VERSION: ClassVar[int] = 1

    number: int
    prediction: bytes | None = None
    error: dict[str, Any] | None = None
    attempts: int = 1
    latency: float | None = None
    usage: str | None = None
    cost: float | None = None
    finish_reason: str | None = None
    cached: str | None = None


@message(242)
@dataclass(frozen=True, slots=True)
class Given:
    """Answers, the first of which has the number `first`.

    Args:
        first: number of the first answer.
        answers: in the order in which they came.
        workers: how many workers there are for it.
        note: why nothing goes on, where that is so.
    """

    VERSION: ClassVar[int] = 1

    first: int
    answers: list[Answered] = field(default_factory=list)
    workers: int = 0
    note: str | None = None
