"""A stream of a program outside: opened at an http worker of the node, held, and pulled batch by batch.

Nothing is pushed: each call takes what has come since the last one. So a reader that stops is heard of by nobody, and
waited for by everybody up to the provider. That there still is a reader is what the held call says: it has no answer
until the stream has ended, and when its caller is gone the worker is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

from dspex_actors.errors import DeadlineExceeded, StreamTruncated, from_record
from dspex_actors.lm.content.pieces import text_of, unpacked
from dspex_actors.lm.reply import LMReply
from dspex_actors.lm.request import Complete, HoldStream, NextPieces, OpenStream
from dspex_actors.lm.stream import Batch, BusyError
from supervisors import Node
from supervisors.errors import CallTimeout, SupervisorsError

#: A worker opens a stream at once; one that has not after so many seconds is stuck.
OPEN_SECONDS = 30.0


class NodeSource:
    """Reads a stream from a worker.

    Args:
        node: the node.
        worker: gives the name of a worker to ask.
        luck: decides whether to open it again, elsewhere, after a worker has died; raises where not.
        pause: seconds until then.
        call: the call.
        seconds: how long it may take in all.
    """

    def __init__(
        self,
        node: Node,
        worker: Callable[[], str],
        luck: Callable[[SupervisorsError], None],
        pause: float,
        call: Complete,
        seconds: float,
    ) -> None:
        """Prepare it; it is opened with the first piece that is asked for."""
        self._node, self._worker, self._again, self._pause = node, worker, luck, pause
        self._open = OpenStream(call)
        self._seconds = seconds
        self._end = 0.0
        #: The worker and the stream's number there; None: it is not open.
        self._at: tuple[Any, int] | None = None
        self._release: Callable[[], None] | None = None
        self._pending: asyncio.Task[Batch] | None = None
        self._texts: list[str] = []
        self._has_given = self._is_closed = False
        self._lock = threading.Lock()

    # --- in a thread ------------------------------------------------------------------------------------------------

    def next(self) -> Batch:
        """Wait in a thread; on an event loop, which waits too."""
        if (pending := self._pending) is not None:
            if not pending.done():
                raise BusyError("a piece of this stream is being awaited: read it in one way, by `async for` or `for`")
            self._pending = None
            return pending.result()
        while True:
            try:
                if self._at is None:
                    ref, number = self._opened(self._node.call(self._worker(), self._open, OPEN_SECONDS))
                    self._held(self._node.send_request(ref, HoldStream(number)).abandon)
                    self._at = ref, number
                ref, number = self._at
                return self._batch(self._node.call(ref, NextPieces(number), self._left()))
            except SupervisorsError as error:
                self._fallen(error)
            time.sleep(self._pause)

    # --- in an event loop -------------------------------------------------------------------------------------------

    async def anext(self) -> Batch:
        """Wait in an event loop. Who is cancelled loses nothing: the same batch is waited for by the next call."""
        if self._pending is None:
            self._pending = asyncio.get_running_loop().create_task(self._anext())
        batch = await asyncio.shield(self._pending)
        self._pending = None
        return batch

    async def _anext(self) -> Batch:
        while True:
            try:
                if self._at is None:
                    ref, number = self._opened(await self._node.acall(self._worker(), self._open, OPEN_SECONDS))
                    self._hold_from_loop(ref, number)
                    self._at = ref, number
                ref, number = self._at
                return self._batch(await self._node.acall(ref, NextPieces(number), self._left()))
            except SupervisorsError as error:
                self._fallen(error)
            await asyncio.sleep(self._pause)

    def _hold_from_loop(self, ref: Any, number: int) -> None:
        loop = asyncio.get_running_loop()
        holding = loop.create_task(_hold(self._node, ref, number))

        def release() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(holding.cancel)

        self._held(release)

    # --- both -------------------------------------------------------------------------------------------------------

    def _opened(self, answer: Any) -> tuple[Any, int]:
        kind, *value = answer
        if kind == "error":
            raise from_record(value[0])
        self._end = time.monotonic() + self._seconds
        number, ref = value
        return ref, number

    def _held(self, release: Callable[[], None]) -> None:
        with self._lock:
            self._release = release
            is_closed = self._is_closed
        if is_closed:
            self.close()

    def _left(self) -> float:
        return max(0.0, self._end - time.monotonic())

    def _batch(self, answer: Any) -> Batch:
        packed, end = answer
        pieces = unpacked(packed)
        if pieces:
            self._has_given = True
            self._texts.append(text_of(pieces))
        if end is None:
            return pieces, None
        kind, value = end
        if kind == "error":
            raise from_record(value)
        return pieces, LMReply.from_dict(value)

    def _fallen(self, error: SupervisorsError) -> None:
        """Return when it is worth to open the stream again, raise when not."""
        self._let_go()
        self._at = None
        if isinstance(error, CallTimeout) and self._end:
            late = DeadlineExceeded("the worker did not stream the whole reply within the call's deadline")
            late.partial = "".join(self._texts) if self._has_given else None
            raise late from None
        if self._has_given:
            raise StreamTruncated(
                f"the stream ended in the middle: {error}; see `dspex failures`", partial="".join(self._texts)
            ) from None
        self._again(error)

    def _let_go(self) -> None:
        with self._lock:
            release, self._release = self._release, None
        if release is not None:
            with contextlib.suppress(SupervisorsError, RuntimeError):
                release()

    def close(self) -> None:
        """Hold it no longer: the worker cancels the request."""
        self._is_closed = True
        self._let_go()
        pending, self._pending = self._pending, None
        if pending is None:
            return
        if pending.done():
            if not pending.cancelled():
                pending.exception()  # nobody will ask for it
        else:
            loop = pending.get_loop()
            if not loop.is_closed():
                loop.call_soon_threadsafe(pending.cancel)


async def _hold(node: Node, ref: Any, number: int) -> None:
    """Wait for the end of a stream; who cancels this wants no more of it."""
    with contextlib.suppress(SupervisorsError):
        await node.acall(ref, HoldStream(number), None)
