"""Who tells the node what this process counts and measures: `from_actor` in an actor, `from_program` in a program."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
from contextvars import Context

from dspex_actors.foundation.telemetry.recorder import Recorder, recorder
from dspex_actors.observe import branch
from dspex_actors.observe.telemetry.teller import Teller
from supervisors import GenServer, Node

#: A process that ends waits at most so many seconds until it has told the last.
LAST_SECONDS = 1.0

_tellers: list[Teller] = []


def from_actor(server: GenServer) -> None:
    """Have what an actor's process records told to the node, from its `init` on, until the process ends."""
    from dspex_actors.observe.telemetry.actor import telemetry_spec

    loop = asyncio.get_running_loop()
    name = str(server.name) if server.name is not None else type(server).__name__
    teller = Teller(name, recorder, server.call, lambda: branch.ensure(server, telemetry_spec()))

    def news() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
            loop.call_soon_threadsafe(teller.news)

    teller.hello()
    recorder.listen(news)
    _tellers[:] = [teller]


async def last_word() -> None:
    """Tell what is new in this actor's process: for one that is about to end; in vain after a second."""
    for teller in _tellers:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                await teller.tell(is_last=True)


class ProgramPush:
    """Tells for a program, in a thread of its own that begins with the first record.

    Args:
        node: whom.
        recorder: what.
    """

    def __init__(self, node: Node, recorder: Recorder = recorder) -> None:
        """Be ready; `open` begins."""
        self._node, self._recorder = node, recorder
        self.forget()

    def forget(self) -> None:
        """Begin: in a forked child again, whose parent's thread did not come along."""
        self._name = f"program:{os.getpid()}"
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._teller: Teller | None = None
        self._is_closed = False

    def open(self) -> None:
        """Listen; where a program has several connections, the last one that was opened is told."""
        _open.append(self)
        self._recorder.listen(self._news)

    def _news(self) -> None:
        if not self._lock.acquire(blocking=False):
            return  # whoever has it looks for news afterwards
        try:
            if self._is_closed:
                return
            if self._loop is None:
                self._begin()
            loop, teller = self._loop, self._teller
        finally:
            self._lock.release()
        if loop is not None and teller is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(teller.news)

    def _begin(self) -> None:
        loop = self._loop = asyncio.new_event_loop()
        self._teller = Teller(self._name, self._recorder, self._node.acall, self._ensure)
        thread = threading.Thread(target=_run, args=(loop,), name="dspex-telemetry", daemon=True)
        Context().run(thread.start)  # its calls belong to no operation

    async def _ensure(self) -> None:
        from dspex_actors.observe.telemetry.actor import telemetry_spec

        await asyncio.get_running_loop().run_in_executor(None, branch.ensure_from_program, self._node, telemetry_spec())

    def flush(self, *, is_last: bool = False) -> None:
        """Tell what is new, and return when it was heard, or after a second."""
        loop, teller = self._loop, self._teller
        if loop is None or teller is None or not loop.is_running():
            return
        with contextlib.suppress(Exception):
            asyncio.run_coroutine_threadsafe(teller.tell(is_last=is_last), loop).result(LAST_SECONDS)

    def close(self) -> None:
        """Tell the last, and nothing more; the connection before this one is told then."""
        if self not in _open:
            return
        _open.remove(self)
        self.flush(is_last=True)
        with self._lock:
            self._is_closed = True
            loop, teller = self._loop, self._teller
        if loop is not None and teller is not None:
            ended = asyncio.run_coroutine_threadsafe(teller.close(), loop)
            ended.add_done_callback(lambda _: loop.call_soon_threadsafe(loop.stop))
        self._recorder.listen(_open[-1]._news if _open else None)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()


_open: list[ProgramPush] = []


def flush(*, is_last: bool = False) -> None:
    """Tell the node what is new in this program, and return when it was heard, or after a second."""
    if _open:
        _open[-1].flush(is_last=is_last)


def _in_child() -> None:
    for push in _open:
        push.forget()
    if _open:
        recorder.listen(_open[-1]._news)


atexit.register(flush, is_last=True)
os.register_at_fork(after_in_child=_in_child)
