"""Calls of functions that may never return: they are given up after a while, and those that go on are counted.

Nobody can end a thread. A call that was given up keeps its own, so that with too many of them no more are made: there
would be no threads left for anything else.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from contextvars import copy_context
from threading import Lock
from typing import Any

from dspex_actors.foundation.bridge import Interrupted, contained, in_thread
from dspex_actors.foundation.config_errors import ConfigRuntimeError

#: Seconds that a tool may take where nobody has said, and somebody else would have to wait.
TIMEOUT = 120.0
#: Calls that were given up and have not ended, in this process; with so many of them no tool is called any more.
MOST_LATE = 256


class _Late:
    """Counts calls that were given up and go on."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.count = 0

    def check(self, name: str) -> None:
        """Refuse another call where too many are late."""
        if self.count >= MOST_LATE:
            raise ConfigRuntimeError(
                f"tool {name!r} is not called: {self.count} calls of tools that were given up have not ended in this "
                "process; give tools timeouts of their own for what they wait for"
            )

    def give_up(self, call: _Call) -> None:
        """Count a call, unless it has just ended."""
        with self._lock:
            call.is_late = not call.is_over
            self.count += call.is_late

    def ended(self, call: _Call) -> None:
        """Take it out of the count."""
        with self._lock:
            if not call.is_over:
                call.is_over = True
                self.count -= call.is_late


late = _Late()


class _Call:
    """One call: whether it has ended, was given up before, and is under way in a thread."""

    __slots__ = ("in_thread", "is_late", "is_over")

    def __init__(self) -> None:
        self.is_late = self.is_over = self.in_thread = False


async def limited(name: str, begin: Callable[[], Any], is_async: bool, seconds: float | None) -> Any:
    """Call a function in a task of its own, and stop waiting for it after a while.

    Args:
        name: of the tool, for errors.
        begin: calls it; of an async one it returns what is to be awaited.
        is_async: it returns at once; else it runs in a thread.
        seconds: it may take so many; None: no limit.

    Raises:
        TimeoutError: it took longer.
        ConfigRuntimeError: too many have been given up, or it has cancelled itself.
    """
    late.check(name)
    call = _Call()
    task = asyncio.create_task(contained(_called(begin, is_async, call)), context=copy_context())
    # Where a thread is at work, that says when it has ended: nobody can end it.
    task.add_done_callback(lambda _: None if call.in_thread else late.ended(call))
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    except BaseException:  # whoever has asked is given up: the thread goes on all the same
        late.give_up(call)
        _leave(task)
        raise
    if not done:
        late.give_up(call)
        _leave(task)
        raise TimeoutError(f"{name} has not answered within {seconds:g} s")
    if task.cancelled():
        raise ConfigRuntimeError(f"tool {name!r} has cancelled itself")
    try:
        return task.result()
    except Interrupted as interrupted:
        raise interrupted.error from None


async def _called(begin: Callable[[], Any], is_async: bool, call: _Call) -> Any:
    if is_async:
        return await begin()

    def run() -> Any:
        call.in_thread = True
        try:
            return begin()
        finally:
            late.ended(call)

    answer = await in_thread(run, brief=True)
    return await answer if inspect.isawaitable(answer) else answer


def _leave(task: asyncio.Task[Any]) -> None:
    """Cancel a task that nobody waits for, and hear no more of it."""
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    task.cancel()
