"""How many requests a server gets at once: few while it is unknown, more as it answers, fewer when it does not keep up.

A server that works on one request after the other (a local model) answers nothing in time when hundreds are sent to
it: it is busy with what is about to be given up. Additive increase and multiplicative decrease, as in TCP, but for two
things: one is sure from a single answer how many requests even such a server answers in time, and begins there; and
growth looks ahead, so that it need not come to timeouts to end.
"""

from __future__ import annotations

import asyncio
from collections import deque

#: Requests at once to a server that has not answered yet.
START = 4
#: A window grows by this factor while nothing is known against it; and by that one after it had to shrink.
QUICK, CAREFUL = 8.0, 1.25
#: Answers that take so many times as long as the quickest one mean that requests wait in the server.
CALM = 2.0
#: Part of the timeout that a request may wait in a server that does one after the other: in that server when it is
#: known by its first answer only (others ask it too), and when it is known how long its answers take.
FIRST, FORESEEN = 1 / 8, 1 / 2
#: So many requests without an answer in time, and more than this share of the window, shrink it: single ones that
#: hang happen anywhere.
LEAST, SHARE = 2, 0.1


class Window:
    """Decides how many requests may be under way. Pure: no clock.

    Args:
        most: never more than so many.
    """

    def __init__(self, most: int) -> None:
        """Begin small."""
        self._most = most
        self.size = min(START, most)
        #: Whether the server has answered anything.
        self.is_known = False
        #: How often it has shrunk.
        self.shrinks = 0
        self._base = 0.0
        self._begin()

    def _begin(self) -> None:
        self._answers = self._late = 0
        self._worst = 0.0
        self._was_full = False

    def bound(self, most: int) -> None:
        """Have another upper limit from now on."""
        self._most = most
        self.size = min(self.size, most)

    def full(self) -> None:
        """Take note that as many requests as may be are under way."""
        self._was_full = True

    def answered(self, latency: float, timeout: float) -> None:
        """Take in an answer.

        Args:
            latency: seconds that it took.
            timeout: seconds that it might have taken.
        """
        latency = max(latency, 1e-6)
        if not self.is_known:
            self.is_known = True
            self._base = latency
            self.size = max(self.size, min(self._most, int(timeout * FIRST / latency)))
        self._base = min(self._base, latency)
        self._answers += 1
        self._worst = max(self._worst, latency)
        if self._answers + self._late < self.size:
            return
        if self._was_full:
            wanted = self.size * (CAREFUL if self.shrinks else QUICK)
            if self._worst > CALM * self._base:
                wanted = min(wanted, self.size * timeout * FORESEEN / self._worst)
            if wanted > self.size:
                self.size = min(self._most, max(self.size + 1, int(wanted)))
        self._begin()

    def late(self, shrinks: int) -> None:
        """Take in a request that had no answer in time.

        Args:
            shrinks: what `shrinks` was when it was sent: what was sent to a larger window says nothing of this one.
        """
        if shrinks < self.shrinks:
            return
        self._late += 1
        if (self._late >= LEAST or not self._answers) and self._late > SHARE * self.size:
            self.size = max(1, self.size // 2)
            self.shrinks += 1
            self._begin()

    def narrow(self) -> None:
        """Ask one at a time, until there is an answer."""
        self.size = 1
        self._begin()


class Slots:
    """The places of a window: who wants to make a request waits for one, first come first served.

    Args:
        window: how many there are.
    """

    def __init__(self, window: Window) -> None:
        """Begin with all of them free."""
        self.window = window
        self.taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self, seconds: float) -> bool:
        """Wait for a place; return whether there was one within so many seconds."""
        if self.taken < self.window.size and not self._waiting:
            self.taken += 1
            return True
        self.window.full()
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            async with asyncio.timeout(seconds):
                await place
        except BaseException as error:
            if place.done() and not place.cancelled():
                self.release()  # it came at the same moment
            place.cancel()
            if isinstance(error, TimeoutError):
                return False
            raise
        return True

    def release(self) -> None:
        """Give a place back; whoever waits longest gets it, if the window has not shrunk meanwhile."""
        self.taken -= 1
        self.refill()

    def refill(self) -> None:
        """Hand out what is free, after the window has grown."""
        while self._waiting and self.taken < self.window.size:
            place = self._waiting.popleft()
            if not place.done():
                self.taken += 1
                place.set_result(None)
