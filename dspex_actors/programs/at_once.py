"""Several jobs at once, in threads or as tasks: each in a copy of the context, with a trace and a record of its own.

Whatever is told by context variables (settings, operation, deadline, who watches) holds in them. Trace and record of
calls are joined in the order of the jobs, so that they do not depend on who was faster.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context
from threading import Lock
from typing import Any, Generic, TypeVar

from dspex_actors.foundation.bridge import Interrupted, contained
from dspex_actors.settings import Calls, add_calls, begin_calls, inside, settings

Job = TypeVar("Job")


class Outcome:
    """What became of a job: what it returned or raised; `has_ended` is False where it was not begun."""

    __slots__ = ("calls", "error", "has_ended", "trace", "value")

    def __init__(self) -> None:
        """Begin with nothing."""
        self.value: Any = None
        self.error: Exception | None = None
        self.has_ended = False
        self.calls: Calls | None = None
        self.trace: list[Any] = []


class _Jobs(Generic[Job]):
    """Gives jobs out until there are none, or too many have failed, and joins what they left."""

    def __init__(self, jobs: Iterable[Job], most_errors: int | None) -> None:
        self._jobs = list(jobs)
        self.outcomes = [Outcome() for _ in self._jobs]
        self._contexts = [copy_context() for _ in self._jobs]
        self._next = itertools.count()
        self._lock = Lock()
        self._most_errors, self._errors = most_errors, 0
        self._has_trace = settings.in_force()["trace"] is not None
        self.is_stopped = False

    def __iter__(self) -> Iterator[tuple[Job, Context, Outcome]]:
        """Give out one after the other, to as many threads as want some."""
        while not self.is_stopped:
            number = next(self._next)
            if number >= len(self._jobs):
                return
            yield self._jobs[number], self._contexts[number], self.outcomes[number]

    def begin(self, outcome: Outcome) -> None:
        """Keep trace and record apart; in the job's own context."""
        outcome.calls = begin_calls()
        if self._has_trace:
            inside({"trace": outcome.trace}).__enter__()

    def failed(self, outcome: Outcome, error: Exception) -> None:
        """Take note of an error."""
        outcome.error = error
        with self._lock:
            self._errors += 1
            if self._most_errors is not None and self._errors >= self._most_errors:
                self.is_stopped = True

    def join(self) -> list[Outcome]:
        """Bring traces and records to whoever has asked."""
        here = settings.in_force()
        for outcome in self.outcomes:
            if outcome.calls is not None:
                add_calls(outcome.calls)
            if outcome.trace:
                add_to_trace(here, outcome.trace)
        return self.outcomes


def add_to_trace(here: Any, steps: list[Any]) -> None:
    """Add steps to the trace of the settings that are in force; the oldest go where it is full."""
    trace, most = here["trace"], here["max_trace_size"]
    if trace is not None and most > 0:
        trace.extend(steps)
        if len(trace) > most:
            del trace[:-most]


def run_at_once(jobs: Iterable[Callable[[], Any]], at_once: int, most_errors: int | None = None) -> list[Outcome]:
    """Run jobs in threads, and wait for all.

    Args:
        jobs: functions without arguments.
        at_once: threads at most; 1: in this one, one after the other.
        most_errors: with so many errors nothing new is begun; None: never mind.

    Returns:
        What became of each, in their order.
    """
    plan = _Jobs(jobs, most_errors)

    def call(job: Callable[[], Any], outcome: Outcome) -> None:
        plan.begin(outcome)
        try:
            outcome.value = job()
        except Exception as error:
            plan.failed(outcome, error)
        outcome.has_ended = True

    def serve() -> None:
        for job, context, outcome in plan:
            context.run(call, job, outcome)

    count = min(at_once, len(plan.outcomes))
    if count <= 1:
        try:
            serve()
        finally:
            plan.join()
        return plan.outcomes
    pool = ThreadPoolExecutor(count, "dspex parallel")
    try:
        for thread in [pool.submit(serve) for _ in range(count)]:
            thread.result()
    finally:  # also Ctrl-C here, or an interrupt in one of them: what was paid until then is in the books
        plan.is_stopped = True
        pool.shutdown(wait=False, cancel_futures=True)
        plan.join()
    return plan.outcomes


async def arun_at_once(
    jobs: Iterable[Callable[[], Awaitable[Any]]], at_once: int, most_errors: int | None = None
) -> list[Outcome]:
    """Run jobs as tasks, and wait for all; as `run_at_once`.

    Args:
        jobs: functions that return something to await.
        at_once: tasks at most.
        most_errors: as there.
    """
    plan = _Jobs(jobs, most_errors)

    async def call(job: Callable[[], Awaitable[Any]], outcome: Outcome) -> None:
        plan.begin(outcome)
        try:
            outcome.value = await job()
        except Exception as error:
            plan.failed(outcome, error)
        outcome.has_ended = True

    tasks: set[asyncio.Task[Any]] = set()
    try:
        for job, context, outcome in plan:
            tasks.add(asyncio.create_task(contained(call(job, outcome)), context=context))
            while len(tasks) >= at_once:
                tasks = await _one_less(tasks)
        while tasks:
            tasks = await _one_less(tasks)
    except Interrupted as interrupted:
        raise interrupted.error from None
    finally:
        plan.is_stopped = True
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)
        plan.join()
    return plan.outcomes


async def _one_less(tasks: set[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
    done, left = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
    return left
