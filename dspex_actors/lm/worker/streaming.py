"""Receives a streamed answer: from the socket through events and pieces to whoever reads them.

The server is read no further ahead than the reader's buffer holds: a reader who stops makes the socket fill, and the
server wait.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from dspex_actors.errors import LMError, Overloaded, StreamTruncated, Timeout
from dspex_actors.foundation.limits import Limit
from dspex_actors.foundation.telemetry.recorded import LMRequests
from dspex_actors.foundation.tokens import count
from dspex_actors.lm.content.pieces import Piece
from dspex_actors.lm.usage import Usage, estimate_usage
from dspex_actors.lm.wire.base import Provider
from dspex_actors.lm.wire.decoding import Decoder
from dspex_actors.lm.wire.exchange import RawReply, WireReply
from dspex_actors.lm.wire.sse import Event, EventReader, EventTooLarge
from dspex_actors.lm.worker.http import MAX_BODY, Answer, HttpClient, Target

#: Characters, and pieces, that wait for their reader at most; beside them, what one read of the socket has brought.
MOST_CHARACTERS, MOST_PIECES = 64 * 1024, 512
#: A reader that has taken nothing for so many seconds, with a full buffer, has stopped for now.
STALL_SECONDS = 2.0
#: Bytes of a stream at most, and characters of its text, thoughts and calls: as of a reply that comes as a whole.
MAX_STREAM, MAX_CHARACTERS = 16 * MAX_BODY, MAX_BODY
#: After the end mark of a stream its connection is read for so many seconds and bytes more: it can be used again then.
DRAIN_SECONDS, DRAIN_BYTES = 0.05, 16 * 1024


class Sink:
    """The pieces of one stream on their way from the server to the reader, in one event loop.

    Args:
        most: characters that wait at most; None: any number, for a reader that takes them from here later.
    """

    __slots__ = (
        "_loop",
        "_pieces",
        "_reader",
        "_room",
        "_size",
        "blocked",
        "has_given",
        "is_closed",
        "most",
        "stalled",
        "texts",
        "total",
    )

    def __init__(self, most: int | None = MOST_CHARACTERS) -> None:
        """Begin empty."""
        self.most = most
        #: The text of the reply, as far as it was given.
        self.texts: list[str] = []
        #: Whether the reader may have seen something: what begins afresh now would tell it twice.
        self.has_given = False
        #: Seconds for which the server was not read, because the reader did not keep up.
        self.blocked = 0.0
        self.is_closed = False
        #: Called when the reader has taken nothing for a while although its buffer is full.
        self.stalled: Callable[[], None] | None = None
        #: Characters of all pieces so far.
        self.total = 0
        self._pieces: list[Piece] = []
        self._size = 0
        self._loop = asyncio.get_running_loop()
        self._reader: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None

    @property
    def text(self) -> str:
        """The text of the reply, as far as it was given."""
        return "".join(self.texts)

    def put(self, pieces: list[Piece]) -> bool:
        """Take in pieces; return whether there is room for more: if not, `room` waits for it."""
        self.has_given = True
        before = size = self._size
        texts = self.texts
        for piece in pieces:
            size += len(piece.text)
            if piece.kind == "text":
                texts.append(piece.text)
        self._size = size
        self.total += size - before
        self._pieces += pieces
        reader = self._reader
        if reader is not None:
            self._reader = None
            if not reader.done():
                reader.set_result(None)
            return True  # it takes what is here in its next turn
        return self._has_room()

    def _has_room(self) -> bool:
        return self.most is None or (self._size <= self.most and len(self._pieces) <= MOST_PIECES)

    async def room(self) -> None:
        """Wait until the reader has taken what is here."""
        began = time.monotonic()
        timer = self._loop.call_later(STALL_SECONDS, self._stall)
        try:
            while not self._has_room():
                self._room = self._loop.create_future()
                await self._room
        finally:
            timer.cancel()
            self._room = None
            self.blocked += time.monotonic() - began

    def _stall(self) -> None:
        stalled, self.stalled = self.stalled, None
        if stalled is not None:
            stalled()

    def take_now(self) -> list[Piece]:
        """Return the pieces that are here, perhaps none."""
        pieces, self._pieces, self._size = self._pieces, [], 0
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        return pieces

    async def take(self) -> list[Piece]:
        """Wait for pieces and return all that are here; none: the stream has ended."""
        while not self._pieces and not self.is_closed:
            self._reader = self._loop.create_future()
            await self._reader
        return self.take_now()

    def close(self) -> None:
        """Take note that nothing more comes."""
        self.is_closed = True
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


class Receiving:
    """One request whose answer is streamed.

    Args:
        sink: where its pieces go.
        messages: what is asked.
        timeout: seconds from the request to the first piece, and from each piece to the next.
        wall: seconds since the epoch.
    """

    __slots__ = ("_began", "_count", "_decoder", "_messages", "_sink", "_timeout", "_wall", "first", "raw", "spent")

    def __init__(
        self, sink: Sink, messages: list[dict[str, Any]], timeout: float, wall: Callable[[], float] = time.time
    ) -> None:
        """Prepare it."""
        self._sink = sink
        self._messages = messages
        self._timeout = timeout
        self._wall = wall
        self._decoder: Decoder | None = None
        self._began = time.monotonic()
        self._count = 0
        #: The head of the answer, and its body where it was not streamed; None: none has come.
        self.raw: RawReply | None = None
        #: Seconds until the first piece came; None: none has.
        self.first: float | None = None
        #: What it has used, as far as known, if it does not come to its end; None: nothing is known of it.
        self.spent: Usage | None = None

    async def ask(self, http: HttpClient, provider: Provider, target: Target, body: bytes, left: float) -> WireReply:
        """Make the request, hand on the pieces, return the whole reply.

        Args:
            http: makes it.
            provider: whose format it has.
            target: where to.
            body: JSON.
            left: seconds that it may take in all.

        Raises:
            TimeoutError: they are over.
            LMError: it was refused, broke off, or nothing came for too long; `partial` has what came.
        """
        limit = Limit(left)
        try:
            return await self._ask(http, provider, target, body)
        except asyncio.CancelledError:
            self.spent = self._used()
            if not limit.has_ended_it():
                raise
        except LMError as error:
            if self.first is not None:
                self.spent = self._used()
                error.partial = self.partial
                error.usage = error.usage or (self.spent.to_dict() if self.spent else None)
            raise
        finally:
            limit.lift()
        raise TimeoutError

    async def _ask(self, http: HttpClient, provider: Provider, target: Target, body: bytes) -> WireReply:
        idle = _Idle(self._timeout)
        failure: LMError | None = None
        try:
            async with http.stream(target, body) as answer:
                self.raw = RawReply(answer.status, answer.headers, b"")
                if not _is_stream(answer.status, answer.headers):
                    self.raw = await answer.read()
                else:
                    answer.allow(MAX_STREAM)
                    self._decoder = provider.decoder(answer.status, answer.headers)
                    await self._receive(answer, self._decoder, idle)
        except StreamTruncated as error:
            failure = error
        except asyncio.CancelledError:
            if not idle.is_over():
                raise
            what = "a piece" if self.first is None else "another piece"
            failure = Timeout(f"{provider.name} has not sent {what} within timeout={self._timeout:g} s", retryable=True)
        finally:
            idle.stop()
        decoder = self._decoder
        if failure is not None and (decoder is None or not decoder.is_whole):
            raise failure
        if decoder is None:
            assert self.raw is not None
            return provider.read(self.raw, self._wall())
        return decoder.finish(self._wall())

    async def _receive(self, answer: Answer, decoder: Decoder, idle: _Idle) -> None:
        """Read the events up to the end mark, or to the end of the answer."""
        reader, now = EventReader(), asyncio.get_running_loop().time
        try:
            async for data in answer:
                if events := reader.feed(data):
                    before = self._count
                    if not self._take(events, decoder):
                        idle.last = None  # nobody reads: that is not the server's silence
                        await self._sink.room()
                        idle.last = now()
                    elif self._count != before:
                        idle.last = now()
                    if decoder.has_ended:
                        await _drain(answer)
                        return
            for event in reader.end():
                if event.data.rstrip().endswith((b"}", b"]")):  # else it was cut in the middle
                    self._take([event], decoder)
            return
        except EventTooLarge as exc:
            what = str(exc)
        raise Overloaded(f"the server streamed {what}, which no reply has", retryable=False)

    def _take(self, events: list[Event], decoder: Decoder) -> bool:
        """Hand on the pieces of events; return whether there is room for more."""
        pieces: list[Piece] = []
        now = self._wall()
        try:
            for event in events:
                decoder.take(event, pieces, now)
        finally:  # what came before an error is still given
            has_room = True
            if pieces:
                if self.first is None:
                    self.first = time.monotonic() - self._began
                self._count += len(pieces)
                has_room = self._sink.put(pieces)
        if self._sink.total > MAX_CHARACTERS:
            what = f"more than {MAX_CHARACTERS} characters"
            raise Overloaded(f"the server streamed {what}, which no reply has", retryable=False)
        return has_room

    @property
    def blocked(self) -> float:
        """Seconds for which its reader did not keep up."""
        return self._sink.blocked

    @property
    def partial(self) -> str | None:
        """The text that has come; None: nothing has."""
        return None if self.first is None else self._sink.text

    def told(self, meter: LMRequests) -> None:
        """Have it measured how long its first piece took."""
        if self.first is not None:
            meter.began(self.first)

    def _used(self) -> Usage | None:
        """Return what was used so far: what was told, and for the reply at least what has come."""
        if self.first is None:
            return None
        text = self._sink.text
        told = self._decoder.usage() if self._decoder is not None else None
        if told is None or not told.input_total:
            return estimate_usage(self._messages, text)
        kinds = told.to_dict()
        kinds["output_total"] = max(told.output_total, count(text))
        return Usage.from_dict({**kinds, "estimated": True})


class _Idle:
    """How long the server may be silent: cancels the task that makes it when nothing has come for so many seconds."""

    __slots__ = ("_before", "_is_over", "_loop", "_seconds", "_task", "_timer", "last")

    def __init__(self, seconds: float) -> None:
        """Begin with the request."""
        self._loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._before = task.cancelling()
        self._seconds = seconds
        self._is_over = False
        #: When something came last, by the loop's clock; None: it is not waited for.
        self.last: float | None = self._loop.time()
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        now = self._loop.time()
        left = self._seconds if self.last is None else self.last + self._seconds - now
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
            return
        self._timer = None
        self._is_over = True
        self._task.cancel()

    def stop(self) -> None:
        """Let it be."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.is_over()

    def is_over(self) -> bool:
        """Tell, once, whether it is this alone that has cancelled the task."""
        was_over, self._is_over = self._is_over, False
        return was_over and self._task.uncancel() <= self._before


def _is_stream(status: int, headers: Mapping[str, str]) -> bool:
    """Tell whether an answer is a stream: servers that know none answer as a whole, in JSON."""
    kind = headers.get("content-type", "").lower()
    return 200 <= status < 300 and "json" not in kind and "html" not in kind


async def _drain(answer: Answer) -> None:
    """Read what is left of an answer, if it is little and comes at once."""
    limit = Limit(DRAIN_SECONDS)
    left = DRAIN_BYTES
    try:
        async for data in answer:
            left -= len(data)
            if left < 0:
                return
    except asyncio.CancelledError:
        if not limit.has_ended_it():
            raise
    except LMError:
        pass
    finally:
        limit.lift()
