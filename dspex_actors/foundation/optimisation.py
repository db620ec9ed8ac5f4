"""What optimisers tell: that one began, each of its steps, how it ended; as events, and in the telemetry."""

from __future__ import annotations

import logging
import time
from typing import Any, Self

from dspex_actors.errors import DspexError
from dspex_actors.foundation.brief import brief_error
from dspex_actors.foundation.events.event import Event
from dspex_actors.foundation.events.kinds import (
    OptimisationCompleted,
    OptimisationFailed,
    OptimisationIteration,
    OptimisationStarted,
)
from dspex_actors.foundation.events.outlet import emit, wanted
from dspex_actors.foundation.operation import Operation, current_operation
from dspex_actors.foundation.telemetry.recorded import optimisation_ended, optimisation_stepped

_log = logging.getLogger(__name__)


class Optimisation:
    """One run of an optimiser, as its events; a context manager.

    ::

        with Optimisation("BootstrapFewShot", program="Triage", examples=120) as told:
            ...
            told.iteration(3, of=120, score=66.7)
            told.score = 66.7

    Args:
        optimiser: its name.
        program: the name of the program that is optimised.
        examples: how many there are; None: not known.
        settings: of the optimiser; plain data.
    """

    def __init__(
        self, optimiser: str, program: str, examples: int | None = None, settings: dict[str, Any] | None = None
    ) -> None:
        """Prepare it; it starts with `with`."""
        self._optimiser, self._program, self._examples, self._settings = optimiser, program, examples, settings or {}
        self._operation = Operation(f"optimise:{optimiser}", parent=current_operation(), kind="optimisation")
        self._iterations = 0
        self._best: float | None = None
        #: What it came to, and what it cost (USD); set by the optimiser before the end.
        self.score: float | None = None
        self.cost: float | None = None

    def __enter__(self) -> Self:
        """Start it."""
        parent = self._operation.parent_id
        operation = self._operation.__enter__()
        self._started = time.monotonic()
        self._tell(
            OptimisationStarted,
            id=operation.id,
            parent_id=parent,
            optimiser=self._optimiser,
            program=self._program,
            examples=self._examples,
            settings=self._settings,
        )
        return self

    def iteration(self, number: int, *, of: int | None = None, score: float | None = None) -> None:
        """Tell that a step is done.

        Args:
            number: of the step, from 1.
            of: how many there are; None: not known.
            score: of this step.
        """
        self._iterations = number
        optimisation_stepped(self._optimiser, score)
        if score is not None and (self._best is None or score > self._best):
            self._best = score
        self._tell(
            OptimisationIteration, optimiser=self._optimiser, iteration=number, of=of, score=score, best=self._best
        )

    def __exit__(self, kind: object, error: BaseException | None, frames: object) -> None:
        """End it, with a program or an error."""
        duration = time.monotonic() - self._started
        optimisation_ended(self._optimiser, duration, failed=error is not None)
        if error is None:
            self._tell(
                OptimisationCompleted,
                optimiser=self._optimiser,
                duration=duration,
                iterations=self._iterations,
                score=self.score,
                cost=self.cost,
            )
        else:
            self._tell(OptimisationFailed, optimiser=self._optimiser, duration=duration, error=brief_error(error))
        self._operation.__exit__(kind, error, frames)

    def _tell(self, kind: type[Event], **fields: Any) -> None:
        """Emit an event; one that cannot be is no reason for an optimisation to end."""
        if wanted():
            try:
                emit(kind(**fields))
            except (DspexError, ValueError) as error:
                _log.warning("an optimisation's event was left out: %s", brief_error(error)["message"])
