"""What a worker tells of LM calls, as events, where they are part of something that is recorded.

That a call was made, and what it took, is told where the program is that made it: it is an operation there.
"""

from __future__ import annotations

import time
from typing import Any, Self

from dspex_actors.errors import LMError
from dspex_actors.foundation.brief import brief_error
from dspex_actors.foundation.events.kinds import FallbackUsed, LMServed
from dspex_actors.foundation.events.outlet import emit, wanted
from dspex_actors.foundation.operation import current_operation


def is_told() -> bool:
    """Say whether what happens here is told."""
    if not wanted():
        return False
    operation = current_operation()
    return operation is not None and operation.is_recorded


class Serving:
    """A call that a worker makes for a program outside, as a `with`: an event at its end.

    Args:
        model: what is asked.
    """

    def __init__(self, model: str) -> None:
        """Prepare it."""
        self._model, self._is_told = model, is_told()
        #: HTTP requests that were made; set before the end.
        self.asked: int | None = None

    def __enter__(self) -> Self:
        """Begin."""
        self._started = time.perf_counter()
        return self

    def __exit__(self, kind: object, error: BaseException | None, frames: object) -> None:
        """Tell how it ended."""
        if self._is_told:
            asked = self.asked if error is None else getattr(error, "asked", None)
            duration = time.perf_counter() - self._started
            emit(LMServed(model=self._model, duration=duration, asked=asked or 0, error=_shown(error)))


def tell_fallback(model: str, used: str, error: LMError) -> None:
    """Tell that another model has answered.

    Args:
        model: what was asked first.
        used: what has answered.
        error: why the first one has not.
    """
    if is_told():
        emit(FallbackUsed(name=model, failed=model, used=used, error=_shown(error)))


def _shown(error: BaseException | None) -> dict[str, Any] | None:
    return None if error is None else brief_error(error)
