"""Threads for an event loop: sync code that may wait runs in them, and the loop goes on.

A call costs some 10 µs of the loop's time, a quarter of what an executor of the standard library takes: no object per
call but the loop's own future, the loop is woken once for all results that are there, and calls that are likely to be
brief share a thread as long as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import queue
import threading
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context
from typing import Any

#: A thread without work ends after so many seconds.
IDLE_SECONDS = 10.0
#: A call that was thought to be brief keeps others waiting for so many seconds; then they get threads of their own.
BRIEF_SECONDS = 0.012

#: What a call came to: its value, or what it raised.
_Outcome = tuple[Any, BaseException | None]
#: A call: whose it is, who waits for it, the context variables that it sees, the function, when it came.
_Call = tuple[asyncio.AbstractEventLoop, "asyncio.Future[_Outcome]", Context, Callable[[], Any], float]


class Threads:
    """As many threads as there are calls that wait at a time, up to a bound; they go when they have nothing to do.

    They are daemons: a call that never returns does not keep a program from ending.

    Args:
        most: threads at a time; more calls wait their turn.
        name: what the threads are called.
    """

    def __init__(self, most: int, name: str) -> None:
        """Start without a thread."""
        self._most, self._name = most, name
        self._lock = threading.Lock()
        self._calls: deque[_Call] = deque()
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        #: Threads at work, and those that wait for a word in `_wake`.
        self._active = self._parked = 0
        #: Event loops that will look whether a call has waited too long.
        self._looking: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()
        self._done: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[_Outcome], _Outcome]]] = {}

    async def run(self, frame: Context, function: Callable[[], Any], *, brief: bool = False) -> Any:
        """Run a function in a thread and await what it returns.

        Args:
            frame: context variables that it sees.
            function: what to run.
            brief: it is likely to return at once: it may share a thread with others like it.

        Returns:
            What it returns; its exception is raised here. When the caller is cancelled it goes on, and nobody hears
            of it.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_Outcome] = loop.create_future()
        with self._lock:
            self._calls.append((loop, future, frame, function, loop.time()))
            if not brief or not self._active:
                self._more(1)
            elif loop not in self._looking:
                self._looking.add(loop)
                loop.call_later(BRIEF_SECONDS, self._look, loop)
        value, error = await future
        if error is None:
            return value
        try:
            # A coroutine cannot raise StopIteration, and asyncio would wait for ever.
            raise RuntimeError("the function raised StopIteration") if isinstance(error, StopIteration) else error
        finally:
            del error  # its traceback holds this frame

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give calls that have waited too long threads of their own."""
        with self._lock:
            if not self._calls:
                self._looking.discard(loop)
                return
            if loop.time() - self._calls[0][-1] >= BRIEF_SECONDS:
                self._more(len(self._calls))
        loop.call_later(BRIEF_SECONDS, self._look, loop)

    def _more(self, count: int) -> None:
        """Have so many more threads at work; with the lock held."""
        for _ in range(count):
            if self._parked:
                self._parked -= 1
                self._wake.put(None)
            elif self._active >= self._most:
                return
            else:
                thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
                try:
                    Context().run(thread.start)  # it serves many calls: it is in the context of none
                except RuntimeError:
                    if not self._active:
                        raise
                    return  # the system gives no more threads: one that is there will do it
            self._active += 1

    def _serve(self) -> None:
        while True:
            with self._lock:
                call = self._calls.popleft() if self._calls else None
                if call is None:
                    self._active -= 1
                    self._parked += 1
            if call is None:
                if not self._woken():
                    return
                continue
            loop, future, frame, function, _ = call
            outcome: _Outcome = (None, None)
            if not future.cancelled():
                try:
                    outcome = (frame.run(function), None)
                except BaseException as error:  # its caller gets it
                    outcome = (None, error)
            self._tell(loop, future, outcome)
            del call, loop, future, frame, function, outcome  # a thread that waits holds nothing of what it did

    def _woken(self) -> bool:
        """Wait for work; False: there is none for long, and this thread is no longer counted."""
        while True:
            try:
                self._wake.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                with self._lock:
                    if self._parked:
                        self._parked -= 1
                        return False
                continue  # the word for this thread is on its way
            return True

    def _tell(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[_Outcome], outcome: _Outcome) -> None:
        with self._lock:
            done = self._done.setdefault(loop, [])
            done.append((future, outcome))
            if len(done) > 1:
                return  # the loop is being woken
        try:
            loop.call_soon_threadsafe(self._deliver, loop)
        except RuntimeError:  # it is closed: nobody waits any more
            with self._lock:
                self._done.pop(loop, None)

    def _deliver(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            done = self._done.pop(loop, [])
        for future, outcome in done:
            if not future.done():
                future.set_result(outcome)


def inherit_context() -> None:
    """Have threads that anybody starts in this process begin with their starter's context variables.

    Python 3.14 can do that itself (`-X thread_inherit_context`). A worker needs it: of the runs that it does at the
    same time each has settings of its own, and a program's threads have to see those of their run. Work that is
    given to a `ThreadPoolExecutor` sees the context of who gave it.
    """
    if getattr(threading.Thread.start, "inherits_context", False):
        return
    start: Any = threading.Thread.start
    submit: Any = ThreadPoolExecutor.submit

    @functools.wraps(start)
    def start_within(thread: threading.Thread) -> None:
        frame, run = copy_context(), thread.run

        def run_within() -> None:
            with contextlib.suppress(AttributeError):
                del thread.run  # or the thread would hold itself
            frame.run(run)

        thread.run = run_within  # type: ignore[method-assign]
        start(thread)

    @functools.wraps(submit)
    def submit_within(pool: ThreadPoolExecutor, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return submit(pool, copy_context().run, function, *args, **kwargs)

    start_within.inherits_context = True  # type: ignore[attr-defined]
    setattr(threading.Thread, "start", start_within)  # noqa: B010 - types know no such assignment
    setattr(ThreadPoolExecutor, "submit", submit_within)  # noqa: B010
