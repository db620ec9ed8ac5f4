"""The base of this library's own servers: what strangers send is answered, or dropped and logged, and fells none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from supervisors.genserver import NO_REPLY, GenServer, Stop
from supervisors.terms.awaitable import maybe_await
from supervisors.terms.errors import CallFailed, SupervisorsError, unknown_request
from supervisors.terms.ref import Caller
from supervisors.terms.showing import sketched


class SystemServer(GenServer):
    """A server that others lean on.

    A subclass overrides `answer`, `take_cast` and `take_info` in the place of handle_call, handle_cast and handle_info.
    An exception in one of them is logged and ends nothing; `Stop` ends the server.
    """

    #: What it is, in the words of its refusals.
    WHAT = "this server"

    async def handle_call(self, request: Any, caller: Caller) -> Any:
        """Reply with what `answer` returns, or with the error of this library that it raises."""
        return await self._answered(caller, self.answer, request, caller)

    def answer_later(self, caller: Caller, answer: Awaitable[Any]) -> Any:
        """Reply with what is awaited once it is there, or with its error; others need not wait for it.

        Returns:
            NO_REPLY, for `answer` to return.
        """

        async def later() -> None:
            reply = await self._answered(caller, lambda: answer)
            if reply is not NO_REPLY:
                self.reply(caller, reply)

        self.spawn(later())
        return NO_REPLY

    async def _answered(self, caller: Caller, answer: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return await maybe_await(answer(*arguments))
        except SupervisorsError as error:
            self.reply_error(caller, error)
        except Stop:
            raise
        except Exception as error:
            self.log.error("a request could not be answered", exc_info=error)
            self.reply_error(caller, CallFailed(f"{self.WHAT} could not answer: {type(error).__name__}: {error}"))
        return NO_REPLY

    async def handle_cast(self, message: Any) -> None:
        """Take a cast by `take_cast`."""
        try:
            await maybe_await(self.take_cast(message))
        except Stop:
            raise
        except Exception as error:
            self.log.error("a cast could not be taken", exc_info=error)

    async def handle_info(self, message: Any) -> None:
        """Take any other message by `take_info`."""
        try:
            await maybe_await(self.take_info(message))
        except Stop:
            raise
        except Exception as error:
            self.log.error("a message could not be taken", exc_info=error)

    def answer(self, request: Any, caller: Caller) -> Any:
        """Return the reply, or NO_REPLY; raise a SupervisorsError for the caller; may be async."""
        raise self.unknown(request)

    def unknown(self, request: Any, why: str = "") -> CallFailed:
        """Return the error that answers an unknown request.

        Args:
            request: what came.
            why: what is wrong with it, where its name is known.
        """
        return unknown_request(self.WHAT, request, why)

    def take_cast(self, message: Any) -> Any:
        """Log and drop what is not understood; may be async."""
        self.log.warning("message not understood", message=sketched(message, 200))

    def take_info(self, message: Any) -> Any:
        """Do the same."""
        self.log.warning("message not understood", message=sketched(message, 200))
