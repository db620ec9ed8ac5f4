"""One answer that many wait for, on one event loop."""

from __future__ import annotations

import asyncio
from collections import deque


class Flight:
    """An answer that is being asked for. Who asks it `land`s it for all that wait, or `hand_on`s to one of them."""

    __slots__ = ("_waiting", "is_left")

    def __init__(self) -> None:
        """Begin with nobody waiting."""
        #: Whether the last one it was handed on to has given up just then: nobody asks.
        self.is_left = False
        self._waiting: deque[asyncio.Future[bytes | None]] = deque()

    async def join(self, seconds: float) -> bytes | None:
        """Wait for what lands; None: it has failed, and this one has to ask now.

        Raises:
            TimeoutError: it did not come in so many seconds.
        """
        future: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            async with asyncio.timeout(seconds):
                return await future
        except BaseException:
            if future.done() and not future.cancelled() and future.result() is None:
                self.is_left = not self.hand_on()  # who gives up just then does not ask
            raise

    def land(self, answer: bytes) -> None:
        """Give the answer to all that wait."""
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(answer)

    def hand_on(self) -> bool:
        """Have the next one that waits ask; say whether there is one."""
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)
                return True
        return False
