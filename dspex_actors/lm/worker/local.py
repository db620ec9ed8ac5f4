"""A stream that is read where it is received: by a program that runs in an http worker."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from dspex_actors.lm.backend import LoopBlocked
from dspex_actors.lm.reply import LMReply
from dspex_actors.lm.request import LMRequest
from dspex_actors.lm.stream import Batch
from dspex_actors.lm.worker.directory import Directory
from dspex_actors.lm.worker.streaming import Sink


class Streaming:
    """One LM call under way whose pieces are taken one batch after the other; in the worker's loop only.

    Args:
        complete: answers it.
        request: the call.
    """

    def __init__(self, complete: Callable[[LMRequest], Coroutine[Any, Any, LMReply]], request: LMRequest) -> None:
        """Begin it."""
        self.sink = Sink()
        answering = complete(replace(request, sink=self.sink))
        self.task: asyncio.Task[LMReply] = asyncio.get_running_loop().create_task(answering)
        self.task.add_done_callback(lambda _: self.sink.close())

    async def take(self) -> Batch:
        """Wait for pieces, or for the end.

        Raises:
            LMError: what the call ended with, when all pieces are taken.
        """
        pieces = await self.sink.take()
        if pieces:
            return pieces, None
        return [], await self.task


class LocalSource:
    """Reads a stream of the worker's own; from its loop, from another one, or from a thread.

    Args:
        directory: answers the call.
        loop: the worker's, and the thread it runs in.
        thread: that thread's number.
        request: the call.
    """

    def __init__(self, directory: Directory, loop: asyncio.AbstractEventLoop, thread: int, request: LMRequest) -> None:
        """Prepare it; it begins with the first piece that is asked for."""
        self._directory = directory
        self._loop = loop
        self._thread = thread
        self._request = request
        self._streaming: Streaming | None = None
        self._is_closed = False

    async def _next(self) -> Batch:
        if self._streaming is None:
            self._streaming = Streaming(self._directory.complete, self._request)
            if self._is_closed:
                self._streaming.task.cancel()
        return await self._streaming.take()

    def next(self) -> Batch:
        """Wait in a thread."""
        if threading.get_ident() == self._thread:
            raise LoopBlocked("`for` over a stream inside async code: use `async for` there")
        return asyncio.run_coroutine_threadsafe(self._next(), self._loop).result()

    async def anext(self) -> Batch:
        """Wait in an event loop."""
        if asyncio.get_running_loop() is self._loop:
            return await self._next()
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._next(), self._loop))

    def close(self) -> None:
        """Cancel the call, if it is under way."""
        self._is_closed = True
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._streaming is not None:
            self._streaming.task.cancel()
