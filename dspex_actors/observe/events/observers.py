"""Operations as events: one when it starts and one when it ends, for those that are recorded."""

from __future__ import annotations

from typing import Any

from dspex_actors.foundation.brief import brief_error, brief_text
from dspex_actors.foundation.events.event import Event
from dspex_actors.foundation.events.kinds import (
    LMRequested,
    ModuleCompleted,
    ModuleStarted,
    OperationCompleted,
    OperationStarted,
)
from dspex_actors.foundation.events.outlet import emit, wanted
from dspex_actors.foundation.operation import Operation, observe
from dspex_actors.observe.events.shown import shown

#: Operations that tell of themselves.
_OWN = ("optimisation", "step")
#: Characters of an LM's answer that its event shows.
_ANSWER = 2000

_observing: list[Any] = []


def observe_operations() -> None:
    """Have events made of this process's operations, from now on; twice is once."""
    if not _observing:
        _observing.append(observe(_observed))


def _observed(operation: Operation, error: BaseException | None, has_ended: bool) -> None:
    if operation.kind in _OWN or not wanted():
        return
    if operation.kind == "lm":
        if has_ended:
            emit(_lm_request(operation, error))
    else:
        emit(_completed(operation, error) if has_ended else _started(operation))


def _started(operation: Operation) -> Event:
    common: dict[str, Any] = {
        "id": operation.id,
        "correlation_id": operation.correlation_id,
        "parent_id": operation.parent_id,
    }
    if operation.kind == "module":
        return ModuleStarted(module=shown(operation.name), inputs=_mapping(operation.inputs), **common)
    metadata = _mapping(operation.metadata)
    if operation.inputs is not None:
        metadata["inputs"] = shown(operation.inputs)
    return OperationStarted(name=shown(operation.name), metadata=metadata, **common)


def _completed(operation: Operation, error: BaseException | None) -> Event:
    common: dict[str, Any] = {
        "correlation_id": operation.correlation_id,
        "parent_id": operation.id,
        "duration": operation.ended - operation.started,
        "error": _error(error),
    }
    outputs = None if operation.outputs is None else shown(operation.outputs)
    if operation.kind == "module":
        if outputs is not None and not isinstance(outputs, dict):
            outputs = {"output": outputs}
        return ModuleCompleted(module=shown(operation.name), outputs=outputs, **common)
    return OperationCompleted(
        name=shown(operation.name),
        outputs=outputs,
        breadcrumbs=operation.breadcrumbs,
        trace=operation.trace,
        **common,
    )


def _lm_request(operation: Operation, error: BaseException | None) -> Event:
    """Return the one event of an LM call: what it took in is what the program around it has rendered."""
    reply = operation.outputs
    usage = getattr(reply, "usage", None)
    return LMRequested(
        id=operation.id,
        correlation_id=operation.correlation_id,
        parent_id=operation.parent_id,
        model=shown(operation.name),
        duration=operation.ended - operation.started,
        asked=getattr(reply if error is None else error, "asked", None),
        usage=None if usage is None else usage.to_dict(),
        cost=getattr(reply, "cost", None),
        finish_reason=getattr(reply, "finish_reason", None),
        answered_by=getattr(reply, "model", None),
        text=None if reply is None else brief_text(str(reply), _ANSWER),
        error=_error(error),
    )


def _error(error: BaseException | None) -> dict[str, Any] | None:
    return None if error is None else brief_error(error)


def _mapping(value: Any) -> dict[str, Any]:
    if not value:
        return {}
    found = shown(dict(value))
    return found if isinstance(found, dict) else {"value": found}
