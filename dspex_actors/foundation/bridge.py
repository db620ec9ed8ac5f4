"""Between sync and async programs: run the one from the other without blocking an event loop or deadlocking.

* A sync `forward` called with `acall` runs in a thread of a pool. A program inside it that is bridged again uses a
  second pool, and so on: a pool's threads only ever wait for deeper pools, so they cannot wait for each other.
* An async `aforward` called without `await` runs on a private event loop in a thread of its own.

Both run in a copy of the caller's context, so settings, traces and call records hold there too.
"""

from __future__ import annotations

import asyncio
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
    frame = copy_context()

    async def run() -> Any:
        # A task has its own context: the caller's has to be named.
        return await asyncio.create_task(make(), context=frame)

    future = asyncio.run_coroutine_threadsafe(run(), _pools.loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise
