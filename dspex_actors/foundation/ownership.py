"""Whether what this process does is still its own: one that stood still may have been taken for dead meanwhile.

A process that is stopped (SIGSTOP), or whose host sleeps, misses nothing that it could notice by itself: it goes on in
the middle of what it did. Others have given its work to somebody by then, and whatever it asks is paid twice. So it
looks at a clock again and again. Where more time has passed than others need to take it for dead, it asks whoever
knows whether its work is still its own, and lets nothing new out before it has heard.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

#: Who did not run for longer than so many seconds asks. No node is taken to be down before twice this has passed.
STILL_SECONDS = 1.0
#: The clock is looked at this often, in seconds, whatever else happens.
BEAT_SECONDS = 0.25

#: Seconds that only grow, also while the host sleeps where it can tell; read for each example and each request.
boot_clock: Callable[[], float] = partial(time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Ownership:
    """Knows whether something is surely this process's own.

    Args:
        spawn: runs a coroutine.
        confirm: asks whoever knows, as long as it takes; returns whether it is still this process's.
        kept: called when it is known to be.
        lost: called when it is known not to be, before those that wait hear it.
        clock: seconds that only grow, also while this process does not run.
    """

    __slots__ = ("_asking", "_clock", "_confirm", "_kept", "_lost", "_seen", "_spawn", "_stops", "_timer")

    def __init__(
        self,
        spawn: Callable[[Coroutine[Any, Any, bool]], asyncio.Task[bool]],
        confirm: Callable[[], Awaitable[bool]],
        *,
        kept: Callable[[], object] = lambda: None,
        lost: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = boot_clock,
    ) -> None:
        """Own it from now on."""
        self._spawn, self._confirm, self._kept, self._lost, self._clock = spawn, confirm, kept, lost, clock
        self._seen = clock()
        self._stops = 0
        self._asking: asyncio.Task[bool] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """Look at the clock again and again, until `close`."""
        if self._timer is None:
            self._beat()

    def is_sure(self) -> bool:
        """Whether nobody can have taken it over; where that is not sure, whoever knows is being asked."""
        now = self._clock()
        if now - self._seen > STILL_SECONDS:
            self._stops += 1
            if self._asking is None:
                self._asking = self._spawn(self._ask())
        self._seen = now
        return self._asking is None

    async def settled(self) -> None:
        """Wait until it is known.

        Raises:
            asyncio.CancelledError: it is another's: what waits here is not to be done.
        """
        if self._asking is not None and not await asyncio.shield(self._asking):
            raise asyncio.CancelledError

    def close(self) -> None:
        """Look at the clock no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(BEAT_SECONDS, self._beat)
        self.is_sure()

    async def _ask(self) -> bool:
        while True:
            stops = self._stops
            is_own = await self._confirm()
            self.is_sure()
            if stops == self._stops:  # what was said before another stop says nothing
                break
        self._asking = None
        (self._kept if is_own else self._lost)()
        return is_own
