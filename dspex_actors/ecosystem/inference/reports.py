"""What the coordinator reports: to the members, as telemetry, and as events where somebody wants them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from dspex_actors.ecosystem.inference.inference import Inference
from dspex_actors.ecosystem.inference.kinds import InferenceCompleted, InferenceFailed
from dspex_actors.ecosystem.inference.messages import Concluded, Conclusions
from dspex_actors.foundation.events.outlet import emit, wanted
from dspex_actors.foundation.operation import opened
from dspex_actors.foundation.telemetry.recorder import recorder

#: How inferences ended waits so many seconds, or until so many have, for one message.
TELL_SECONDS, TELL_AT = 0.25, 256


class Reports:
    """Gathers how inferences ended.

    Args:
        ecosystem: kind and id, for people.
        tell: sends conclusions to the members.
    """

    def __init__(self, ecosystem: str, tell: Callable[[Conclusions], None]) -> None:
        """Begin with nothing."""
        self._ecosystem, self._tell = ecosystem, tell
        self._rows: list[Concluded] = []
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._durations = {
            name: recorder.histogram("ecosystem.inference.duration", ecosystem=ecosystem, outcome=name)
            for name in ("completed", "cached", "failed")
        }

    def add(self, row: Concluded, inference: Inference, error: dict[str, Any] | None) -> None:
        """Take in how an inference ended."""
        outcome = "failed" if error is not None else "cached" if row.is_cached else "completed"
        self._durations[outcome].add(row.latency)
        self._rows.append(row)
        if len(self._rows) >= TELL_AT:
            self._flush()
        elif self._timer is None:
            self._timer = self._loop.call_later(TELL_SECONDS, self._flush)
        if wanted():
            self._emit(row, inference, error)

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._rows:
            rows, self._rows = self._rows, []
            self._tell(Conclusions(rows))

    def _emit(self, row: Concluded, inference: Inference, error: dict[str, Any] | None) -> None:
        operation = opened(inference.operation) if inference.operation else None
        about: dict[str, Any] = {
            "ecosystem": self._ecosystem,
            "duration": row.latency,
            "skipped": list(inference.skipped),
        }
        if operation is not None:
            about |= {"correlation_id": operation.correlation_id, "parent_id": operation.id}
        if error is not None:
            shown = {"type": str(error["type"]), "message": str(error["message"])[:500]}
            emit(InferenceFailed(error=shown, **about))
        elif operation is not None and operation.is_recorded:
            emit(InferenceCompleted(is_cached=row.is_cached, cost=row.cost, **about))
