"""The base of this library's own servers: an unknown request is refused, and does the server no harm."""

from __future__ import annotations

from typing import Any

from supervisors.genserver import NO_REPLY, GenServer
from supervisors.terms.awaitable import maybe_await
from supervisors.terms.errors import CallFailed, SupervisorsError, unknown_request
from supervisors.terms.ref import Caller
from supervisors.terms.showing import sketched


class SystemServer(GenServer):
    """A server that others lean on: a subclass overrides `answer` in the place of handle_call."""

    #: What it is, in the words of its refusals.
    WHAT = "this server"

    async def handle_call(self, request: Any, caller: Caller) -> Any:
        """Reply with what `answer` returns, or with the error of this library that it raises."""
        try:
            return await maybe_await(self.answer(request, caller))
        except SupervisorsError as error:
            self.reply_error(caller, error)
            return NO_REPLY

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

    def handle_cast(self, message: Any) -> Any:
        """Log and drop what is not understood."""
        self.log.warning("message not understood", message=sketched(message, 200))
