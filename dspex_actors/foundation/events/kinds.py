"""The events that dspex has names for. These are part of the interface: dashboards and alerts filter by them.

Some of those of programs that change are for whoever builds such: nothing here emits them yet.
Pydantic makes the schema of each at its first use: making all of them is a tenth of a node's start.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from dspex_actors.foundation.events.event import Event

# --- operations, programs, LMs ----------------------------------------------------------------------------------------


class OperationStarted(Event, defer_build=True):
    """An operation of a user's own began; its id is the operation's."""

    kind: ClassVar[str | None] = "operation.started"
    name: str
    metadata: dict[str, Any] = Field(default_factory=dict)


class OperationCompleted(Event, defer_build=True):
    """It ended. `duration` in seconds; `error` has the error's type and message, None where it went well."""

    kind: ClassVar[str | None] = "operation.completed"
    name: str
    duration: float
    outputs: Any = None
    breadcrumbs: list[dict[str, Any]] = Field(default_factory=list)
    trace: list[dict[str, Any]] = Field(default_factory=list)
    error: dict[str, Any] | None = None


class ModuleStarted(Event, defer_build=True):
    """A program began; its id is the operation's."""

    kind: ClassVar[str | None] = "module.execution.started"
    module: str
    inputs: dict[str, Any] = Field(default_factory=dict)


class ModuleCompleted(Event, defer_build=True):
    """A program ended, with its outputs or its error."""

    kind: ClassVar[str | None] = "module.execution.completed"
    module: str
    duration: float
    outputs: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


class LMRequested(Event, defer_build=True):
    """An LM call ended: one event per call, its HTTP requests counted in `asked`; its id is the operation's.

    `text` is the beginning of the answer, `answered_by` the model as the provider names it; `cost` in USD.
    """

    kind: ClassVar[str | None] = "lm.request"
    model: str
    duration: float
    asked: int | None = None
    usage: dict[str, Any] | None = None
    cost: float | None = None
    finish_reason: str | None = None
    answered_by: str | None = None
    text: str | None = None
    error: dict[str, Any] | None = None


class LMServed(Event, defer_build=True):
    """A worker has made an LM call for a program outside."""

    kind: ClassVar[str | None] = "lm.served"
    model: str
    duration: float
    asked: int = 0
    error: dict[str, Any] | None = None


class FallbackUsed(Event, defer_build=True):
    """Something else answered: `used` after `failed`, whose `error` it was."""

    kind: ClassVar[str | None] = "fallback.used"
    name: str
    failed: str
    used: str
    error: dict[str, Any] | None = None


class WorkflowStepStarted(Event, defer_build=True):
    """A step of a workflow began; its id is the operation's."""

    kind: ClassVar[str | None] = "workflow.step.started"
    workflow: str
    step: str


class WorkflowStepCompleted(Event, defer_build=True):
    """It ended; `state` is completed, fallback, failed or cancelled, `error` its type and message."""

    kind: ClassVar[str | None] = "workflow.step.completed"
    workflow: str
    step: str
    state: str
    duration: float
    attempts: int = 1
    error: str | None = None


# --- circuits ---------------------------------------------------------------------------------------------------------


class CircuitOpened(Event, defer_build=True):
    """A circuit lets no call through for `seconds`, after so many failures."""

    kind: ClassVar[str | None] = "circuit.opened"
    circuit: str
    failures: int = 0
    seconds: float | None = None
    reason: str | None = None


class CircuitTesting(Event, defer_build=True):
    """A circuit lets one call through, to see."""

    kind: ClassVar[str | None] = "circuit.testing"
    circuit: str


class CircuitClosed(Event, defer_build=True):
    """A circuit lets everything through again."""

    kind: ClassVar[str | None] = "circuit.closed"
    circuit: str


# --- optimisation -----------------------------------------------------------------------------------------------------


class OptimisationStarted(Event, defer_build=True):
    """An optimiser began."""

    kind: ClassVar[str | None] = "optimisation.started"
    optimiser: str
    program: str
    examples: int | None = None
    settings: dict[str, Any] = Field(default_factory=dict)


class OptimisationIteration(Event, defer_build=True):
    """An optimiser has finished a step, of `of` where it knows; `score` is this step's, `best` that of all so far."""

    kind: ClassVar[str | None] = "optimisation.iteration"
    optimiser: str
    iteration: int
    of: int | None = None
    score: float | None = None
    best: float | None = None


class OptimisationCompleted(Event, defer_build=True):
    """An optimiser has a program."""

    kind: ClassVar[str | None] = "optimisation.completed"
    optimiser: str
    duration: float
    iterations: int = 0
    score: float | None = None
    cost: float | None = None


class OptimisationFailed(Event, defer_build=True):
    """An optimiser ended without a program."""

    kind: ClassVar[str | None] = "optimisation.failed"
    optimiser: str
    duration: float
    error: dict[str, Any]


# --- programs that change ---------------------------------------------------------------------------------------------


class QuestionDecomposed(Event, defer_build=True):
    """A question became several."""

    kind: ClassVar[str | None] = "question.decomposed"
    question: str
    sub_questions: list[str]


class SubQuestionAnswered(Event, defer_build=True):
    """One of them has an answer; `hop` counts from 1."""

    kind: ClassVar[str | None] = "question.sub_question"
    question: str
    answer: Any = None
    hop: int = 1


class SignatureCreated(Event, defer_build=True):
    """A signature was made while a program ran."""

    kind: ClassVar[str | None] = "signature.created"
    signature: str
    instructions: str = ""


class SignatureAdapted(Event, defer_build=True):
    """A signature was changed while a program ran."""

    kind: ClassVar[str | None] = "signature.adapted"
    signature: str
    before: str = ""
    after: str = ""


class PerformanceDegraded(Event, defer_build=True):
    """A measure is worse than it was: `value` in place of `baseline`, beyond `threshold`."""

    kind: ClassVar[str | None] = "performance.degraded"
    subject: str
    metric: str
    value: float
    baseline: float | None = None
    threshold: float | None = None


class AdaptationStarted(Event, defer_build=True):
    """Something is being adapted, and why."""

    kind: ClassVar[str | None] = "adaptation.started"
    subject: str
    reason: str = ""


class AdaptationSucceeded(Event, defer_build=True):
    """It was adapted, and is better."""

    kind: ClassVar[str | None] = "adaptation.succeeded"
    subject: str
    before: float | None = None
    after: float | None = None


class AdaptationFailed(Event, defer_build=True):
    """It stays what it was."""

    kind: ClassVar[str | None] = "adaptation.failed"
    subject: str
    error: dict[str, Any]


class DeploymentStep(Event, defer_build=True):
    """A step of a deployment began, ended well or failed (`state`: started, completed, failed, rolled_back)."""

    kind: ClassVar[str | None] = "deployment.step"
    deployment: str
    step: str
    state: str
    version_to: str | None = None
    version_from: str | None = None
    error: dict[str, Any] | None = None


# --- the node ---------------------------------------------------------------------------------------------------------


class SupervisionReport(Event, defer_build=True):
    """What a supervisor reported (`dspex failures`): `report` is progress, child_terminated, start_error, ..."""

    kind: ClassVar[str | None] = "supervision.report"
    report: str
    supervisor: str
    child: str | None = None
    pid: int | None = None
    reason: str | None = None
    extra: dict[str, Any] = Field(default_factory=dict)


class EventsDropped(Event, defer_build=True):
    """So many events were not kept, since the last time that this was said: a queue or the disk was full."""

    kind: ClassVar[str | None] = "events.dropped"
    count: int
    why: dict[str, int] = Field(default_factory=dict)
