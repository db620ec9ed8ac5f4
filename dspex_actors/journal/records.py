"""The rows of a journal as Python sees them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

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


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """A run as the journal has it now.

    Args:
        spec: what it is.
        state: running, paused, finished, failed or cancelled.
        reason: why it is paused or failed, for people.
        done: examples with a result; `succeeded` and `failed` are its parts.
        score_sum: sum of the scores of `scored` examples.
        asked: LM calls made.
        usage: tokens by kind, summed.
        cost: sum of the known prices; `unpriced` results had LM calls of unknown price.
        created_at: wall-clock seconds since 1970, as `started_at`, `ended_at` and `last_result_at`.
        active_seconds: time in state running, up to the last change of state.
        running_since: when the state became running; None in any other state.
        nodes: names of the workers that gave results.
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
