"""LM calls of programs that run in a worker: answered by the worker's own sessions, no message, no hop."""

from __future__ import annotations

import asyncio
import threading

from dspex_actors.lm.backend import LoopBlocked
from dspex_actors.lm.reply import LMReply
from dspex_actors.lm.request import LMRequest
from dspex_actors.lm.worker.directory import Directory


class WorkerBackend:
    """Answers the LM calls of programs that run in this worker."""

    def __init__(self, directory: Directory, loop: asyncio.AbstractEventLoop) -> None:
        """Answer from this directory, which belongs to the calling thread's loop."""
        self._directory = directory
        self._loop = loop
        self._thread = threading.get_ident()

    async def acomplete(self, request: LMRequest) -> LMReply:
        """Answer from the worker's own loop, or from another one in this process."""
        if asyncio.get_running_loop() is self._loop:
            return await self._directory.complete(request)
        future = asyncio.run_coroutine_threadsafe(self._directory.complete(request), self._loop)
        return await asyncio.wrap_future(future)

    def complete(self, request: LMRequest) -> LMReply:
        """Answer a sync program, which runs in a thread."""
        if threading.get_ident() == self._thread:
            raise LoopBlocked("a sync LM call inside async code: use `await program.acall(...)` there")
        return asyncio.run_coroutine_threadsafe(self._directory.complete(request), self._loop).result()
