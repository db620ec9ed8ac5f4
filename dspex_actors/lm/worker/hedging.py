"""A second request for an answer that takes longer than nearly all do; the first answer counts.

Source: Jeffrey Dean and Luiz André Barroso, "The Tail at Scale", Communications of the ACM 56, 2013: a hedge after the
95th percentile costs a few per cent of requests more, and takes most of the tail away.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from dspex_actors.lm.wire.exchange import WireReply
from dspex_actors.lm.worker.call import Call
from dspex_actors.lm.worker.http import Target

T = TypeVar("T")

#: Of so many answers the latencies are known; with fewer than the least nobody knows what is long.
MEMORY, LEAST = 256, 20
#: What is longer than so many of 100 answers is long.
PERCENTILE = 95
#: At most this share of the requests are hedges.
SHARE = 0.05
#: After so many answers the percentile is looked up again.
_EVERY = 16


class Hedges:
    """When a second request is due, and whether it may be made. Pure."""

    def __init__(self) -> None:
        """Begin without knowing any latency."""
        self._latencies: deque[float] = deque(maxlen=MEMORY)
        self._since = 0
        self._after: float | None = None
        #: Requests that might have been hedged, and those that were.
        self.asked = self.hedged = 0

    def answered(self, seconds: float) -> None:
        """Take in how long an answer took."""
        self._latencies.append(seconds)
        self._since += 1
        if len(self._latencies) >= LEAST and (self._after is None or self._since >= _EVERY):
            self._since = 0
            ordered = sorted(self._latencies)
            self._after = ordered[min(len(ordered) - 1, len(ordered) * PERCENTILE // 100)]

    @property
    def after(self) -> float | None:
        """Seconds after which a second request is due; None: nobody knows yet."""
        return self._after

    def begin(self) -> None:
        """Take note of a request that may be hedged."""
        self.asked += 1

    def take(self) -> bool:
        """Say whether a hedge may be made now, and count it."""
        if self.hedged + 1 > SHARE * self.asked:
            return False
        self.hedged += 1
        return True


async def first_of(
    begin: Coroutine[Any, Any, T], second: Callable[[], Coroutine[Any, Any, T]], after: float, may: Callable[[], bool]
) -> T:
    """Return what answers first: a request, or a second one that is begun when the first takes long.

    The other one is cancelled, and has ended when this returns. Where one fails the other is waited for; where both
    do, the first one's error is raised.

    Args:
        begin: the first request.
        second: makes the second one.
        after: it is begun after so many seconds.
        may: says at that moment whether it may be.
    """
    loop = asyncio.get_running_loop()
    first = loop.create_task(begin)
    tasks = [first]
    try:
        await asyncio.wait(tasks, timeout=after)
        if first.done() or not may():
            return await first
        tasks.append(loop.create_task(second()))
        running: set[asyncio.Task[T]] = set(tasks)
        while running:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task in done and not task.cancelled() and task.exception() is None:
                    return task.result()
        return await first
    finally:
        left = [task for task in tasks if not task.done()]
        for task in left:
            task.cancel()
        for task in left:
            with contextlib.suppress(BaseException):
                await asyncio.shield(asyncio.wait([task]))
        for task in tasks:  # an error of one that is not needed was looked at
            if task.done() and not task.cancelled():
                task.exception()


class Hedging:
    """The hedges of one session.

    Args:
        request: makes a request of a call that has its turn: call, target, body, what is reserved.
        turn: waits for a call's turn to ask something; returns what is reserved.
        release: gives its place back.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        request: Callable[[Call, Target, bytes, int], Coroutine[Any, Any, WireReply]],
        turn: Callable[[Call, bytes], Coroutine[Any, Any, int]],
        release: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        """Begin without knowing any latency."""
        self.hedges = Hedges()
        self._request, self._turn, self._release, self._clock = request, turn, release, clock

    async def ask(self, call: Call, target: Target, body: bytes, reserved: int) -> WireReply:
        """Make a request, and a second one if the answer takes long; return the first answer."""
        began = self._clock()
        self.hedges.begin()
        first = self._request(call, target, body, reserved)
        after = self.hedges.after
        if after is None:
            reply = await first
        else:
            reply = await first_of(first, lambda: self._second(call, target, body), after, self.hedges.take)
        self.hedges.answered(self._clock() - began)
        return reply

    async def _second(self, call: Call, target: Target, body: bytes) -> WireReply:
        reserved = await self._turn(call, body)  # of its own: nothing is asked beyond a limit
        try:
            return await self._request(call, target, body, reserved)
        finally:
            self._release()
