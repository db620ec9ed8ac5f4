"""What a program that is streamed tells, and how it reaches who reads it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from typing import Any

from dspex_actors.foundation.config_errors import ConfigValueError
from dspex_actors.lm.stream import LMStream, pieces_of
from dspex_actors.programs.streaming.listener import Following, StreamListener
from dspex_actors.programs.streaming.messages import StatusMessage, StatusMessageProvider

#: So much may wait for its reader; then the program waits, and with it the LM.
MOST_WAITING = 16
#: A thread that waits looks so often, in seconds, whether its reader's loop is still there.
LOOK_SECONDS = 1.0

_log = logging.getLogger(__name__)


class ReaderGone(BaseException):
    """Nobody reads the program's stream any more; no program may catch it and go on asking."""


class Channel:
    """From a program, in threads and on any event loop, to one reader on one event loop.

    Args:
        loop: the reader's.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin empty."""
        self.loop = loop
        self.is_closed = False
        self._items: deque[Any] = deque()
        self._reader: asyncio.Future[None] | None = None
        #: Items that there was no room for, and who waits until there is.
        self._waiting: deque[tuple[Any, Future[None]]] = deque()

    def put(self, item: Any, taken: Future[None]) -> None:
        """Hand an item on; on the reader's loop.

        Args:
            item: the item.
            taken: has a result when there was room for it, and ReaderGone where nobody reads.
        """
        if not self.is_closed and len(self._items) >= MOST_WAITING:
            self._waiting.append((item, taken))
        elif not taken.set_running_or_notify_cancel():
            pass  # it was given up
        elif self.is_closed:
            taken.set_exception(ReaderGone())
        else:
            self.put_now(item)
            taken.set_result(None)

    def put_now(self, item: Any) -> None:
        """Hand an item on, whether there is room or not; on the reader's loop."""
        self._items.append(item)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def get(self) -> Any:
        """Wait for the next item."""
        while not self._items:
            self._reader = self.loop.create_future()
            await self._reader
        item = self._items.popleft()
        if self._waiting:
            self.put(*self._waiting.popleft())
        return item

    def close(self) -> None:
        """Let no writer wait, and none go on."""
        self.is_closed = True
        while self._waiting:
            self.put(*self._waiting.popleft())


class StreamTap:
    """Asks LMs in the predictors' place, as streams, and hands on what is listened to.

    Args:
        channel: to who reads.
        listeners: by the id of their predictor.
        provider: words the status messages.
    """

    def __init__(
        self, channel: Channel, listeners: Mapping[int, list[StreamListener]], provider: StatusMessageProvider
    ) -> None:
        """Hang in."""
        self._channel = channel
        self._listeners = listeners
        self._provider = provider
        self._open: set[LMStream] = set()
        #: By listener (its id) at which call it has heard its field first, and whether a cache has answered one.
        self._heard: dict[int, Following] = {}
        self.has_cached = False
        #: Replies of which something was handed on, by their ids.
        self._shown: dict[int, Any] = {}

    # --- what programs call -----------------------------------------------------------------------------------------

    def ask(self, predictor: Any, request: Any) -> Any:
        """Ask in a thread."""
        following = self._following(predictor, request)
        lm = request.lm
        self._lm_starts(request)
        if following is None or not callable(getattr(lm, "stream", None)):
            reply = lm(request.messages, **request.params)
            for item in self._items(following, pieces_of(reply)):
                self._put(item)
        else:
            with self._streaming(lm.stream(request.messages, **request.params)) as stream:
                for piece in stream:
                    for item in self._items(following, (piece,)):
                        self._put(item)
            reply = stream.reply
        for item in self._ended(following, reply):
            self._put(item)
        return reply

    async def aask(self, predictor: Any, request: Any) -> Any:
        """Ask on an event loop."""
        following = self._following(predictor, request)
        lm = request.lm
        self._lm_starts(request)
        if following is None or not callable(getattr(lm, "stream", None)):
            reply = await lm.acall(request.messages, **request.params)
            for item in self._items(following, pieces_of(reply)):
                await self._aput(item)
        else:
            with self._streaming(lm.stream(request.messages, **request.params)) as stream:
                async for piece in stream:
                    for item in self._items(following, (piece,)):
                        await self._aput(item)
            reply = stream.reply
        for item in self._ended(following, reply):
            await self._aput(item)
        return reply

    def was_shown(self, reply: Any) -> bool:
        """Tell whether some of a reply was handed on."""
        return id(reply) in self._shown

    def status(self, what: str, *about: Any) -> None:
        """Have a status message worded, and hand it on without waiting."""
        try:
            words = getattr(self._provider, what)(*about)
        except Exception:
            _log.exception("%s of %s failed", what, type(self._provider).__name__)
            return
        if not words:
            return
        if not isinstance(words, str):
            raise ConfigValueError(f"{what} is invalid: got {words!r:.80}, expected a text or None")
        loop, message = self._channel.loop, StatusMessage(words)
        if asyncio._get_running_loop() is loop:
            self._channel.put_now(message)
        else:
            with contextlib.suppress(RuntimeError):  # closed: nobody reads
                loop.call_soon_threadsafe(self._channel.put_now, message)

    def close(self) -> None:
        """End what is under way: nobody reads. On the reader's loop."""
        self._channel.close()
        for stream in list(self._open):
            stream.give_up()

    # --- inside -----------------------------------------------------------------------------------------------------

    def _following(self, predictor: Any, request: Any) -> list[Following] | None:
        """Return what follows the answer; None: nobody listens to this predictor."""
        if self._channel.is_closed:
            raise ReaderGone
        if not self._listeners:
            return []
        if getattr(request.adapter, "extraction_model", None) is not None:
            return None  # its fields come with the second step
        listeners = self._listeners.get(id(predictor), ())
        wanted = [each for each in listeners if each.allow_reuse or id(each) not in self._heard]
        return [Following(each, request) for each in wanted] or None

    @property
    def has_heard(self) -> bool:
        """Whether a field was handed on."""
        return bool(self._heard)

    @contextlib.contextmanager
    def _streaming(self, stream: LMStream) -> Iterator[LMStream]:
        self._open.add(stream)
        try:
            with stream:
                yield stream
        except Exception:
            if self._channel.is_closed:
                raise ReaderGone from None
            raise
        finally:
            self._open.discard(stream)

    def _items(self, following: list[Following] | None, pieces: Any) -> Iterator[Any]:
        """Return what of an answer's next pieces is handed on."""
        if following is None:
            return
        for piece in pieces:
            if not following:
                yield piece
            for each in following:
                response = each.take(piece)
                if response is not None and self._hears(each):
                    yield response

    def _hears(self, each: Following) -> bool:
        """Tell whether a listener wants to hear of this call: of calls at once the one whose field begins first."""
        return self._heard.setdefault(id(each.listener), each) is each or each.listener.allow_reuse

    def _ended(self, following: list[Following] | None, reply: Any) -> Iterator[Any]:
        for each in following or ():
            response = each.end(reply)
            if response is not None and self._hears(each):
                yield response
            self.has_cached = self.has_cached or each.listener.cache_hit
        if following == [] or any(each.has_shown for each in following or ()):
            self._shown[id(reply)] = reply
        self.status("lm_end_status_message", [getattr(reply, "text", None)])

    def _lm_starts(self, request: Any) -> None:
        inputs = {"prompt": None, "messages": request.messages, **request.params}
        self.status("lm_start_status_message", request.lm, inputs)

    def _put(self, item: Any) -> None:
        if asyncio._get_running_loop() is self._channel.loop:
            self._channel.put_now(item)  # a sync call inside async code: to wait here were to wait for oneself
            return
        taken = self._hand_over(item)
        while True:
            try:
                taken.result(LOOK_SECONDS)
                break
            except TimeoutError:
                if self._channel.is_closed or self._channel.loop.is_closed():
                    raise ReaderGone from None

    async def _aput(self, item: Any) -> None:
        if asyncio.get_running_loop() is not self._channel.loop:
            await asyncio.wrap_future(self._hand_over(item))
            return
        taken: Future[None] = Future()
        self._channel.put(item, taken)
        if taken.done():
            taken.result()
        else:
            await asyncio.wrap_future(taken)

    def _hand_over(self, item: Any) -> Future[None]:
        """Have an item put in on the reader's loop, from another thread."""
        taken: Future[None] = Future()
        try:
            self._channel.loop.call_soon_threadsafe(self._channel.put, item, taken)
        except RuntimeError:
            raise ReaderGone from None  # the loop is closed
        return taken
