"""Streams of LMs of the user's own: piece by piece where they have a `forward_stream`, else the whole reply at once."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from typing import Any, Protocol

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.bridge import in_background_loop, in_thread
from dspex_actors.lm.attempts import count_own
from dspex_actors.lm.content.pieces import Piece
from dspex_actors.lm.reply import LMReply
from dspex_actors.lm.stream import Batch, pieces_of


class Entry(Protocol):
    """One call in the books; see `base._Entry`."""

    def __enter__(self) -> Any:
        """Begin it."""
        ...

    def __exit__(self, *error: Any) -> None:
        """Enter how it ended."""
        ...

    def answered(self, answer: Any) -> LMReply:
        """Return what the LM has answered as a reply."""
        ...


class WholeSource:
    """The reply as one batch.

    Args:
        ask: asks the LM in a thread.
        aask: asks it on an event loop.
    """

    def __init__(self, ask: Callable[[], LMReply], aask: Callable[[], Any]) -> None:
        """Prepare it."""
        self._ask, self._aask = ask, aask

    def next(self) -> Batch:
        """Ask in a thread."""
        reply = self._ask()
        return pieces_of(reply), reply

    async def anext(self) -> Batch:
        """Ask on an event loop."""
        reply = await self._aask()
        return pieces_of(reply), reply

    def close(self) -> None:
        """Do nothing: it has answered, or nobody waits."""


def whole(generator: Any, name: str) -> Any:
    """Return what a `forward_stream` comes to: what it returns, else its texts.

    Args:
        generator: what it has made.
        name: of the LM, for errors.
    """
    texts: list[str] = []
    if hasattr(generator, "__anext__"):

        async def collect() -> None:
            texts.extend([str(each) async for each in generator])

        in_background_loop(collect, name)
        return "".join(texts)
    generator = iter(generator)
    while True:
        try:
            texts.append(str(next(generator)))
        except StopIteration as end:
            return "".join(texts) if end.value is None else end.value


class OwnSource:
    """What a `forward_stream` yields, texts or pieces; what it returns is the reply, else the texts are.

    Args:
        name: of the LM, for errors.
        begin: begins the generator, which may be an async one.
        entry: of the call in the books.
    """

    def __init__(self, name: str, begin: Callable[[], Any], entry: Entry) -> None:
        """Prepare it."""
        self._name, self._begin, self._entry = name, begin, entry
        #: All of it runs in one context: what the books open there, they close there.
        self._context = copy_context()
        self._generator: Any = None
        self._texts: list[str] = []
        self._is_entered = self._is_over = self._is_closing = False
        self._running = threading.Lock()
        #: The loop of an async one, and the piece that is waited for there.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pending: asyncio.Task[Batch] | None = None

    def next(self) -> Batch:
        """Take the next piece in a thread."""
        if self._is_async():
            return in_background_loop(self._in_context, self._name)  # type: ignore[no-any-return]
        try:
            with self._running:
                return self._context.run(self._step)
        finally:
            if self._is_closing:  # while it was at work: nobody else could
                self.close()

    async def anext(self) -> Batch:
        """Take the next piece on an event loop; a plain generator runs in a thread. Cancelled, it loses nothing."""
        if self._pending is None:
            self._pending = asyncio.get_running_loop().create_task(self._taken())
        batch = await asyncio.shield(self._pending)
        self._pending = None
        return batch

    async def _taken(self) -> Batch:
        if self._is_async():
            return await self._in_context()
        return await in_thread(self.next)  # type: ignore[no-any-return]

    async def _in_context(self) -> Batch:
        self._loop = asyncio.get_running_loop()
        return await asyncio.get_running_loop().create_task(self._anext(), context=self._context)

    def _is_async(self) -> bool:
        if self._generator is None:
            self._generator = self._context.run(self._opened)
        return hasattr(self._generator, "__anext__")

    def _opened(self) -> Any:
        counted = count_own()
        if counted is not None and asyncio._get_running_loop() is None:
            counted.result()
        self._entry.__enter__()
        self._is_entered = True
        try:
            made = self._begin()
            if inspect.iscoroutine(made):
                made.close()
                raise self._no_generator("a coroutine")
            if hasattr(made, "__aiter__"):
                return made.__aiter__()
            if isinstance(made, str | dict) or not hasattr(made, "__iter__"):
                raise self._no_generator(type(made).__name__)
            return iter(made)
        except BaseException as error:
            self._ended(error)
            raise

    def _step(self) -> Batch:
        try:
            return [self._piece(next(self._generator))], None
        except StopIteration as end:
            return self._whole(end.value)
        except BaseException as error:
            self._ended(error)
            raise

    async def _anext(self) -> Batch:
        try:
            return [self._piece(await anext(self._generator))], None
        except StopAsyncIteration:
            return self._whole(None)
        except BaseException as error:
            self._ended(error)
            raise

    def _piece(self, given: Any) -> Piece:
        piece = Piece("text", given) if isinstance(given, str) else given
        if not isinstance(piece, Piece):
            raise ConfigError(
                f"what forward_stream of {self._name} yields is invalid: got {type(given).__name__}, expected texts or "
                "pieces"
            )
        if piece.kind == "text":
            self._texts.append(piece.text)
        return piece

    def _whole(self, answer: Any) -> Batch:
        try:
            reply = self._entry.answered("".join(self._texts) if answer is None else answer)
        except BaseException as error:
            self._ended(error)
            raise
        self._ended(None)
        return [], reply

    def _ended(self, error: BaseException | None) -> None:
        if self._is_entered and not self._is_over:
            self._is_over = True
            self._entry.__exit__(type(error) if error else None, error, None)

    def close(self) -> None:
        """End the generator: now, or when it has given what it is at work on."""
        self._is_closing = True
        pending, self._pending = self._pending, None
        if pending is not None and not pending.done() and self._loop is not None:
            _soon(self._loop, pending.cancel)
        if self._is_over or not self._is_entered or not self._running.acquire(blocking=False):
            return
        try:
            with suppress(Exception):
                self._context.run(self._close)
        finally:
            self._running.release()
        if (loop := self._loop) is not None and hasattr(self._generator, "aclose"):
            # What it has to tidy up it does in its own loop, and in its context, which is left here.
            _soon(loop, lambda: loop.create_task(self._aclose(), context=self._context))

    def _close(self) -> None:
        self._ended(GeneratorExit())
        if not hasattr(self._generator, "__anext__") and hasattr(self._generator, "close"):
            self._generator.close()

    async def _aclose(self) -> None:
        with suppress(Exception):  # it is at work, and is being cancelled
            await self._generator.aclose()

    def _no_generator(self, got: str) -> ConfigError:
        return ConfigError(
            f"forward_stream of {self._name} is invalid: got {got}, expected a generator of texts or pieces"
        )


def _soon(loop: asyncio.AbstractEventLoop, function: Callable[[], Any]) -> None:
    """Have a function called in a loop, if it still runs."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(function)
