"""What the five members have in common: nothing that they are sent ends them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from dspex_actors.ecosystem.inference.messages import Conclusions
from dspex_actors.observe.events.sending import ActorSender
from dspex_actors.observe.reporting import report_last
from supervisors import NO_REPLY, Caller, GenServer
from supervisors.errors import CallFailed

#: A member that is stopped has so many seconds to tell the events that it has not told yet.
LAST_SECONDS = 1.0


class InferenceMember(GenServer):
    """Base of the members of an inference ecosystem."""

    #: What sends the events of this process; set by `init`.
    _events: ActorSender

    async def terminate(self, reason: Any) -> None:
        """Tell what was emitted and measured last: an ecosystem may end with the inference that it was for."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                await self._events.send()
        await report_last()

    def handle_call(self, request: Any, caller: Caller) -> Any:
        """Refuse a request that is not known."""
        self.reply_error(caller, CallFailed(f"{type(self).__name__} does not know the request {request!r:.200}"))
        return NO_REPLY

    def handle_cast(self, message: Any) -> None:
        """Hear how inferences ended, which most have nothing to do about; drop what is not known."""
        if not isinstance(message, Conclusions):
            self.log.warning("a member of an ecosystem does not know a message", message=repr(message)[:200])
