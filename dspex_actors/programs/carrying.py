"""Carries out the steps of a program: all of the difference between sync and async."""

from __future__ import annotations

import inspect
from collections.abc import Generator
from typing import Any

from dspex_actors.foundation.bridge import in_thread, is_async, on_background_loop
from dspex_actors.foundation.config_errors import ConfigRuntimeError
from dspex_actors.foundation.driving import adrive, drive
from dspex_actors.programs.at_once import Outcome, arun_at_once, run_at_once
from dspex_actors.programs.steps import Ask, Parallel, Steps, Tool, not_a_step
from dspex_actors.programs.tool_use import ause, use

#: Branches at a time where nobody has said how many.
AT_ONCE = 64


def carry(steps: Steps) -> Any:
    """Carry steps out, and wait for each.

    Args:
        steps: a generator of steps that has not begun.

    Returns:
        What it returns; what it raises is raised here.
    """
    _check_new(steps)
    return drive(steps, _done)


async def acarry(steps: Steps) -> Any:
    """Carry steps out without blocking the event loop; as `carry`."""
    _check_new(steps)
    return await adrive(steps, _adone)


def _check_new(steps: Steps) -> None:
    if inspect.getgeneratorstate(steps) != inspect.GEN_CREATED:
        raise ConfigRuntimeError("these steps are carried out already: a generator serves once; call steps(...) again")


def _done(step: Any) -> Any:
    if isinstance(step, Ask):
        answer = step.what(*step.args, **step.kwargs)
        return on_background_loop(lambda: answer) if inspect.iscoroutine(answer) else answer
    if isinstance(step, Tool):
        return use(step.tool, step.args, step.timeout)
    if isinstance(step, Parallel):
        jobs = [lambda branch=branch: _branch(branch) for branch in step.branches]
        return _answers(step, run_at_once(jobs, step.at_once or AT_ONCE, None if step.return_errors else 1))
    raise not_a_step(step)


async def _adone(step: Any) -> Any:
    if isinstance(step, Ask):
        what, args, kwargs = step.what, step.args, step.kwargs
        acall = getattr(what, "acall", None)
        if acall is not None:
            return await acall(*args, **kwargs)
        if is_async(what):
            return await what(*args, **kwargs)
        answer = await in_thread(lambda: what(*args, **kwargs), brief=True)
        return await answer if inspect.isawaitable(answer) else answer
    if isinstance(step, Tool):
        return await ause(step.tool, step.args, step.timeout)
    if isinstance(step, Parallel):
        jobs = [lambda branch=branch: _abranch(branch) for branch in step.branches]
        return _answers(step, await arun_at_once(jobs, step.at_once or AT_ONCE, None if step.return_errors else 1))
    raise not_a_step(step)


def _branch(branch: Any) -> Any:
    return carry(branch) if isinstance(branch, Generator) else _done(branch)


async def _abranch(branch: Any) -> Any:
    return await (acarry(branch) if isinstance(branch, Generator) else _adone(branch))


def _answers(step: Parallel, outcomes: list[Outcome]) -> list[Any]:
    for branch, outcome in zip(step.branches, outcomes, strict=True):
        if not outcome.has_ended and isinstance(branch, Generator):
            branch.close()
    if step.return_errors:
        return [outcome.value if outcome.error is None else outcome.error for outcome in outcomes]
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error
    return [outcome.value for outcome in outcomes]
