"""The mailbox of a server: messages in order, what goes before them, and the wait for the next one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from supervisors.terms.carried import Carried, carried
from supervisors.terms.reason import ExitReason
from supervisors.terms.ref import Down, Ref
from supervisors.wire.messages import Stop, System


class Local:
    """A message to handle_info that comes from this process itself, so its value is an object and not packed bytes.

    Args:
        value: what handle_info gets.
        source: the number of the monitor, or the Ref of the link, that it is about; None: neither.
        load: what is carried with it; None: nothing.
    """

    __slots__ = ("load", "source", "value")

    def __init__(self, value: Any, source: int | Ref | None = None, load: Carried | bytes | None = None) -> None:
        """Hold the value."""
        self.value, self.source, self.load = value, source, load


class Crash:
    """A task that the server spawned has failed."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        """Carry the error."""
        self.error = error


class Continue:
    """A value for handle_continue, and what is carried where it was given."""

    __slots__ = ("load", "value")

    def __init__(self, value: Any) -> None:
        """Hold a value."""
        self.value, self.load = value, carried.get()


#: What a suspended server still takes.
_SYSTEM = (System, Stop, Crash)


class Mailbox:
    """Messages that wait for their handler.

    Args:
        loop: the loop that the server runs on.
        changed: called with the number of waiting messages whenever one comes in.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, changed: Callable[[int], None]) -> None:
        """Begin empty."""
        self._loop, self._changed = loop, changed
        self._messages: deque[Any] = deque()
        self._continues: deque[Continue] = deque()
        self._wake: asyncio.Future[bool] | None = None
        self.suspended = False
        #: Seconds without a message after which the server wants to be told; None: it does not.
        self.idle: float | None = None

    def __len__(self) -> int:
        """Return how many messages wait."""
        return len(self._messages)

    def put(self, item: Any) -> None:
        """Append a message."""
        self._messages.append(item)
        self._changed(len(self._messages))
        self._stir(True)

    def put_first(self, value: Any) -> None:
        """Have handle_continue take a value before any message."""
        self._continues.append(Continue(value))
        self._stir(True)

    def next(self) -> Any:
        """Take the next message; None when there is none that may be taken now."""
        if self.suspended:
            return self._next_of_system()
        if self._continues:
            return self._continues.popleft()
        return self._messages.popleft() if self._messages else None

    def _next_of_system(self) -> Any:
        for index, item in enumerate(self._messages):
            if isinstance(item, _SYSTEM):
                del self._messages[index]
                return item
        return None

    async def wait(self) -> bool:
        """Wait for a message, or until the server has been idle for as long as it said.

        Returns:
            Whether something came; False: the time is over.
        """
        self._wake = self._loop.create_future()
        limited = self.idle is not None and not self.suspended
        timer = self._loop.call_later(self.idle or 0.0, self._stir, False) if limited else None
        try:
            return await self._wake
        finally:
            self._wake = None
            if timer is not None:
                timer.cancel()

    def _stir(self, something: bool) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(something)

    def drop(self, source: int | Ref) -> None:
        """Remove the messages of a monitor (given its number) or of a link (given its Ref)."""
        kept = [item for item in self._messages if not (isinstance(item, Local) and item.source == source)]
        self._messages.clear()
        self._messages.extend(kept)

    def down(self, number: int, ref: Ref | None, reason: ExitReason) -> None:
        """Put a monitor's message here."""
        self.put(Local(Down(ref, reason), number))

    def exited(self, ref: Ref, reason: ExitReason) -> None:
        """Put a trapped exit signal here."""
        self.put(Local(("EXIT", ref, reason), ref))
