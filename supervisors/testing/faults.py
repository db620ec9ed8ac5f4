"""Servers that fail when they are told to, and nodes that miss what they should notice."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from pathlib import Path
from typing import Any, TypeVar

from supervisors.genserver import GenServer
from supervisors.terms.awaitable import maybe_await

S = TypeVar("S", bound=GenServer)

#: For `Node.start(preload=[LOST_NOTICES])`: the supervisors of such a node get no notice when a child ends, and find
#: out by looking after its pid.
LOST_NOTICES = "supervisors.testing.lost_notices"


class Faulty(GenServer):
    """Mixin that makes a server fail: name it before the class of the server.

    ::

        class FlakyCounter(Faulty, Counter):
            kill_after = 3
            slow_init = 0.2

    Attributes:
        slow_init: seconds that `init` takes longer; the server hears nothing meanwhile.
        crash_init: how many starts fail, counted over restarts; the next one succeeds. With `fault_id`.
        kill_after: how many messages a process handles; the next one that it takes kills it (SIGKILL), unhandled.
        slow_terminate: seconds that `terminate` takes longer.
        fault_id: whose starts `crash_init` counts; `faulty` makes one up.
    """

    slow_init: float = 0.0
    crash_init: int = 0
    kill_after: int | None = None
    slow_terminate: float = 0.0
    fault_id: str = ""

    _handled = 0

    async def init(self, *args: Any, **kwargs: Any) -> Any:
        """Fail or be slow as the attributes say, else do what the server does."""
        if self.crash_init and self._count_start() <= self.crash_init:
            raise RuntimeError(f"{type(self).__name__}: init fails {self.crash_init} times, as crash_init says")
        if self.slow_init:
            await asyncio.sleep(self.slow_init)
        return await maybe_await(super().init(*args, **kwargs))

    def _count_start(self) -> int:
        """Return the number of this start. It is kept in the node's folder, since a process remembers nothing."""
        folder = Path(self.node["data_dir"]) / "run"
        fd = os.open(
            folder / f"starts-{self.fault_id or type(self).__qualname__}", os.O_WRONLY | os.O_APPEND | os.O_CREAT
        )
        try:
            os.write(fd, b".")
            return os.fstat(fd).st_size
        finally:
            os.close(fd)

    def _count_message(self) -> None:
        if self.kill_after is not None and self._handled >= self.kill_after:
            os.kill(os.getpid(), signal.SIGKILL)
        self._handled += 1

    async def handle_call(self, request: Any, caller: Any) -> Any:
        """Count it, then do what the server does."""
        self._count_message()
        return await maybe_await(super().handle_call(request, caller))

    async def handle_cast(self, message: Any) -> Any:
        """Count it, then do what the server does."""
        self._count_message()
        return await maybe_await(super().handle_cast(message))

    async def handle_info(self, message: Any) -> Any:
        """Count it, then do what the server does."""
        self._count_message()
        return await maybe_await(super().handle_info(message))

    async def terminate(self, reason: Any) -> Any:
        """Be slow as the attributes say, then do what the server does."""
        if self.slow_terminate:
            await asyncio.sleep(self.slow_terminate)
        return await maybe_await(super().terminate(reason))


def faulty(
    server: type[S],
    *,
    slow_init: float = 0.0,
    crash_init: int = 0,
    kill_after: int | None = None,
    slow_terminate: float = 0.0,
) -> type[S]:
    """Return a subclass of a server that fails as told; for ChildSpec.start.

    Args:
        server: the class.
        slow_init: seconds that `init` takes longer.
        crash_init: how many starts fail, counted over restarts; the next one succeeds.
        kill_after: how many messages a process handles; the next one kills it, unhandled.
        slow_terminate: seconds that `terminate` takes longer.
    """
    fields = {
        "slow_init": slow_init,
        "crash_init": crash_init,
        "kill_after": kill_after,
        "slow_terminate": slow_terminate,
        "fault_id": uuid.uuid4().hex[:12],
        "__module__": server.__module__,
        "__qualname__": f"Faulty{server.__qualname__}",
    }
    return type(f"Faulty{server.__name__}", (Faulty, server), fields)
