"""What evaluators and http workers say to each other about the examples of a run.

An evaluator and a worker, which may be on two nodes, are in one *sitting* after the other: a new one begins whenever
the worker is taken in (again). In a sitting the evaluator numbers its chunks and the worker its batches, each from 1,
and each side takes in only the next one. So what was lost on the way, came twice or comes out of an earlier sitting
does no harm; who hears nothing asks (`Standing`), and what is missing is said again.
"""

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

    It is not frozen: a runner makes it, and `run_example` fills in whose it is and what it took. Nobody changes it
    after that.

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
        cached: the cache that the program's last answer came from: memory, disk or semantic; None: none.
    """

    VERSION: ClassVar[int] = 2

    index: int = 0
    send: int = 0
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
    cached: str | None = None


@message(32)
@dataclass(frozen=True, slots=True)
class Chunk:
    """Examples to do, and how many at once from now on. A cast of an evaluator.

    Args:
        run_id: the run.
        evaluator: who asks, and gets the results.
        epoch: of the evaluator: one that follows another has a greater one.
        sitting: of this evaluator and worker, rising.
        number: of the chunk in its sitting, from 1.
        window: how many examples may be under way; 0: what is not begun is given back.
        indices: their places in the dataset.
        sends: for each the number of its sending.
        payloads: for each its packed fields.
    """

    VERSION: ClassVar[int] = 2

    run_id: str
    evaluator: Ref
    epoch: int
    sitting: int
    number: int
    window: int
    indices: list[int]
    sends: list[int]
    payloads: list[bytes]


@message(33)
@dataclass(frozen=True, slots=True)
class Written:
    """Batches of results are in the journal, up to this one; the worker need not keep them. A cast of `evaluator`."""

    VERSION: ClassVar[int] = 2

    run_id: str
    evaluator: Ref
    sitting: int
    batch: int


@message(220)
@dataclass(frozen=True, slots=True)
class Standing:
    """How far is this sitting? Asked by `evaluator` where it hears nothing. The reply is a `Stands`."""

    VERSION: ClassVar[int] = 1

    run_id: str
    evaluator: Ref
    sitting: int


@message(221)
@dataclass(frozen=True, slots=True)
class Stands:
    """How far a sitting is.

    Args:
        knows: whether the worker is in it; one that was started anew, or took its evaluator for dead, is not.
        taken: the last chunk that was taken in.
        sent: the last batch that was sent.
    """

    VERSION: ClassVar[int] = 1

    knows: bool
    taken: int = 0
    sent: int = 0


@message(222)
@dataclass(frozen=True, slots=True)
class SendAgain:
    """Send batches again, from this one on: they were not heard. A cast of `evaluator`."""

    VERSION: ClassVar[int] = 1

    run_id: str
    evaluator: Ref
    sitting: int
    batch: int


@message(290)
@dataclass(frozen=True, slots=True)
class StillMine:
    """Is what I have of this run still mine? Asked by a worker that stood still. The reply is True or False.

    Args:
        run_id: the run.
        worker: the worker, as `NODE/NAME`.
        sitting: that it is in.
    """

    VERSION: ClassVar[int] = 1

    run_id: str
    worker: str
    sitting: int


@message(34)
@dataclass(frozen=True, slots=True)
class Forget:
    """The run is over, or halted. A cast of `evaluator`, which has the results; what a later one gave stays."""

    VERSION: ClassVar[int] = 1

    run_id: str
    evaluator: Ref


@message(250)
@dataclass(frozen=True, slots=True)
class Drop:
    """Give this sending up: its example was started twice, and has its result. A cast of `evaluator`."""

    VERSION: ClassVar[int] = 1

    run_id: str
    evaluator: Ref
    index: int
    send: int


@message(35)
@dataclass(frozen=True, slots=True)
class HandOver:
    """Give what is not in the journal, in pieces: asked again until nothing is left. The reply is a `Rest`.

    Args:
        run_id: the run.
        calls: what to do about calls that are under way: "wait" until they have ended (for an evaluator that comes
            after one that died), "cancel" them (the run is over), or "leave" them to the next evaluator.
        epoch: of the evaluator that asks; one that another has followed, and does not know it, gets nothing.
    """

    VERSION: ClassVar[int] = 2

    run_id: str
    calls: Literal["wait", "cancel", "leave"]
    epoch: int


@message(137)
@dataclass(frozen=True, slots=True)
class WhatFor:
    """Why does nothing of a run end here? Asked while it stands still. The reply is a text; None: no reason is known.

    Args:
        run_id: the run.
    """

    VERSION: ClassVar[int] = 1

    run_id: str


@message(225)
@dataclass(frozen=True, slots=True)
class GetAsked:
    """What was asked on this node for a run, and is not known to be told? The reply is a list of `notes.Line`."""

    VERSION: ClassVar[int] = 1

    run_id: str


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
        worker: the worker, as `NODE/NAME`.
        sitting: that it was sent in.
        batch: its number in the sitting, from 1.
        taken: the last chunk that the worker has taken in.
        results: in the order in which they came in.
    """

    VERSION: ClassVar[int] = 2

    worker: str
    sitting: int
    batch: int
    taken: int
    results: list[Result]
