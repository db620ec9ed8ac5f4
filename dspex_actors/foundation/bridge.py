"""Between sync and async programs: run the one from the other without blocking an event loop or deadlocking.

* A sync `forward` called with `acall` runs in a thread of a pool. A program inside it that is bridged again uses a
  second pool, and so on: a pool's threads only ever wait for deeper pools, so they cannot wait for each other.
* An async `aforward` called without `await` runs on a private event loop in a thread of its own.

Both run in a copy of the caller's context, so settings, traces and call records hold there too.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import threading
from collections.abc import Callable, Coroutine
from contextvars import ContextVar, copy_context
from typing import Any

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.threads import Threads

#: Threads per pool: as many as sync programs or metrics are waiting at a time, up to this.
MAX_THREADS = 1024

_depth: ContextVar[int] = ContextVar("dspex_bridge_depth", default=0)


class _Pools:
    """The pools by depth, and the private loop; made when first needed."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start afresh; in a forked child, whose threads did not come along."""
        self._lock = threading.Lock()
        self._pools: dict[int, Threads] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def pool(self, depth: int) -> Threads:
        """Return the pool for calls that are bridged `depth` times already."""
        with self._lock:
            if depth not in self._pools:
                self._pools[depth] = Threads(MAX_THREADS, f"dspex-forward-{depth}")
            return self._pools[depth]

    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the private loop, running."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="dspex-aforward", daemon=True).start()
            return self._loop


_pools = _Pools()
os.register_at_fork(after_in_child=_pools.forget)


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it gives a coroutine at once: an `async def`, one in a partial, or a callable object's."""
    while isinstance(function, functools.partial):
        function = function.func
    call = function if inspect.isroutine(function) else getattr(type(function), "__call__", None)  # noqa: B004
    return inspect.iscoroutinefunction(call)


def is_bridged() -> bool:
    """Whether this is a thread of a pool, in which others would have to wait for what hangs."""
    return _depth.get() > 0


async def in_thread(function: Callable[[], Any], *, brief: bool = False) -> Any:
    """Run a sync function in a thread and await its result.

    Args:
        function: what to run; it sees the caller's context variables.
        brief: it is likely to return at once.

    Returns:
        What it returns; its exception is raised here.
    """
    depth = _depth.get()
    frame = copy_context()

    def call() -> Any:
        _depth.set(depth + 1)
        return function()

    return await _pools.pool(depth).run(frame, call, brief=brief)


def in_background_loop(make: Callable[[], Coroutine[Any, Any, Any]], name: str) -> Any:
    """Run a coroutine on the private event loop and wait for its result.

    Args:
        make: makes the coroutine.
        name: the program's name, for the error.

    Returns:
        What the coroutine returns; its exception is raised here.

    Raises:
        ConfigError: this thread has a running event loop, which waiting would block.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise ConfigError(f"{name} has only `aforward`, and an event loop runs here: use `await program.acall(...)`")
    return on_background_loop(make)


def on_background_loop(make: Callable[[], Coroutine[Any, Any, Any]], end_seconds: float = 0.0) -> Any:
    """Run a coroutine on the private event loop and block this thread until it ends.

    Args:
        make: makes the coroutine.
        end_seconds: when this thread is interrupted the coroutine is cancelled; its end is waited for so long.

    Returns:
        What the coroutine returns; its exception is raised here.

    Raises:
        ConfigError: this thread is the one of that loop, which cannot wait for itself.
    """
    if asyncio._get_running_loop() is _pools.loop():
        raise ConfigError("what is called here waits for an event loop in its own thread: await its async twin")
    frame = copy_context()
    loop, ended = _pools.loop(), threading.Event()
    tasks: list[asyncio.Task[Any]] = []
    is_given_up = False

    async def run() -> Any:
        # A task has its own context: the caller's has to be named.
        task = asyncio.create_task(contained(make()), context=frame)
        tasks.append(task)
        if is_given_up:
            task.cancel()
        try:
            return await task
        finally:
            ended.set()

    def cancel() -> None:
        for task in tasks:
            task.cancel()

    try:
        return asyncio.run_coroutine_threadsafe(run(), loop).result()
    except Interrupted as interrupted:
        raise interrupted.error from None
    except BaseException:
        # An interrupt may come before there is a future to cancel.
        is_given_up = True
        loop.call_soon_threadsafe(cancel)
        if end_seconds:
            ended.wait(end_seconds)
        raise


class Interrupted(Exception):
    """A KeyboardInterrupt or SystemExit inside a task: raised as it is it would end the event loop of all others.

    Args:
        error: it.
    """

    def __init__(self, error: BaseException) -> None:
        """Keep it."""
        super().__init__()
        self.error = error


async def contained(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Await a coroutine in a task; an interrupt in it is raised as `Interrupted`."""
    try:
        return await coroutine
    except (KeyboardInterrupt, SystemExit) as error:
        raise Interrupted(error) from None
