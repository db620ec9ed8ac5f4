"""The rows of a journal as Python sees them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

RunState = Literal["running", "paused", "finished", "failed", "cancelled"]
STATES: tuple[str, ...] = get_args(RunState)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """What a run is: everything needed to start it again on a node that knows nothing of it.

    Args:
        run_id: unique in the journal.
        kind: evaluate, bootstrap and so on.
        program: the program's bytes, opaque to the journal.
        program_digest: its identity; another digest under the same `run_id` is refused.
        dataset: the dataset's descriptor, plain data.
        dataset_digest: identity of its content; None where that cannot be known.
        metric: the metric's bytes, opaque to the journal.
        metric_name: for people.
        metric_digest: its identity.
        lm: the LM's settings, plain data without secrets; None for the program's own.
        settings: max_in_flight, failures, failure_score and the like, plain data.
        total: number of examples where it is known.
        parent_id: the run that it belongs to; None: it stands alone.
        lm_digest: identity of the LM's model and parameters; None: not compared (a run of before there was one).
        options_digest: identity of the other settings that change an answer; None: not compared.
        identity: what the digests are made of, part by part, for people: name → short text; None: not known.
        labels: names and texts of its user's own, to find it by.
    """

    run_id: str
    kind: str = "evaluate"
    program: bytes = b""
    program_digest: str = ""
    dataset: dict[str, Any] = field(default_factory=dict)
    dataset_digest: str | None = None
    metric: bytes = b""
    metric_name: str = ""
    metric_digest: str = ""
    lm: dict[str, Any] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    total: int | None = None
    parent_id: str | None = None
    lm_digest: str | None = None
    options_digest: str | None = None
    identity: dict[str, dict[str, str]] | None = None
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """A run as the journal has it now.

    Args:
        spec: what it is.
        state: running, paused, finished, failed or cancelled.
        reason: why it is paused or failed, for people.
        done: examples with a result; `succeeded` and `failed` are its parts.
        score_sum: sum of the scores of `scored` examples.
        asked: requests made.
        usage: tokens by kind, summed.
        cost: sum of the known prices; `unpriced` requests have an unknown one.
        created_at: wall-clock seconds since 1970, as `started_at`, `ended_at` and `last_result_at`.
        active_seconds: time in state running, up to the last change of state.
        running_since: when the state became running; None in any other state.
        nodes: names of the workers that gave results.
        epoch: how often an evaluator has opened it: 1 for the first one.
        owner: the node whose coordinator has it, as its lease names the holder; empty: the one that has the journal.
        claimed: the epoch of its coordinator's lease; 0: nobody has claimed it.
        seq: the number of its last change.
    """

    spec: RunSpec
    state: RunState
    reason: str | None
    done: int
    succeeded: int
    failed: int
    score_sum: float
    scored: int
    asked: int
    usage: dict[str, Any]
    cost: float
    unpriced: int
    created_at: float
    started_at: float | None
    ended_at: float | None
    last_result_at: float | None
    active_seconds: float
    running_since: float | None
    nodes: tuple[str, ...] = ()
    epoch: int = 0
    owner: str = ""
    claimed: int = 0
    seq: int = 0

    @property
    def run_id(self) -> str:
        """Return the run's id."""
        return self.spec.run_id


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRow:
    """The result of one example.

    Args:
        index: the example's place in the dataset, from 0.
        example: packed example.
        prediction: packed fields of the prediction; None where it failed.
        score: what the metric said. None: failed, or no score. A score that is no finite number is none.
        error: the error's record; None where it succeeded.
        attempts: how often the example was tried.
        latency: seconds from the start of the last attempt to its end.
        usage: tokens by kind, plain data.
        asked: LM calls made, retries included.
        cost: price of the calls; None: unknown.
        worker: who did it, as `node/worker`.
        at: wall-clock seconds since 1970.
        finish_reason: why its last answer ended: stop, length and so on; None: not told.
        extra: packed dict of what there is beside the prediction (trace, feedback, scores); None: nothing.
        cached: the cache that its last answer came from: memory, disk or semantic; None: the LM was asked.
    """

    index: int
    example: bytes = b""
    prediction: bytes | None = None
    score: float | None = None
    error: dict[str, Any] | None = None
    attempts: int = 1
    latency: float | None = None
    usage: dict[str, Any] | None = None
    asked: int = 0
    cost: float | None = None
    worker: str = ""
    at: float = 0.0
    finish_reason: str | None = None
    extra: bytes | None = None
    cached: str | None = None


class StepRow(NamedTuple):
    """A finished step.

    Args:
        step: its path.
        state: completed or fallback.
        attempts: how often it was tried.
        duration: seconds.
        at: when it ended, wall-clock seconds since 1970.
        error: what its fallback stood in for; None: it went well.
        data: what it gave, packed.
    """

    step: str
    state: str
    attempts: int
    duration: float
    at: float
    error: str | None
    data: bytes


class Part(NamedTuple):
    """A run that belongs to another one, in figures.

    Args:
        run_id, kind, state, reason, total, done, failed, score_sum, asked, cost, unpriced: as of `RunRow`.
    """

    run_id: str
    kind: str
    state: str
    reason: str | None
    total: int | None
    done: int
    failed: int
    score_sum: float
    asked: int
    cost: float
    unpriced: int


@dataclass(frozen=True, slots=True)
class EventRow:
    """Something that happened, in the order of `number`."""

    number: int
    at: float
    kind: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """Errors of one type in one run: how many, and the first of them in input order."""

    type: str
    count: int
    first_index: int
    first_message: str
