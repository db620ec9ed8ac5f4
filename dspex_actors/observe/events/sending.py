"""Sends what an actor's process has emitted to the actor `events`.

Each process has a bounded queue, of which a batch goes every 50 ms, the first one after a pause at once. A batch is
answered when it is in the store; one that was not answered is sent again, and is there once: an actor that is killed
costs nothing of what its senders have. Whoever has sent something also waits for the word that somebody reads.
"""

from __future__ import annotations

import asyncio
import contextlib
from contextvars import Context

from dspex_actors.foundation.events.outlet import open_outlet, set_place
from dspex_actors.observe.branch import ensure
from dspex_actors.observe.events.messages import EVENTS, AwaitFlush, Keep, keep
from dspex_actors.observe.events.observers import observe_operations
from dspex_actors.observe.events.outbox import SEND_SECONDS, Outbox
from supervisors import ChildSpec, GenServer
from supervisors.errors import CallFailed, NoProcess, SupervisorsError

#: An answer is waited for so long, in seconds.
ANSWER_SECONDS = 10.0
#: After a failure it is tried again after so many seconds, twice as many each time up to the second number.
AGAIN_SECONDS, AGAIN_MOST = 0.05, 1.0
#: So long is waited for what a process sends for the first time, in seconds.
INTRODUCE_SECONDS = 1.0


class ActorSender:
    """Sends for an actor's process; made in its `init`.

    Args:
        server: the actor.
    """

    def __init__(self, server: GenServer) -> None:
        """Begin; nothing is sent before there is something."""
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._ready = asyncio.Event()
        self._sending = asyncio.Lock()
        self._awaiting: asyncio.Task[None] | None = None
        self.outbox = Outbox(self._wake)
        set_place(str(server.node["name"]), str(server.name or server.ref.pid))
        open_outlet(lambda event, record: self.outbox.put(record))
        observe_operations()
        # Its calls belong to no operation: the first event's may be open here.
        Context().run(server.spawn, self._run())

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
            self._loop.call_soon_threadsafe(self._ready.set)

    async def _run(self) -> None:
        sent = 0.0
        while True:
            await self._ready.wait()
            self._ready.clear()
            if (left := sent + SEND_SECONDS - self._loop.time()) > 0:
                await asyncio.sleep(left)
            await self.send()
            sent = self._loop.time()

    async def introduced(self) -> None:
        """Return when whoever reads finds what this process has emitted; waits a second at most, and mostly not at all.

        For an actor that answers a program, which may read right after.
        """
        if self._awaiting is None or self._awaiting.done():
            # Not cancelled when the time is up, nor with who waits: what is on its way would be lost.
            sending = Context().run(self._server.spawn, self.send())
            await asyncio.wait([sending], timeout=INTRODUCE_SECONDS)

    async def send(self) -> None:
        """Send what waits; return when it is in the store, or dropped."""
        async with self._sending:
            while self.outbox:
                records, dropped = self.outbox.take()
                if not await self._deliver(keep(records, dropped)):
                    self.outbox.lost(len(records) + dropped)
                if self._awaiting is None or self._awaiting.done():
                    self._awaiting = Context().run(self._server.spawn, self._await())

    async def _deliver(self, message: Keep) -> bool:
        """Send a batch until it is in the store; return False when that is of no use."""
        pause = AGAIN_SECONDS
        while True:
            try:
                await self._server.call(EVENTS, message, ANSWER_SECONDS)
                return True
            except CallFailed:
                return False
            except NoProcess:
                with contextlib.suppress(SupervisorsError):
                    await ensure(self._server, events_spec())
                    continue
            except SupervisorsError:
                pass
            await asyncio.sleep(pause)
            pause = min(AGAIN_MOST, pause * 2)

    async def _await(self) -> None:
        """Send at once when somebody reads: to be waiting again says that all is sent."""
        with contextlib.suppress(SupervisorsError):  # the actor has died: its successor hears of us with the next batch
            while True:
                await self._server.call(EVENTS, AwaitFlush(), None)
                await self.send()


def events_spec() -> ChildSpec:
    """Return how the actor is started, where it is first needed."""
    from dspex_actors.observe.events.actor import EventsServer  # a program that only connects needs no database

    return ChildSpec(EVENTS, EventsServer, name=EVENTS, shutdown=5.0)
