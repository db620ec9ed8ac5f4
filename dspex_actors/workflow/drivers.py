"""What carries a workflow out: in the caller's thread, or on an event loop.

Without a loop: sync functions are called in the caller's thread. What needs a loop or a time limit - async functions,
timeouts, branches - is done on the private loop of `foundation.bridge`, and this thread waits. On a loop: sync
functions are called in threads of ours.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from dspex_actors.client.inputs import input_names
from dspex_actors.foundation import driving
from dspex_actors.foundation.bridge import Interrupted, contained, in_background_loop, in_thread, on_background_loop
from dspex_actors.programs.module import Module
from dspex_actors.workflow.engine import Call, Effect, Save, Steps, Sub, Together

#: Writes down that a step is done; blocking.
Keep = Callable[[Save], None]
#: After an interrupt the end of what runs on the loop is waited for so long, in seconds.
END_SECONDS = 2.0


def drive(steps: Steps, keep: Keep) -> dict[str, Any]:
    """Carry a workflow out in this thread; return what it gives."""
    return driving.drive(steps, lambda effect: _carried_out(effect, keep))


def _carried_out(effect: Effect, keep: Keep) -> Any:
    match effect:
        case Call(function, data, None) if not is_async(function):
            value = called(function, data)
            return in_background_loop(lambda: _awaited(value), "the step") if inspect.isawaitable(value) else value
        case Sub(steps, None):
            return drive(steps, keep)
        case Save():
            return keep(effect)
    return on_background_loop(lambda: _acarried_out(effect, keep), END_SECONDS)


async def adrive(steps: Steps, keep: Keep) -> dict[str, Any]:
    """Carry a workflow out on this event loop; return what it gives."""
    return await driving.adrive(steps, lambda effect: _acarried_out(effect, keep))


async def _acarried_out(effect: Effect, keep: Keep) -> Any:
    match effect:
        case Call(function, data, limit):
            if limit is not None and limit <= 0:
                raise TimeoutError
            async with asyncio.timeout(limit):
                return await acalled(function, data)
        case Sub(steps, limit):
            async with asyncio.timeout(limit):
                return await adrive(steps, keep)
        case Save():
            return await in_thread(lambda: keep(effect))
        case Together(branches):
            return await _together(branches, keep)


async def _together(branches: list[Steps], keep: Keep) -> list[Any]:
    tasks = [asyncio.ensure_future(contained(adrive(steps, keep))) for steps in branches]
    try:
        _, left = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    except BaseException:
        await _cancelled(tasks)
        raise
    await _cancelled(left)
    return [_outcome(task) for task in tasks]


def _outcome(task: asyncio.Future[Any]) -> Any:
    if task.cancelled():
        return None
    error = task.exception()
    return error.error if isinstance(error, Interrupted) else error or task.result()


async def _cancelled(tasks: Any) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# --- what a step calls ------------------------------------------------------------------------------------------------


def is_async(function: Any) -> bool:
    """Whether calling something gives a coroutine; a program can be called either way."""
    if isinstance(function, Module):
        return False
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def called(function: Any, data: dict[str, Any]) -> Any:
    """Call a step's function, blocking."""
    if isinstance(function, Module):
        return function(**_inputs(function, data))
    return function(data)


async def acalled(function: Any, data: dict[str, Any]) -> Any:
    """Call a step's function, from an event loop."""
    if isinstance(function, Module):
        return await function.acall(**_inputs(function, data))
    if is_async(function):
        return await function(data)
    value = await in_thread(lambda: function(data))
    return await value if inspect.isawaitable(value) else value


def _inputs(program: Module, data: dict[str, Any]) -> dict[str, Any]:
    """Return those of the data that a program takes."""
    names = input_names(program, data)
    return data if names is None else {name: data[name] for name in names if name in data}


async def _awaited(value: Any) -> Any:
    return await value
