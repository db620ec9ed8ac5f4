"""The events of an inference ecosystem."""

from __future__ import annotations

from typing import Any, ClassVar

from dspex_actors.foundation.events.event import Event


class InferenceCompleted(Event):
    """An inference has its answer; emitted for those whose operation is recorded. `duration` in seconds."""

    kind: ClassVar[str | None] = "inference.completed"
    ecosystem: str
    duration: float
    is_cached: bool
    skipped: list[str]
    cost: float | None = None


class InferenceFailed(Event):
    """An inference has failed, or was refused; `error` has the error's type and message."""

    kind: ClassVar[str | None] = "inference.failed"
    ecosystem: str
    duration: float
    error: dict[str, Any]
    skipped: list[str]


class AlertFired(Event):
    """A threshold was crossed."""

    kind: ClassVar[str | None] = "ecosystem.alert"
    ecosystem: str
    metric: str
    value: float
    threshold: float
    window: float
