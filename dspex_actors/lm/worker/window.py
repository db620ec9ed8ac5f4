"""How many requests a server gets at once: few while it is unknown, more as it answers, fewer when it does not keep up.

A server that works on one request after the other (a local model) answers nothing in time when hundreds are sent to
it: it is busy with what is about to be given up. Additive increase and multiplicative decrease, as in TCP, but for two
things: one is sure from a single answer how many requests even such a server answers in time, and begins there; and
growth looks ahead, so that it need not come to timeouts to end.
"""

from __future__ import annotations

import asyncio
from collections import deque

from dspex_actors.foundation.limits import Limit

#: Requests at once to a server that has not answered yet: one of which nothing is known, and a provider's own.
START, START_KNOWN = 1, 4
#: A window grows by this factor while that is sure to go well; by that one if it only seems so; and by the third after
#: requests were late.
QUICK, HOPEFUL, CAREFUL = 64.0, 4.0, 1.25
#: Answers that take so many times as long as the quickest one mean that requests wait in the server.
CALM = 1.5
#: After each time that requests were late twice as many windows pass before more is tried than is sure; at most these.
MOST_CAUTION = 1024
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
        is_known: the server is a provider's own, which does many at once: it has only to answer first.
    """

    def __init__(self, most: int, *, is_known: bool = False) -> None:
        """Begin small."""
        self._most = most
        self._is_known = is_known
        self._start = START_KNOWN if is_known else START
        self.size = min(self._start, most)
        #: Goes up whenever the size changes: what was sent to a window of another size says nothing of this one.
        self.epoch = 0
        self._base: float | None = None
        # How many windows without late answers have to pass before more is tried than is sure; and how many have.
        self._caution = self._clean = 0
        self._begin()

    def _begin(self, size: int | None = None) -> None:
        if size is not None and size != self.size:
            self.size = size
            self.epoch += 1
        self._answers = self._late = 0
        self._worst = 0.0
        self._was_full = False

    def bound(self, most: int) -> None:
        """Have another upper limit from now on."""
        self._most = most
        self._begin(min(self.size, most))

    def full(self) -> None:
        """Take note that as many requests as may be are under way."""
        self._was_full = True

    def answered(self, latency: float, timeout: float, epoch: int) -> None:
        """Take in an answer.

        Args:
            latency: seconds that it took.
            timeout: seconds that it might have taken.
            epoch: what `epoch` was when it was sent.
        """
        latency = max(latency, 1e-6)
        if self._base is None:
            self._base = latency
            sure = self._most if self._is_known else min(self._most, int(timeout * FIRST / latency))
            if sure > self.size:
                self._begin(sure)
                return
        self._base = min(self._base, latency)
        if epoch < self.epoch:
            return
        self._answers += 1
        self._worst = max(self._worst, latency)
        if self._answers + self._late >= self.size:
            self._begin(self._grown(timeout) if self._was_full else None)
        elif self._was_full and not self._late and not self._caution and self._is_enough_for_all(timeout):
            self._begin(self._most)

    def _is_enough_for_all(self, timeout: float) -> bool:
        """Tell whether the answers of this window, which is not over, are enough to open it wholly.

        So many in so long say what the first one alone has said, of so many times as many. Where they do not yet say
        enough for all, it is better to wait for the rest: what is under way counts no more after a change.
        """
        return self._answers * timeout * FIRST >= self._worst * self._most and self.size < self._most

    def _grown(self, timeout: float) -> int:
        self._clean += 1
        # How many it answers in time even if it does one after the other, and all who ask it grow alike.
        foreseen = self.size * timeout * FORESEEN / self._worst
        wanted = min(foreseen, self.size * (CAREFUL if self._caution else QUICK))
        if foreseen < self.size + 1 and self._is_calm() and self._clean >= self._caution:
            # Its answers take long, but not since requests wait: more of them are tried, ever more rarely.
            wanted = self.size * (CAREFUL if self._caution else HOPEFUL) + 1
            self._clean = 0
        return min(self._most, max(self.size, int(wanted)))

    def _is_calm(self) -> bool:
        return self._base is not None and self._worst <= CALM * self._base

    def late(self, epoch: int) -> None:
        """Take in a request that had no answer in time.

        Args:
            epoch: what `epoch` was when it was sent.
        """
        if epoch < self.epoch:
            return
        self._late += 1
        if (self._late >= LEAST or not self._answers) and self._late > SHARE * self.size:
            self._caution = min(MOST_CAUTION, max(1, 2 * self._caution))
            self._begin(max(1, self.size // 2))

    def narrow(self) -> None:
        """Ask one at a time, until there is an answer."""
        self._begin(1)

    def open_again(self) -> None:
        """Ask as an unknown server is asked."""
        if self._base is None:
            self._begin(min(self._start, self._most))


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

    def take_free(self) -> bool:
        """Take a place if there is one and nobody waits for it; return whether there was."""
        if self.taken < self.window.size and not self._waiting:
            self.taken += 1
            return True
        return False

    async def take(self, seconds: float) -> bool:
        """Wait for a place; return whether there was one within so many seconds."""
        if self.take_free():
            return True
        self.window.full()
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        limit = Limit(seconds)
        try:
            await place
        except BaseException:
            if place.done() and not place.cancelled():
                self.release()  # it came at the same moment
            place.cancel()
            if not limit.has_ended_it():
                raise
            return False
        finally:
            limit.lift()
        return True

    def take_more(self) -> None:
        """Take a place beyond the window's."""
        self.taken += 1

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
        if self._waiting:
            self.window.full()
