"""`LMStream`: a reply that is read as it comes.

::

    with lm.stream("Tell me a story.") as story:
        for piece in story:
            print(piece, end="")
    story.reply.usage

    async for piece in lm.stream("Tell me a story."):
        print(piece, end="")
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from contextvars import Context, copy_context
from types import TracebackType
from typing import Any, Protocol, Self

from dspex_actors.errors import ConfigError, LMError
from dspex_actors.foundation.operation import Operation
from dspex_actors.lm.content.parts import Thinking, ToolCall
from dspex_actors.lm.content.pieces import Piece
from dspex_actors.lm.reply import LMReply
from dspex_actors.settings import book_call, book_failure

#: Pieces that have come, and behind the last ones the whole reply.
Batch = tuple[list[Piece], LMReply | None]


class BusyError(ConfigError):
    """A piece is being awaited already: it is not the stream that failed."""


class Source(Protocol):
    """Where a stream's pieces come from. What goes wrong is raised; after that, and after a reply, nothing is asked."""

    def next(self) -> Batch:
        """Wait for pieces or the end, in a thread without an event loop."""
        ...

    async def anext(self) -> Batch:
        """Wait for pieces or the end, in an event loop. Cancelled, it loses nothing: the next call goes on."""
        ...

    def close(self) -> None:
        """Want nothing more; from any thread, any number of times."""
        ...


class LMStream:
    """The pieces of one reply, as an iterator for `for` and for `async for`; `lm.stream(...)` makes it.

    The LM is asked when the first piece is. Until then, and as long as nothing has come, what fails is asked again as
    in any call; after the first piece nothing is. Who reads slowly slows the server down, and who does not read on
    (`break`, `close()`, the end of its `with`, the end of the program) ends the request: what came is paid, and booked.

    Attributes:
        reply: the whole reply, with usage and cost, when the last piece was read; None before.
    """

    def __init__(self, source: Source, operation: Operation | None = None) -> None:
        """Read from a source.

        Args:
            source: where the pieces come from.
            operation: what the call is in what is recorded, and it goes into the record of calls that is open where it
                ends; it starts with the first piece. None: somebody else sees to that.
        """
        self.reply: LMReply | None = None
        self._source = source
        self._ready: deque[Piece] = deque()
        self._has_given = self._is_over = False
        self._operation = operation
        self._context: Context | None = None

    # --- reading ----------------------------------------------------------------------------------------------------

    def __iter__(self) -> Self:
        """Return itself.

        Raises:
            ConfigError: it has been read, or closed: there is nothing that could come a second time.
        """
        self._check_unread()
        return self

    def __aiter__(self) -> Self:
        """Return itself; as `iter(stream)`."""
        self._check_unread()
        return self

    def __next__(self) -> Piece:
        """Return the next piece; wait for it.

        Raises:
            LMError: the reply does not come, or broke off (`error.partial` has the text that came).
            ConfigError: a piece is being awaited just now.

        On an event loop it makes the loop wait, as `lm(...)` does; `async for` does not.
        """
        while not self._ready:
            if self._is_over:
                raise StopIteration
            try:
                self._take(self._started().run(self._source.next))
            except BusyError:
                raise
            except BaseException as error:
                self._failed(error)
                raise
        return self._ready.popleft()

    async def __anext__(self) -> Piece:
        """Return the next piece; as `next(stream)`, from inside an event loop."""
        while not self._ready:
            if self._is_over:
                raise StopAsyncIteration
            context = self._started()
            try:
                # In the operation's context, where it begins: what the worker tells belongs to it.
                batch = await (self._source.anext() if self._has_given else _within(context, self._source))
            except asyncio.CancelledError:
                raise  # who waits for a piece only so long may ask again
            except BaseException as error:
                self._failed(error)
                raise
            self._take(batch)
        return self._ready.popleft()

    def read(self) -> LMReply:
        """Read what is left and return the whole reply."""
        with suppress(StopIteration):
            while True:
                next(self)
        return self._whole()

    async def aread(self) -> LMReply:
        """Read what is left and return the whole reply; from inside an event loop."""
        with suppress(StopAsyncIteration):
            while True:
                await anext(self)
        return self._whole()

    # --- ending -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Want nothing more: a request that is under way is cancelled. Idempotent, and of no effect after the end."""
        if not self._is_over:
            self._over(None)

    def give_up(self) -> None:
        """Want nothing more, from a thread that is not the reader's: who waits for the next piece gets an error."""
        self._source.close()

    async def aclose(self) -> None:
        """Do what `close` does."""
        self.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, frames: object) -> None:
        """Close it."""
        self.close()

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def __del__(self) -> None:
        """Close what nobody reads any more."""
        if not getattr(self, "_is_over", True) and self._context is not None:
            self._is_over = True
            with suppress(Exception):  # an interpreter that ends, say
                self._source.close()

    def __repr__(self) -> str:
        """Show how far it is."""
        state = "read" if self.reply is not None else "closed" if self._is_over else "open"
        return f"<LMStream {state}>"

    # --- inside -----------------------------------------------------------------------------------------------------

    def _check_unread(self) -> None:
        if self._is_over and not self._ready:
            what = "read to its end: its reply is `stream.reply`" if self.reply is not None else "closed, or broke off"
            raise ConfigError(f"the stream was {what}; `lm.stream(...)` asks anew")

    def _started(self) -> Context:
        if self._context is None:
            self._context = copy_context()
            if self._operation is not None:
                self._context.run(self._operation.__enter__)
        return self._context

    def _take(self, batch: Batch) -> None:
        pieces, reply = batch
        self._ready.extend(pieces)
        self._has_given = self._has_given or bool(pieces)
        if reply is not None:
            if not self._has_given:
                self._ready.extend(pieces_of(reply))
            self.reply = reply
            self._over(reply)

    def _failed(self, error: BaseException) -> None:
        if not self._is_over:
            self._over(error)

    def _over(self, outcome: Any) -> None:
        """End it: with its reply, an error, or None where nobody reads on."""
        self._is_over = True
        self._source.close()
        if self._context is None:
            return
        error = outcome if isinstance(outcome, BaseException) else None
        if self._operation is None:
            return
        self._operation.outputs = outcome if error is None else None
        self._context.run(self._operation.__exit__, type(error) if error else None, error, None)
        if isinstance(outcome, LMReply):
            book_call(outcome)
        else:
            book_failure(getattr(error, "asked", None) or (1 if self._has_given else 0))

    def _whole(self) -> LMReply:
        if self.reply is None:
            raise LMError("the stream was closed before its end: there is no whole reply")
        return self.reply


def pieces_of(reply: Any) -> list[Piece]:
    """Return a reply that came as a whole, from a cache or an LM of the user's own, as pieces."""
    pieces: list[Piece] = []
    calls = 0
    for part in getattr(reply, "content", None) or ():
        if isinstance(part, Thinking) and part.text:
            pieces.append(Piece("thinking", part.text))
        elif isinstance(part, ToolCall):
            pieces.append(Piece("tool_call", part.text, calls, part.id, part.name))
            calls += 1
    text = getattr(reply, "text", None)
    return [*pieces, Piece("text", text)] if text and isinstance(text, str) else pieces


async def _within(context: Context, source: Source) -> Batch:
    return await asyncio.get_running_loop().create_task(source.anext(), context=context)
