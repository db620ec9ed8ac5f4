"""The streams that programs outside have open at a worker."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from dspex_actors.errors import LMError
from dspex_actors.lm.content.pieces import Piece, packed
from dspex_actors.lm.lm import LM
from dspex_actors.lm.reply import LMReply
from dspex_actors.lm.request import Complete, HoldStream, LMRequest, NextPieces, OpenStream
from dspex_actors.lm.told import Serving, is_told
from dspex_actors.lm.told_cache import as_told
from dspex_actors.lm.worker.directory import Directory
from dspex_actors.lm.worker.local import Streaming
from dspex_actors.workers.runner import error_record
from supervisors import NO_REPLY, Caller, GenServer

#: Who has opened a stream and does not hold it within so many seconds is gone.
HOLD_SECONDS = 5.0


class _Open:
    """One of them."""

    def __init__(self, number: int, streaming: Streaming, *, is_told: bool) -> None:
        self.number = number
        self.streaming = streaming
        self.is_told = is_told
        self.holder: Caller | None = None
        self.is_asked = False


class Streams:
    """Opens, holds and feeds them; one for each http worker.

    Args:
        server: the worker.
        directory: answers LM calls.
        events: tells what was recorded to whoever wants to know.
    """

    def __init__(self, server: GenServer, directory: Directory, events: Any) -> None:
        """Begin with none."""
        self._server = server
        self._directory = directory
        self._events = events
        self._numbers = itertools.count(1)
        self._open: dict[int, _Open] = {}
        #: Streams opened so far.
        self.count = 0

    def handle(self, request: OpenStream | HoldStream | NextPieces, caller: Caller) -> Any:
        """Answer a request, as `handle_call` does."""
        match request:
            case OpenStream(call):
                return self._begin(call)
            case HoldStream(number):
                return self._hold(number, caller)
            case NextPieces(number):
                return self._next(number, caller)

    def _begin(self, call: Complete) -> Any:
        self.count += 1
        try:
            request = LM.known(call.lm).request(call.messages, call.given, call.user, call.tags)
        except Exception as error:
            return "error", error_record(error)
        number = next(self._numbers)
        with as_told(call.cache):
            streaming = Streaming(self._complete, request)
        stream = self._open[number] = _Open(number, streaming, is_told=is_told())
        asyncio.get_running_loop().call_later(HOLD_SECONDS, self._look, stream)
        return "ok", number, self._server.ref

    async def _complete(self, request: LMRequest) -> LMReply:
        with Serving(request.lm.deployment.model) as serving:
            reply = await self._directory.complete(request)
            serving.asked = reply.asked
        return reply

    def _look(self, stream: _Open) -> None:
        if stream.holder is None:
            self._end(stream)

    def _hold(self, number: int, caller: Caller) -> Any:
        stream = self._open.get(number)
        if stream is None:
            return None
        stream.holder = caller
        self._server.when_given_up(caller, lambda: self._end(stream))
        return NO_REPLY

    def _next(self, number: int, caller: Caller) -> Any:
        stream = self._open.get(number)
        if stream is None or stream.is_asked:
            what = "asked for its pieces twice at a time" if stream else "over"
            return [], ("error", LMError(f"stream {number} is {what}", retryable=False).to_record())
        pieces = stream.streaming.sink.take_now()
        if pieces:
            return packed(pieces), None
        stream.is_asked = True
        self._server.spawn(self._answer(stream, caller))
        return NO_REPLY

    async def _answer(self, stream: _Open, caller: Caller) -> None:
        pieces: list[Piece] = []
        end: tuple[str, Any] | None = None
        try:
            pieces, reply = await stream.streaming.take()
            if reply is not None:
                end = ("ok", reply.to_dict())
        except asyncio.CancelledError:
            if not stream.streaming.task.cancelled():
                raise  # the worker ends
            end = ("error", LMError("the stream was given up", retryable=False).to_record())
        except Exception as error:
            end = ("error", error_record(error))
        stream.is_asked = False
        if end is not None and stream.is_told:
            await self._events.introduced()
        self._server.reply(caller, (packed(pieces), end))
        if end is not None:
            self._end(stream)

    def _end(self, stream: _Open) -> None:
        """Forget a stream: it has ended, or nobody wants it."""
        if self._open.pop(stream.number, None) is None:
            return
        stream.streaming.task.cancel()
        if stream.holder is not None:
            self._server.reply(stream.holder, None)
