"""Notices a handler that blocks its event loop, and shows where it is.

No thread and no polling: the loop's selector notes when it stops waiting, and sets the process's interval timer if it
is not set. The timer's signal interrupts whatever runs, and looks whether the loop is still at the same thing. An idle
process gets no signal at all, a busy one at most one per limit, and a blocked one some a second, in which what others
send to it is taken from them.
"""

from __future__ import annotations

import contextlib
import selectors
import signal
import time
import traceback
from collections.abc import Callable
from typing import Any

#: A loop that does not get to wait for its next event within this many seconds is reported.
LIMIT_SECONDS = 1.0
#: As long as it is blocked, what comes in is taken in this often, in seconds.
MEANWHILE_SECONDS = 0.25


class Watchdog(selectors.DefaultSelector):
    """The selector of a loop that is watched.

    Args:
        report: told for how many seconds the loop has been blocked, and where (a stack as text).
        meanwhile: called every now and then while it is blocked.
        limit: seconds.
    """

    def __init__(
        self, report: Callable[[float, str], None], meanwhile: Callable[[], None], limit: float = LIMIT_SECONDS
    ) -> None:
        """Make it, in the main thread."""
        super().__init__()
        self._report, self._meanwhile, self._limit = report, meanwhile, limit
        self._busy_since: float | None = None
        self._reported: float | None = None
        self._armed = False
        signal.signal(signal.SIGALRM, self._look)

    def select(self, timeout: float | None = None) -> Any:
        """Wait, and note when that is over."""
        self._busy_since = None
        ready = super().select(timeout)
        self._busy_since = time.monotonic()
        if not self._armed:
            self._arm(self._limit)
        return ready

    def _arm(self, seconds: float) -> None:
        self._armed = True
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))

    def _look(self, number: int, frame: Any) -> None:
        since = self._busy_since
        # Unset while the loop waits: its next event, which may be hours away, sets it again.
        self._armed = False
        if since is None:
            return
        blocked = time.monotonic() - since
        if blocked < self._limit:
            self._arm(self._limit - blocked)
            return
        with contextlib.suppress(Exception):  # this runs in the middle of the handler
            if since != self._reported:
                self._reported = since
                self._report(blocked, "".join(traceback.format_stack(frame)))
            self._meanwhile()
        self._arm(MEANWHILE_SECONDS)
