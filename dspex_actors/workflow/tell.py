"""What workflows and fallbacks tell: events, counters, durations."""

from __future__ import annotations

from typing import Any

from dspex_actors.foundation.events.kinds import FallbackUsed, WorkflowStepCompleted, WorkflowStepStarted
from dspex_actors.foundation.events.outlet import emit, wanted
from dspex_actors.foundation.operation import Operation
from dspex_actors.foundation.telemetry import recorded
from dspex_actors.workflow.records import StepRun


def step_started(op: Operation, workflow: str, path: str) -> None:
    """Tell that a step began: the event's id is the operation's."""
    if op.is_recorded and wanted():
        emit(WorkflowStepStarted(workflow=workflow, step=path, **_place(op), id=op.id))


def step_ended(op: Operation, workflow: str, run: StepRun) -> None:
    """Tell what became of a step."""
    recorded.workflow_step_ended(workflow, run.name, run.state, run.duration)
    if op.is_recorded and wanted():
        told: dict[str, Any] = {name: value for name, value in run._asdict().items() if name != "name"}
        place: dict[str, Any] = {"correlation_id": op.correlation_id, "parent_id": op.id}
        emit(WorkflowStepCompleted(workflow=workflow, step=run.name, **told, **place))


def fallback_used(op: Operation, name: str, failed: str, used: str, error: BaseException) -> None:
    """Tell that something else answered, and why."""
    recorded.fallback_used(name, used)
    if wanted():
        told = {"type": type(error).__name__, "message": str(error)[:2000]}
        emit(FallbackUsed(name=name, failed=failed, used=used, error=told), parent=op)


def _place(op: Operation) -> dict[str, Any]:
    return {"correlation_id": op.correlation_id, "parent_id": op.parent_id}
