"""A lane: what is to be sent to one actor waits there while the last batch is out, and goes as the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from dspex_actors.foundation.linger import Linger

#: A batch has at most so many items, and about so many bytes.
MOST_ITEMS, MOST_BYTES = 256, 4 << 20

T = TypeVar("T")


class Lane(Generic[T]):
    """Items on their way to one actor, in order, a batch at a time: the more there is to do, the fewer the messages.

    No task carries them: what may go when `go` is called goes in that very turn of the loop.

    Args:
        send: sends a batch, and calls its second argument when the actor has it.
        size: bytes of an item.
        going_on: how many inferences are under way.
    """

    def __init__(
        self,
        send: Callable[[list[T], Callable[[], None]], None],
        size: Callable[[T], int],
        going_on: Callable[[], int],
    ) -> None:
        """Begin empty."""
        self._send, self._size, self._going_on = send, size, going_on
        self._loop = asyncio.get_running_loop()
        self._linger = Linger()
        self._waiting: list[T] = []
        self._is_out = False
        self._timer: asyncio.TimerHandle | None = None

    def put(self, item: T) -> None:
        """Add an item, which goes with the next batch."""
        self._waiting.append(item)

    def go(self) -> None:
        """Send what may go now; the rest follows by itself."""
        while self._waiting and not self._is_out and self._timer is None:
            wait = self._linger.wait(self._loop.time(), self._going_on())
            if wait:
                self._timer = self._loop.call_later(wait, self._time_has_come)
                return
            self._send_next()

    def _time_has_come(self) -> None:
        self._timer = None
        if not self._is_out:
            self._send_next()
        self.go()

    def _send_next(self) -> None:
        self._is_out = True
        self._linger.went(self._loop.time())
        self._send(self._next(), self._arrived)

    def _arrived(self) -> None:
        self._is_out = False
        if self._waiting:
            self._loop.call_soon(self.go)

    def close(self) -> None:
        """Send nothing more."""
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _next(self) -> list[T]:
        size = count = 0
        for item in self._waiting[:MOST_ITEMS]:
            size += self._size(item)
            if count and size > MOST_BYTES:
                break
            count += 1
        batch = self._waiting[:count]
        del self._waiting[:count]
        return batch
