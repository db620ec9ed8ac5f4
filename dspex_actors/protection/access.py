"""How this process reaches the owner of protected keys: as a program outside, or as an actor of the node."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from dspex_actors.errors import ConfigError, DeadlineExceeded, DspexError, Overloaded
from dspex_actors.names import PROTECTION
from dspex_actors.protection.messages import Ended, Leave
from supervisors import GenServer, Node
from supervisors.errors import CallTimeout, NodeDown, NoProcess, ServerExited, SupervisorsError
from supervisors.host import processes

#: An owner that is being restarted is looked for this often, for so long, in seconds.
PAUSE_SECONDS, COME_BACK_SECONDS = 0.02, 10.0
#: The thread that tells them ends when it has had nothing to tell for so many seconds.
IDLE_SECONDS = 5.0
#: So many ends of calls are told at once.
MOST_AT_ONCE = 500
#: An answer is this much later than the seconds that were asked for at most.
SLACK_SECONDS = 1.0


class Access(Protocol):
    """A way to the owner."""

    def call(self, request: Any, seconds: float | None) -> Any:
        """Ask, from a thread without an event loop."""
        ...

    async def acall(self, request: Any, seconds: float | None) -> Any:
        """Ask, from an event loop."""
        ...

    def tell(self, ended: Ended) -> None:
        """Tell that a call has ended, beside everything else, until it is heard."""
        ...

    def untold(self) -> list[Ended]:
        """Return the calls that have ended and of which it is not known that it was heard."""
        ...


class Outside:
    """The way of a program that is connected to a node."""

    def __init__(self, node: Node) -> None:
        """Go through this connection."""
        self._node = node
        self._news = threading.Condition()
        self._ended: list[Ended] = []
        self._is_telling = False

    def call(self, request: Any, seconds: float | None) -> Any:
        """Ask, and ask again where the owner has died meanwhile."""
        from dspex_actors.observe.branch import ensure_from_program
        from dspex_actors.protection.actor import protection_spec

        patience = _Patience(seconds, self._is_gone)
        while True:
            try:
                return self._node.call(PROTECTION, request, patience.left())
            except SupervisorsError as error:
                patience.again(error)
                time.sleep(PAUSE_SECONDS)
            try:
                ensure_from_program(self._node, protection_spec())
            except SupervisorsError as error:
                patience.again(error)

    async def acall(self, request: Any, seconds: float | None) -> Any:
        """Ask, as `call`."""
        from dspex_actors.observe.branch import ensure_from_program
        from dspex_actors.protection.actor import protection_spec

        patience = _Patience(seconds, self._is_gone)
        while True:
            try:
                return await self._node.acall(PROTECTION, request, patience.left())
            except SupervisorsError as error:
                patience.again(error)
                await asyncio.sleep(PAUSE_SECONDS)
            try:
                await asyncio.to_thread(ensure_from_program, self._node, protection_spec())
            except SupervisorsError as error:
                patience.again(error)

    def _is_gone(self) -> bool:
        from dspex_actors.observe.away import is_gone

        return is_gone(self._node)

    def tell(self, ended: Ended) -> None:
        """Tell, from a thread that does nothing else."""
        with self._news:
            self._ended.append(ended)
            self._news.notify()
            if not self._is_telling:
                self._is_telling = True
                threading.Thread(target=self._tell, name="dspex-protected-ends", daemon=True).start()

    def untold(self) -> list[Ended]:
        """Return what is not told yet."""
        return self._ended[:MOST_AT_ONCE]

    def _tell(self) -> None:
        while True:
            with self._news:
                if not self._ended:
                    self._news.wait(IDLE_SECONDS)
                batch = self._ended[:MOST_AT_ONCE]
                if not batch:
                    self._is_telling = False
                    return
            with contextlib.suppress(DspexError):  # nobody is there any more: nothing is held, either
                self.call(Leave(batch), None)
            with self._news:
                del self._ended[: len(batch)]


class Inside:
    """The way of an actor of the node, for all code in its process.

    Args:
        server: the actor.
    """

    def __init__(self, server: GenServer) -> None:
        """Go through this actor; called on its loop."""
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._ended: list[Ended] = []
        self._telling: asyncio.Task[None] | None = None

    def call(self, request: Any, seconds: float | None) -> Any:
        """Ask, from a thread of this process."""
        if asyncio._get_running_loop() is self._loop:
            raise ConfigError("a sync call here would block the worker's event loop: await dspex.aexecute_protected")
        return asyncio.run_coroutine_threadsafe(self._ask(request, seconds), self._loop).result()

    async def acall(self, request: Any, seconds: float | None) -> Any:
        """Ask, from any event loop of this process."""
        if asyncio.get_running_loop() is self._loop:
            return await self._ask(request, seconds)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._ask(request, seconds), self._loop))

    async def _ask(self, request: Any, seconds: float | None) -> Any:
        from dspex_actors.observe.branch import ensure
        from dspex_actors.protection.actor import protection_spec

        patience = _Patience(seconds)
        while True:
            try:
                return await self._server.call(PROTECTION, request, patience.left())
            except SupervisorsError as error:
                patience.again(error)
                await asyncio.sleep(PAUSE_SECONDS)
            try:
                await ensure(self._server, protection_spec())
            except SupervisorsError as error:
                patience.again(error)

    def tell(self, ended: Ended) -> None:
        """Tell, from any thread."""
        self._ended.append(ended)
        self._loop.call_soon_threadsafe(self._wake)

    def untold(self) -> list[Ended]:
        """Return what is not told yet."""
        return self._ended[:MOST_AT_ONCE]

    def _wake(self) -> None:
        if self._telling is None or self._telling.done():
            self._telling = self._loop.create_task(self._tell(), context=contextvars.Context())

    async def _tell(self) -> None:
        while self._ended:
            batch = self._ended[:MOST_AT_ONCE]
            with contextlib.suppress(DspexError):
                await self._ask(Leave(batch), None)
            del self._ended[: len(batch)]


class _Patience:
    """Decides whether it is worth to ask again."""

    def __init__(self, seconds: float | None, is_gone: Callable[[], bool] = lambda: False) -> None:
        self._seconds, self._is_gone = seconds, is_gone
        self._end = None if seconds is None else time.monotonic() + seconds + SLACK_SECONDS
        self._since: float | None = None

    def left(self) -> float | None:
        return None if self._end is None else max(0.001, self._end - time.monotonic())

    def again(self, error: SupervisorsError) -> None:
        now = time.monotonic()
        if isinstance(error, CallTimeout) or (self._end is not None and now >= self._end):
            raise DeadlineExceeded(f"its turn did not come within timeout={self._seconds:g} s") from None
        self._since = self._since or now
        is_passing = isinstance(error, NoProcess | ServerExited | NodeDown) and now - self._since < COME_BACK_SECONDS
        if is_passing and not (isinstance(error, NodeDown) and self._is_gone()):
            return
        raise Overloaded(f"the owner of protected keys does not answer: {error}; see `dspex status`") from None


_access: list[Access] = []
_me: list[tuple[int, int]] = []


def set_access(access: Access | None) -> None:
    """Make this the way of the whole process; None: there is none any more."""
    _access[:] = [] if access is None else [access]


def current_access() -> Access:
    """Return the way of this process.

    Raises:
        ConfigError: no node is connected.
    """
    if not _access:
        raise ConfigError("no node is connected: call dspex.connect(...) first")
    return _access[0]


def me() -> tuple[int, int]:
    """Return this process: its pid, and when it was born."""
    if not _me or _me[0][0] != os.getpid():
        _me[:] = [(os.getpid(), processes.born(os.getpid()))]
    return _me[0]


os.register_at_fork(after_in_child=_me.clear)
