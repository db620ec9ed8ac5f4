"""Limits on time, for what is begun thousands of times a second: one timer for all that may take equally long."""

from __future__ import annotations

import asyncio

#: So many lengths keep their timer while nothing is limited by them; of further ones it goes with the last limit.
MOST_IDLE = 64


class Limit:
    """Cancels the task that makes it when that takes longer than so many seconds.

    It is what is left of `asyncio.timeout` where one is made for every request. Whoever makes it asks `has_ended_it`
    when cancelled, and always lifts it:

        limit = Limit(60.0)
        try:
            answer = await ask()
        except asyncio.CancelledError:
            if not limit.has_ended_it():
                raise
        finally:
            limit.lift()

    Args:
        seconds: how long it may take; None: without end.
    """

    __slots__ = ("_before", "_is_over", "_line", "task")

    def __init__(self, seconds: float | None) -> None:
        """Begin."""
        task = asyncio.current_task()
        assert task is not None
        self.task = task
        self._before = task.cancelling()
        self._is_over = False
        self._line = None if seconds is None else _line(seconds)
        if self._line is not None:
            self._line.add(self)

    def end(self) -> None:
        """Cancel the task: its time is over."""
        self._line = None
        self._is_over = True
        self.task.cancel()

    def has_ended_it(self) -> bool:
        """Tell, once, whether it is this limit alone that has cancelled the task."""
        was_over, self._is_over = self._is_over, False
        return was_over and self.task.uncancel() <= self._before

    def lift(self) -> None:
        """Let it be; a task that did not heed it goes on as one that nobody has cancelled."""
        if self._line is not None:
            self._line.remove(self)
            self._line = None
        if self._is_over:
            self.has_ended_it()


class _Line:
    """The limits of one length on one event loop, in the order in which they end, and a timer for the first of them."""

    __slots__ = ("_limits", "_loop", "_seconds", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._limits: dict[Limit, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, limit: Limit) -> None:
        end = self._limits[limit] = self._loop.time() + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_at(end, self._look)

    def remove(self, limit: Limit) -> None:
        del self._limits[limit]
        if not self._limits and len(_lines) > MOST_IDLE:
            self._go()

    def _look(self) -> None:
        """End what is over; what the timer was set for may be lifted, then it is set for the next."""
        self._timer = None
        now = self._loop.time()
        over = []
        for limit, end in self._limits.items():
            if end > now:
                self._timer = self._loop.call_at(end, self._look)
                break
            over.append(limit)
        for limit in over:
            del self._limits[limit]
            limit.end()
        if self._timer is None:
            self._go()

    def _go(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if _lines.get((self._loop, self._seconds)) is self:
            del _lines[self._loop, self._seconds]


_lines: dict[tuple[asyncio.AbstractEventLoop, float], _Line] = {}


def _line(seconds: float) -> _Line:
    loop = asyncio.get_running_loop()
    line = _lines.get((loop, seconds))
    if line is None:
        for key in [key for key in list(_lines) if key[0].is_closed()]:
            _lines.pop(key, None)
        line = _lines[loop, seconds] = _Line(loop, seconds)
    return line
