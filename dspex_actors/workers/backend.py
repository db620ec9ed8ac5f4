"""LM calls of programs that run in a worker: answered by the worker's own sessions, no message, no hop."""

from __future__ import annotations

import asyncio
import os
import threading

from dspex_actors.foundation.threads import inherit_context
from dspex_actors.lm.backend import LoopBlocked, set_process_backend
from dspex_actors.lm.history import HISTORY
from dspex_actors.lm.reply import LMReply
from dspex_actors.lm.request import LMRequest
from dspex_actors.lm.worker.directory import Directory
from dspex_actors.lm.worker.local import LocalSource
from dspex_actors.settings import settings


class WorkerBackend:
    """Answers the LM calls of programs that run in this worker."""

    def __init__(self, directory: Directory, loop: asyncio.AbstractEventLoop) -> None:
        """Answer from this directory, which belongs to the calling thread's loop.

        The process is made fit for programs of others: their threads see the settings of their run, and nobody
        changes those of all runs.
        """
        inherit_context()
        settings.close()
        HISTORY.stop()
        # A child that a program forks has none of this process's connections, and no loop that would answer it.
        os.register_at_fork(after_in_child=lambda: set_process_backend(None))
        self._directory = directory
        self._loop = loop
        self._thread = threading.get_ident()

    async def acomplete(self, request: LMRequest) -> LMReply:
        """Answer from the worker's own loop, or from another one in this process."""
        if asyncio.get_running_loop() is self._loop:
            return await self._directory.complete(request)
        future = asyncio.run_coroutine_threadsafe(self._directory.complete(request), self._loop)
        return await asyncio.wrap_future(future)

    def stream(self, request: LMRequest) -> LocalSource:
        """Return what reads the reply of one call as it comes, from this loop, another one or a thread."""
        return LocalSource(self._directory, self._loop, self._thread, request)

    def complete(self, request: LMRequest) -> LMReply:
        """Answer a sync program, which runs in a thread."""
        if threading.get_ident() == self._thread:
            raise LoopBlocked("a sync LM call inside async code: use `await program.acall(...)` there")
        return asyncio.run_coroutine_threadsafe(self._directory.complete(request), self._loop).result()

    def forget(self, request: LMRequest) -> None:
        """Take the cached answer to a call back."""
        # Beside whoever asks it: the context, with the settings that hold here, goes along.
        self._loop.call_soon_threadsafe(self._directory.cache.forget, request)
