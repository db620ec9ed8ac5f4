"""The rows of a journal as Python sees them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

RunState = Literal["running", "paused", "finished", "failed", "cancelled"]
STATES: tuple[str, ...] = get_args(RunState)
#: What became of a request: answered, failed (an error of the server or on the way), cancelled (given up by us), lost
#: (its worker died before it could tell).
Outcome = Literal["answered", "failed", "cancelled", "lost"]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    """One request to a provider. (index, send, n) is its identity in the run: the same row again is not counted again.

    Args:
        index: the example's place in the dataset, from 0.
        send: the number of the example's sending, another one for each sending of whichever of the run's evaluators.
        n: the number of the request within the sending, from 1.
        at: wall-clock seconds since 1970 when it was sent.
        provider: openai, anthropic, gemini, cohere or embedded.
        model: the model's name as the provider knows it.
        outcome: answered, failed, cancelled or lost. A lost one is replaced when its outcome is told after all.
        error: the error's type; None where there is none.
        status: HTTP status, if there was one.
        usage: tokens by kind, told or estimated (`estimated`: true); None: unknown.
        cost: price; None: unknown.
        latency: seconds; None: it never ended.
        finish_reason: why the answer ended; None: not told.
        request_id: the provider's id of the request, for its support.
    """

    index: int
    send: int
    n: int
    at: float
    provider: str
    model: str
    outcome: Outcome
    error: str | None = None
    status: int | None = None
    usage: dict[str, Any] | None = None
    cost: float | None = None
    latency: float | None = None
    finish_reason: str | None = None
    request_id: str | None = None


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
