"""Calling a user's program and metric, sync or async, from a worker's event loop."""

from __future__ import annotations

import inspect
from typing import Any

from dspex_actors.foundation.bridge import in_thread
from dspex_actors.lm.backend import LoopBlocked


class Metric:
    """A metric, sync or async. One that makes sync LM calls (a judge) gets a thread, from its first such call on."""

    def __init__(self, metric: Any) -> None:
        """Wrap it."""
        self._metric = metric
        self._blocks = False

    async def __call__(self, *args: Any) -> Any:
        """Return what it says."""
        if not self._blocks:
            try:
                return await maybe(self._metric(*args))
            except LoopBlocked:
                self._blocks = True
        return await maybe(await in_thread(lambda: self._metric(*args)))


async def call_program(program: Any, inputs: dict[str, Any]) -> Any:
    """Return what a program says: a Module, or any other callable, which runs in a thread."""
    acall = getattr(program, "acall", None)
    if acall is not None:
        return await acall(**inputs)
    return await maybe(await in_thread(lambda: program(**inputs)))


def fields_of(prediction: Any) -> dict[str, Any]:
    """Return a prediction's fields; a program that returns something else has one field, `output`."""
    to_dict = getattr(prediction, "toDict", None)
    if callable(to_dict):
        return dict(to_dict())
    return dict(prediction) if isinstance(prediction, dict) else {"output": prediction}


async def maybe(value: Any) -> Any:
    """Await what is awaitable."""
    return await value if inspect.isawaitable(value) else value
