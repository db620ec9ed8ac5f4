"""Notices a handler that blocks its event loop, and shows where it is.

No polling, and no thread while nothing happens: the loop's selector notes when it stops waiting, and starts a thread if
there is none. The thread looks once the limit is over, goes on as long as the loop has something in hand, and ends when
it finds the loop waiting. So an idle process has no thread, a busy one is looked at once per limit, and a blocked one
some times a second, in which what others send to it is taken from them.

A signal would need no thread, but it interrupts whatever C library the handler is in: `sleep` and `poll` return early
there, and it takes SIGALRM from the user's code.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import selectors
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable
from typing import Any

#: A loop that does not get to wait for its next event within this many seconds is reported.
LIMIT_SECONDS = 1.0
#: As long as it is blocked, what comes in is taken in this often, in seconds.
MEANWHILE_SECONDS = 0.25
#: A fork waits for the end of the thread this many seconds at most.
END_SECONDS = 0.5


class Watchdog(selectors.DefaultSelector):
    """The selector of a loop that is watched.

    Args:
        wanted: whether the loop is to be watched yet.
        report: told for how many seconds the loop has been blocked, and where (a stack as text); in the thread.
        meanwhile: called every now and then while it is blocked; in the thread.
        limit: seconds.
    """

    def __init__(
        self,
        wanted: Callable[[], bool],
        report: Callable[[float, str], None],
        meanwhile: Callable[[], None],
        limit: float = LIMIT_SECONDS,
    ) -> None:
        """Make it, in the loop's thread."""
        super().__init__()
        self._wanted, self._report, self._meanwhile, self._limit = wanted, report, meanwhile, limit
        self._loop_thread = threading.get_ident()
        self._thread = 0
        self._busy_since: float | None = None
        self._reported: float | None = None
        #: Whether a thread looks, or will look once more before it ends.
        self._looks = False
        self._claim = _thread.allocate_lock()
        #: Held but for the moment in which the thread is told to end.
        self._stop = _thread.allocate_lock()
        self._stop.acquire()
        _watchdogs.add(self)

    def select(self, timeout: float | None = None) -> Any:
        """Wait, and note when that is over."""
        self._busy_since = None
        ready = super().select(timeout)
        self._busy_since = time.monotonic()
        if not self._looks and (ready or timeout != 0) and self._wanted():
            self._start()
        return ready

    def works(self) -> bool:
        """Whether it can be waited with: its descriptors are open."""
        try:
            super().select(0)
        except (OSError, ValueError):
            return False
        return True

    def _claimed(self) -> bool:
        """Become the one who looks; there is one at a time."""
        with self._claim:
            claimed, self._looks = not self._looks, True
        return claimed

    def _start(self) -> None:
        if self._claimed():
            try:
                # Not threading.Thread: its start waits for the thread to run.
                _thread.start_new_thread(self._run, ())
            except RuntimeError:  # no more threads: then nobody looks this time
                self._looks = False

    def _run(self) -> None:
        self._thread = threading.get_native_id()
        seconds = self._limit
        while True:
            if self._stop.acquire(timeout=max(seconds, 0.001)):
                self._looks = False
                return
            # Said first, looked at then: a loop that becomes busy now sees that it has to start another one.
            self._looks = False
            since = self._busy_since
            if since is None or not self._claimed():
                return
            blocked = time.monotonic() - since
            if blocked < self._limit:
                seconds = self._limit - blocked
                continue
            seconds = MEANWHILE_SECONDS
            with contextlib.suppress(Exception):
                self._look(since, blocked)

    def _look(self, since: float, blocked: float) -> None:
        if since != self._reported:
            self._reported = since
            frame = sys._current_frames().get(self._loop_thread)
            stack = "".join(traceback.format_stack(frame)) if frame is not None else ""
            if self._busy_since == since:  # else it is over, and the stack another one's
                self._report(blocked, stack)
        self._meanwhile()

    def _end_thread(self) -> None:
        """Have the thread end, before this process forks: a process with threads should not.

        The loop's next turn starts another one. Until then, what the handler does that forks is not watched.
        """
        if self._looks:
            self._stop.release()
            end = time.monotonic() + END_SECONDS
            while (self._looks or _runs(self._thread)) and time.monotonic() < end:
                time.sleep(0.0001)
            self._stop.acquire(blocking=False)  # it had ended by itself
            self._looks = False


def _runs(thread: int) -> bool:
    return os.path.exists(f"/proc/self/task/{thread}")


_watchdogs: weakref.WeakSet[Watchdog] = weakref.WeakSet()


def _end_threads() -> None:
    for watchdog in list(_watchdogs):
        watchdog._end_thread()


os.register_at_fork(before=_end_threads)
