"""Work that is written once, as a generator of steps; carried out in a thread that waits, or on an event loop.

A step says what is to be done now. What it gives is sent into the generator, and an error is raised there, an interrupt
too: it is the work's own to leave everything in order, whoever carries it out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

Step = TypeVar("Step")
Result = TypeVar("Result")


def drive(steps: Generator[Step, Any, Result], do: Callable[[Step], Any]) -> Result:
    """Carry steps out, one after the other.

    Args:
        steps: the work; it is over, or closed, when this returns.
        do: does a step, and waits for it.

    Returns:
        What the work returns; what it raises is raised here.
    """
    coroutine = adrive(steps, _at_once(do))
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: Result = done.value
        return result
    raise AssertionError("a step that is done at once waits for nothing")


def _at_once(do: Callable[[Step], Any]) -> Callable[[Step], Awaitable[Any]]:
    async def done(step: Step) -> Any:
        return do(step)

    return done


async def adrive(steps: Generator[Step, Any, Result], do: Callable[[Step], Awaitable[Any]]) -> Result:
    """Carry steps out without blocking the event loop; as `drive`."""
    answer: Any = None
    error: BaseException | None = None
    try:
        while True:
            try:
                step = steps.send(answer) if error is None else steps.throw(error)
            except StopIteration as done:
                result: Result = done.value
                return result
            answer = error = None
            try:
                answer = await do(step)
            except BaseException as problem:
                error = problem
    finally:
        error = None  # its traceback holds this frame
        steps.close()
