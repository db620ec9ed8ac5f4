"""What evaluators and http workers say to each other about the examples of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from dspex_actors.lm.attempts import Attempt
from dspex_actors.runs.spec import Job
from supervisors import Ref, message

#: What may be done about a failure: nothing ("no": another attempt would fail alike), another attempt ("yes"), or
#: another one that does not count as an attempt ("free": a limit on speed).
Again = Literal["no", "yes", "free"]

message(30)(Attempt)
message(52)(Job)


@message(31)
@dataclass(slots=True)
class Result:
    """What became of one sending of one example.

    It is not frozen, and nobody changes it: one is made per example at both ends, and frozen that takes three times as
    long.

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
        finish_reason: why the program's answer ended: stop, length and so on; None: not told.
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
    finish_reason: str | None = None
    attempts: list[Attempt] = field(default_factory=list)


@message(32)
@dataclass(frozen=True, slots=True)
class Chunk:
    """Examples to do, and how many at once from now on. A cast of an evaluator.

    Args:
        run_id: the run.
        evaluator: who asks, and gets the results.
        window: how many examples may be under way.
        indices: their places in the dataset.
        sends: for each the number of its sending.
        payloads: for each its packed fields.
    """

    VERSION: ClassVar[int] = 1

    run_id: str
    evaluator: Ref
    window: int
    indices: list[int]
    sends: list[int]
    payloads: list[bytes]


@message(33)
@dataclass(frozen=True, slots=True)
class Written:
    """Batches of results are in the journal, up to this one; the worker need not keep them. A cast of `evaluator`."""

    VERSION: ClassVar[int] = 1

    run_id: str
    evaluator: Ref
    batch: int


@message(34)
@dataclass(frozen=True, slots=True)
class Forget:
    """The run is over, or halted. A cast of `evaluator`, which has the results; what a later one gave stays."""

    VERSION: ClassVar[int] = 1

    run_id: str
    evaluator: Ref


@message(35)
@dataclass(frozen=True, slots=True)
class HandOver:
    """Give what is not in the journal, in pieces: asked again until nothing is left. The reply is a `Rest`.

    Args:
        run_id: the run.
        calls: what to do about calls that are under way: "wait" until they have ended (for an evaluator that comes
            after one that died), "cancel" them (the run is over), or "leave" them to the next evaluator.
    """

    VERSION: ClassVar[int] = 1

    run_id: str
    calls: Literal["wait", "cancel", "leave"]


@message(36)
@dataclass(frozen=True, slots=True)
class Rest:
    """A piece of what a worker had.

    Args:
        payloads: the packed examples.
        results: for each its result; of a call that was cancelled only the requests count.
        more: whether there is more.
    """

    VERSION: ClassVar[int] = 1

    payloads: list[bytes]
    results: list[Result]
    more: bool


@message(53)
@dataclass(frozen=True, slots=True)
class GetJob:
    """A worker asks what the run is. The reply is a `Job`."""

    VERSION: ClassVar[int] = 1


@message(54)
@dataclass(frozen=True, slots=True)
class Results:
    """A batch of results. A cast of a worker, which keeps it until it is `Written`.

    Args:
        worker: the worker's name.
        batch: its number, from 1.
        results: in the order in which they came in.
    """

    VERSION: ClassVar[int] = 1

    worker: str
    batch: int
    results: list[Result]
