"""Calling a user's program and metric, sync or async, from a worker's event loop: as a direct call does, and without
ever blocking the loop."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

from dspex_actors.errors import LMError, RateLimited
from dspex_actors.foundation.bridge import in_thread, is_async
from dspex_actors.judging import AsksLM
from dspex_actors.lm.worker.retry import passes
from dspex_actors.metrics import FieldMetric

#: How often a metric is tried whose LM waited for a limit on speed until its deadline, and otherwise at most.
TRIES = 3
#: A metric whose LM failed for the moment is tried again after so many seconds, the next time after twice as many.
AGAIN_SECONDS = 0.5


class Program:
    """A program: a Module, or any other callable, sync or async. What is sync runs in threads."""

    def __init__(self, program: Any) -> None:
        """Wrap it."""
        self._program = program
        self._acall = getattr(program, "acall", None)
        if self._acall is None or _calls_itself(type(program)):
            self._acall = program if is_async(program) else None

    async def __call__(self, inputs: dict[str, Any]) -> Any:
        """Return what it says."""
        if self._acall is not None:
            return await self._acall(**inputs)
        return await maybe(await in_thread(lambda: self._program(**inputs)))


class Metric:
    """A metric, sync or async.

    Sync ones run in threads: they may wait, ask an LM, or run an event loop of their own. Those of `dspex.metrics`
    only compute, and run where they are.
    """

    def __init__(self, metric: Any, tries: int = TRIES) -> None:
        """Wrap it; `tries`: how often it is tried when its LM gives up."""
        self._metric = metric.acall if isinstance(metric, AsksLM) else metric
        self._tries = tries
        self._inline = isinstance(metric, FieldMetric | AsksLM) or is_async(metric)

    async def __call__(self, *args: Any) -> Any:
        """Return what it says; when its LM fails for the moment, ask it again: the program's answer is paid for."""
        tries = 0
        while True:
            tries += 1
            try:
                return await self._once(args)
            except LMError as error:
                slow = isinstance(error, RateLimited)
                if not passes(error) or tries >= (TRIES if slow else self._tries):
                    raise
            await asyncio.sleep(AGAIN_SECONDS * 2 ** (tries - 1))

    async def _once(self, args: tuple[Any, ...]) -> Any:
        if self._inline:
            value = self._metric(*args)
            return value if type(value) in (bool, float) else await maybe(value)
        return await maybe(await in_thread(lambda: self._metric(*args), brief=True))


def _calls_itself(cls: type) -> bool:
    """Whether a class says what a call is and leaves `acall` to a base: then `acall` is not what it wants."""
    for base in cls.__mro__:
        if "acall" in vars(base):
            return False
        if "__call__" in vars(base):
            return True
    return False


def fields_of(prediction: Any) -> dict[str, Any]:
    """Return a prediction's fields as they are; a program that returns something else has one field, `output`."""
    if callable(getattr(prediction, "toDict", None)):
        return dict(prediction.items())
    if isinstance(prediction, dict) and all(isinstance(name, str) for name in prediction):
        return dict(prediction)
    return {"output": prediction}


async def maybe(value: Any) -> Any:
    """Await what is awaitable."""
    return await value if inspect.isawaitable(value) else value
