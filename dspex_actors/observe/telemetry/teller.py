"""What a process tells the actor `telemetry`: what is new, once a second, and at once when somebody reads."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from typing import Any

from dspex_actors.foundation.telemetry.recorder import Recorder
from dspex_actors.names import TELEMETRY
from dspex_actors.observe.telemetry.messages import Await, Heard, Tell
from supervisors.errors import NoProcess, SupervisorsError
from supervisors.host import processes

#: What is new is told so many seconds after the first of it; and again, where it was not heard.
TELL_SECONDS = 1.0
#: An actor that does not answer within so many seconds has heard nothing.
PATIENCE_SECONDS = 10.0

_log = logging.getLogger(__name__)

Call = Callable[[str, Any, float | None], Awaitable[Any]]


class Teller:
    """Tells for one process; used on one event loop.

    Args:
        actor: the process's name.
        recorder: what it tells about.
        call: asks a server by name.
        ensure: sees to it that the actor is there.
    """

    def __init__(self, actor: str, recorder: Recorder, call: Call, ensure: Callable[[], Awaitable[Any]]) -> None:
        """Begin; nothing is told before there is something."""
        self._actor, self._recorder = actor, recorder
        self._call, self._ensure = call, ensure
        self._pid = os.getpid()
        self._born = processes.born(self._pid)
        self._epoch: str | None = None
        self._everything = True
        self._seconds = TELL_SECONDS
        self._has_news = False
        self._lock = asyncio.Lock()
        self._telling: asyncio.Task[None] | None = None
        self._awaiting: asyncio.Task[None] | None = None
        self._starting: asyncio.Future[Any] | None = None

    def news(self) -> None:
        """Tell soon; on the loop. The first time at once: from then on readers find this process."""
        self._has_news = True
        if self._telling is None:
            self._telling = _task(self._tell_in(0.0 if self._epoch is None else self._seconds))

    def hello(self) -> None:
        """Let the actor know of this process, if it is there already; on the loop."""
        if self._telling is None:
            self._telling = _task(self._say_hello())

    async def _say_hello(self) -> None:
        try:
            heard: Heard = await self._call(TELEMETRY, self._told([]), PATIENCE_SECONDS)
            # From now on readers ask this process, and wait for its word, though it may have nothing to tell.
            self._epoch, self._seconds = heard.epoch, heard.interval
        except SupervisorsError:
            return  # it is started when somebody has something to tell
        finally:
            self._telling = None
            if self._has_news:  # meanwhile
                self.news()
        if self._awaiting is None:
            self._awaiting = _task(self._await())

    async def _tell_in(self, seconds: float) -> None:
        try:
            await asyncio.sleep(seconds)
            while True:
                self._has_news = False
                is_heard = await self.tell()
                # Now, and not when there is no news: a process at work always has some, and readers ask it, too.
                if self._awaiting is None and self._epoch is not None:
                    self._awaiting = _task(self._await())
                if is_heard and not self._has_news:
                    break
                await asyncio.sleep(self._seconds)
        finally:
            if self._telling is asyncio.current_task():
                self._telling = None

    async def tell(self, *, is_last: bool = False) -> bool:
        """Tell what is new now; return whether it was heard.

        Args:
            is_last: the process is about to end.
        """
        if is_last and self._epoch is not None and self._starting is not None:
            self._starting.cancel()  # the actor was there and is gone, as the node is being stopped, likely
        async with self._lock:
            try:
                try:
                    await self._tell_all(is_last)
                except NoProcess:
                    if is_last or not await self._is_started():
                        return False
                    await self._tell_all(is_last)
            except SupervisorsError as error:
                self._everything = True  # nobody knows whether it was heard, and twice does no harm
                _log.debug("telemetry was not told: %s", error)
                return False
            return True

    async def _is_started(self) -> bool:
        """See to it that the actor is there; False: this process ends first, whose last word waits for no other."""
        starting = self._starting = asyncio.ensure_future(self._ensure())
        try:
            await starting
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return False
        finally:
            self._starting = None
        return True

    async def _tell_all(self, is_last: bool) -> None:
        while not await self._tell_once(is_last):
            pass  # an actor that does not know what the one before was told: it is told all

    async def _tell_once(self, is_last: bool) -> bool:
        """Tell, and return whether the actor knows everything now."""
        everything, known = self._everything, self._epoch
        rows = self._recorder.take(everything=everything)
        if not rows and known is None:
            return True  # nothing of this process is anybody's concern: no actor is started for it
        self._everything = True
        told = self._told(rows, is_again=everything and known is not None, is_last=is_last)
        heard: Heard = await self._call(TELEMETRY, told, PATIENCE_SECONDS)
        self._epoch, self._seconds = heard.epoch, heard.interval
        self._recorder.switch(is_on=heard.is_on)
        self._everything = not (everything or self._epoch == known)
        return not self._everything

    def _told(self, rows: list[Any], **how: bool) -> Tell:
        return Tell(self._recorder.incarnation, self._actor, self._pid, self._born, rows, **how)

    async def _await(self) -> None:
        """Be there for those who read: they ask the actor, and that asks us."""
        with contextlib.suppress(SupervisorsError):
            while True:
                await self._call(TELEMETRY, Await(self._recorder.incarnation), None)
                await self.tell()
        self._awaiting = None
        self._everything = True  # it was killed: its successor must hear of us
        if self._telling is not None:
            self._telling.cancel()
        self._telling = _task(self._tell_in(0.0))

    async def close(self) -> None:
        """Tell nothing more."""
        self._has_news = False
        tasks = [task for task in (self._telling, self._awaiting) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _task(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Start a task that belongs to no operation: the first record's may be open here."""
    return asyncio.get_running_loop().create_task(work, context=Context())
