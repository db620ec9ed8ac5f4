"""The Thespian actor that carries a GenServer.

Two threads: Thespian's loop stays in the main one, the server's asyncio loop runs in the other. Messages go in with
`call_soon_threadsafe`; sends come out through a deque and a pipe that Thespian watches, so that what piles up while
one send is under way leaves as one parcel. A leaf never forks.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from thespian.actors import Actor, ActorExitRequest, ThespianWatch, WatchMessage

from supervisors.runtime import fate
from supervisors.runtime.identity import own_ref
from supervisors.runtime.log import open_log
from supervisors.runtime.messages import Boot, open_parcel
from supervisors.runtime.post import PostOffice
from supervisors.runtime.process import Process
from supervisors.runtime.watchdog import Watchdog


class LeafHost(Actor):  # type: ignore[misc]
    """Host of one GenServer."""

    def __init__(self) -> None:
        """Wait for Boot; nothing runs before it."""
        self._process: Process | None = None
        self._inbox: deque[bytes] = deque()
        self._inbox_scheduled = False
        self._outbox: deque[tuple[str, int, bytes]] = deque()
        self._settling: deque[Callable[[], None]] = deque()
        self._outbox_signalled = False
        self._finishing = False
        self._watch: ThespianWatch | None = None

    def receiveMessage(self, message: Any, sender: Any) -> Any:  # noqa: N802 - Thespian's name
        """Take one message from Thespian; nothing that happens here raises into it."""
        if type(message) is bytes:
            if self._process is None:
                self._boot(message)
            else:
                self._process.meter.arrived(len(self._inbox) + 1)
                self._inbox.append(message)
                if not self._inbox_scheduled:
                    self._inbox_scheduled = True
                    self._loop.call_soon_threadsafe(self._take_in)
        elif isinstance(message, WatchMessage):
            self._flush()
        elif isinstance(message, ActorExitRequest):
            os._exit(0)  # Thespian is going down, or SIGTERM: there is nobody left to tell
        return self._watch

    # --- main thread ------------------------------------------------------------------------------------------------

    def _boot(self, data: bytes) -> None:
        (boot,) = open_parcel(data)
        assert isinstance(boot, Boot)
        label = str(boot.name or boot.id)
        fate.set_process_name(label)
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        self._watch = ThespianWatch([self._wake_read])
        self._office = PostOffice(self._myRef, self._undelivered)
        self._label, self._boot_node = label, boot.node
        self._loop = asyncio.SelectorEventLoop(Watchdog(self._blocked))
        log = open_log(boot.node["logs"], label, boot.node.get("level", "info"))
        self._process = Process(boot, own_ref(self._myRef, boot.to), self, self._loop, log)
        self._loop.call_soon(self._process.start)
        threading.Thread(target=self._run_loop, name="server", daemon=True).start()

    def _flush(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        self._outbox_signalled = False
        # Only what asked before this look: Thespian hands messages over in the order in which they arrived.
        settled = [self._settling.popleft() for _ in range(len(self._settling))]
        self._send_outbox()
        for callback in settled:
            self._loop.call_soon_threadsafe(callback)
        if self._finishing and not self._outbox:
            self._office.drain_and_exit(self._leftovers)

    def _send_outbox(self) -> None:
        grouped: dict[tuple[str, int], list[bytes]] = {}
        while self._outbox:
            host, port, message = self._outbox.popleft()
            grouped.setdefault((host, port), []).append(message)
        for (host, port), messages in grouped.items():
            self._office.send(host, port, messages)

    def _leftovers(self) -> None:
        self._send_outbox()
        with contextlib.suppress(IndexError):  # the other thread may take one at the same time
            while self._inbox:
                self._office.refuse(self._inbox.popleft())
        self._send_outbox()

    def _undelivered(self, parcel: bytes) -> None:
        assert self._process is not None
        self._loop.call_soon_threadsafe(self._process.undelivered, parcel)

    def _blocked(self, seconds: float, stack: str) -> None:
        """Report a handler that keeps the loop from everything else; init may."""
        if self._process is not None and self._process.serving:
            # A logger of this thread's own: the process's is in use in the other one.
            log = open_log(self._boot_node["logs"], self._label, self._boot_node.get("level", "info"))
            log.warning("a handler blocks the event loop", seconds=round(seconds, 3), stack=stack)

    # --- the loop's thread ------------------------------------------------------------------------------------------

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        while True:
            # sys.exit() in a task or callback of the server ends the loop, and must end the server instead.
            with contextlib.suppress(BaseException):
                self._loop.run_forever()

    def _take_in(self) -> None:
        assert self._process is not None
        self._inbox_scheduled = False
        while self._inbox:
            self._process.deliver(open_parcel(self._inbox.popleft()))
        self._process.meter.arrived(0)

    def post(self, host: str, port: int, message: bytes) -> None:
        """Queue a message for Thespian's thread and wake it."""
        self._outbox.append((host, port, message))
        self._signal()

    def settle(self, callback: Callable[[], None]) -> None:
        """Call back in this thread once Thespian's has handed over everything that has arrived by now."""
        self._settling.append(callback)
        self._signal()

    def finish(self) -> None:
        """Have Thespian's thread send what is queued and end the process."""
        self._finishing = True
        self._outbox_signalled = False
        self._signal()

    def _signal(self) -> None:
        if not self._outbox_signalled:
            self._outbox_signalled = True
            os.write(self._wake_write, b".")
