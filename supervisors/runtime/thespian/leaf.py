"""The Thespian actor that carries a GenServer, in one thread.

Thespian's own loop runs until Boot has come. Then the server's asyncio loop takes over. It watches Thespian's
connections through one descriptor (polling.py). What is sent during one turn of the loop leaves at the end of the turn,
as one parcel for each receiver. While a handler blocks the loop, the watchdog's thread takes in what others send, so
there is a lock before the transport.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, NoReturn

from thespian.actors import Actor, ActorExitRequest

from supervisors.host import processes
from supervisors.host.farewell import farewell
from supervisors.host.log import open_log
from supervisors.host.surroundings import USUAL_UMASK, settle
from supervisors.host.watchdog import Watchdog
from supervisors.runtime.process.process import Process
from supervisors.runtime.thespian.identity import own_ref
from supervisors.runtime.thespian.post import PostOffice
from supervisors.terms.reason import SHUTDOWN
from supervisors.wire.messages import Boot, Message, Stop, open_parcel


class LeafHost(Actor):  # type: ignore[misc]
    """Host of one GenServer."""

    def __init__(self) -> None:
        """Wait for Boot; nothing runs before it."""
        self._process: Process | None = None
        self._inbox: deque[Any] = deque()
        #: What has been opened of the inbox, and not been delivered.
        self._opened: deque[Message] = deque()
        self._outbox: deque[tuple[str, int, bytes]] = deque()
        self._flush_is_due = False
        self._transport_lock = threading.Lock()
        self._thread = threading.get_ident()
        self._timer: asyncio.TimerHandle | None = None

    def receiveMessage(self, message: Any, sender: Any) -> None:  # noqa: N802 - Thespian's name
        """Take one message from Thespian; nothing that happens here raises into it."""
        if type(message) is bytes:
            if self._process is None:
                try:
                    self._boot(message)
                except Exception:  # Thespian would call again, and then leave an actor that never says anything
                    os._exit(1)
            else:
                self._deliver(message)
        elif isinstance(message, ActorExitRequest):
            os._exit(0)  # Thespian is going down: there is nobody left to tell

    def _boot(self, data: bytes) -> None:
        (boot,) = open_parcel(data)
        assert isinstance(boot, Boot)
        settle(boot.node.get("umask", USUAL_UMASK))
        label = str(boot.name or boot.id)
        processes.set_process_name(label)
        self._transport = self._myRef.transport
        self._office = PostOffice(self._myRef, self._undelivered)
        self._watchdog = Watchdog(self._serves, self._blocked, self._receive_meanwhile)
        self._loop = asyncio.SelectorEventLoop(self._watchdog)
        log = open_log(boot.node["logs"], label, boot.node.get("level", "info"))
        self._process = Process(boot, own_ref(self._myRef, boot.to), self, self._loop, log)
        self._user = os.geteuid(), os.getegid()
        signal.signal(signal.SIGTERM, lambda number, frame: self._loop.call_soon_threadsafe(self._asked_to_end))
        # A handler of the server's for a signal may cast or reply: the loop has to wake up for that.
        signal.set_wakeup_fd(self._loop._csock.fileno(), warn_on_full_buffer=False)  # type: ignore[attr-defined]
        self._loop.call_soon(self._process.start)
        self._transport.successor = self._run_loop

    def _run_loop(self) -> NoReturn:
        asyncio.set_event_loop(self._loop)
        self._live_with_parent()
        self._loop.add_reader(self._transport.fileno(), self._take_in)
        self._loop.call_soon(self._take_in)
        while True:
            # sys.exit() in a task or callback of the server ends the loop, and must end the server instead.
            with contextlib.suppress(BaseException):
                self._loop.run_forever()
            if not self._watchdog.works():  # user code has closed all descriptors, say: to go on would be to spin
                with contextlib.suppress(Exception):
                    assert self._process is not None
                    self._process.log.critical("the event loop has lost its descriptors: the server ends")
                os._exit(1)

    def _live_with_parent(self) -> None:
        """End with the supervisor also after a change of user, at which the kernel forgets to see to that."""
        parent = os.getppid()
        with contextlib.suppress(ProcessLookupError):
            pidfd = processes.open_pidfd(parent, 0)
            if pidfd is not None:
                self._loop.add_reader(pidfd, os._exit, 1)
        if os.getppid() != parent:
            os._exit(1)

    # --- in -----------------------------------------------------------------------------------------------------

    def _receive(self, patient: bool = True) -> None:
        """Take what has arrived from those who send it; unless `patient`, only if nobody is at it."""
        if self._transport_lock.acquire(blocking=patient):
            try:
                self._inbox += self._transport.turn()
            finally:
                self._transport_lock.release()
            if any(isinstance(envelope.message, ActorExitRequest) for envelope in self._inbox):
                os._exit(0)
        if self._process is not None:
            self._process.meter.arrived(len(self._inbox))

    def _receive_meanwhile(self) -> None:
        """Receive while a handler blocks the loop, in the watchdog's thread. It is delivered when the loop goes on."""
        self._receive(patient=False)
        self._loop.call_soon_threadsafe(self._take_in)

    def _take_in(self) -> None:
        try:
            self._receive()
            while self._inbox:
                envelope = self._inbox.popleft()
                if type(envelope.message) is bytes:
                    self._deliver(envelope.message)
                else:
                    self._myRef.handleMessages(envelope)
        finally:
            if self._flush_is_due:
                self.flush()  # what was answered or asked because of an answer waits for no further turn
            else:
                self._tend()

    def _deliver(self, parcel: bytes) -> None:
        assert self._process is not None
        self._process.meter.arrived(len(self._inbox))
        try:
            self._opened.extend(open_parcel(parcel))
        except Exception as error:  # msgpack has errors of its own for each way in which bytes can be wrong
            self._process.log.error("a parcel that cannot be opened was dropped", error=repr(error))
        while self._opened:
            message = self._opened.popleft()
            try:
                self._process.deliver([message])
            except Exception as error:  # no file descriptor for a monitor, say: the messages behind it are not to blame
                self._process.log.error("a message could not be taken", kind=type(message).__name__, exc_info=error)

    def _tend(self) -> None:
        """Bring the transport's descriptor up to date, and set a timer for what it waits for."""
        with self._transport_lock:
            seconds = self._transport.tend()
        if seconds is None:
            return
        due = self._loop.time() + seconds
        # One that comes too early finds nothing to do and sets the next one.
        if self._timer is None or self._timer.cancelled() or self._timer.when() > due:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(due, self._time_is_up)

    def _time_is_up(self) -> None:
        self._timer = None
        self._take_in()

    def _undelivered(self, parcel: bytes) -> None:
        assert self._process is not None
        if threading.get_ident() == self._thread:
            self._process.undelivered(parcel)
        else:
            self._loop.call_soon_threadsafe(self._process.undelivered, parcel)

    def _asked_to_end(self) -> None:
        """End in order: somebody has sent SIGTERM to this process."""
        assert self._process is not None
        if self._process.life.serving:
            self._process.deliver([Stop(self._process.ref.uid, SHUTDOWN)])
        else:
            self._process.life.cut(SHUTDOWN)

    def settle(self, callback: Callable[[], None]) -> None:
        """Call back once everything that has arrived by now is delivered."""
        self._loop.call_soon(self._settle, callback)

    def _settle(self, callback: Callable[[], None]) -> None:
        self._take_in()
        callback()

    # --- out ----------------------------------------------------------------------------------------------------

    def post(self, host: str, port: int, message: bytes) -> None:
        """Send a message at the end of this turn of the loop."""
        self._outbox.append((host, port, message))
        if not self._flush_is_due:
            self._flush_is_due = True
            if threading.get_ident() == self._thread:
                self._loop.call_soon(self.flush)
            else:
                self._loop.call_soon_threadsafe(self.flush)

    def acknowledge_late(self) -> None:
        """Tell senders that their messages have arrived when these are handled."""
        self._transport.acknowledges_late = True

    def flush(self) -> None:
        """Send what was posted in this turn; nothing where that was nothing."""
        if (user := (os.geteuid(), os.getegid())) != self._user:
            self._user = user
            self._tie_again()
        if self._flush_is_due:
            self._send_outbox()
            self._tend()

    def _tie_again(self) -> None:
        """Die with the supervisor: the kernel forgets that when a process changes its user."""
        assert self._process is not None
        if (parent := self._process.boot.parent) is not None:
            processes.die_with(parent.pid)

    def _send_outbox(self) -> None:
        self._flush_is_due = False
        grouped: dict[tuple[str, int], list[bytes]] = {}
        while self._outbox:
            host, port, message = self._outbox.popleft()
            grouped.setdefault((host, port), []).append(message)
        with self._transport_lock:
            for (host, port), messages in grouped.items():
                self._office.send(host, port, messages)

    def when_sent(self, callback: Callable[[], None]) -> None:
        """Call back once everything that was posted by now has arrived, or cannot arrive."""
        self.flush()
        self._office.when_sent(callback)

    def finish(self, orderly: bool) -> NoReturn:
        """Let the server's own code come to its end if that is `orderly`, send what is queued and end the process."""
        if orderly:
            farewell()
        self._send_outbox()
        self._transport_lock.acquire()  # for ever: the watchdog's thread has no business there any more
        self._office.drain_and_exit(self._leftovers)

    def _leftovers(self) -> None:
        self._office.refuse(self._opened)
        while self._inbox:
            envelope = self._inbox.popleft()
            if type(envelope.message) is bytes:
                self._office.refuse(open_parcel(envelope.message))

    # --- the watchdog -------------------------------------------------------------------------------------------

    def _serves(self) -> bool:
        return self._process is not None and self._process.life.serving

    def _blocked(self, seconds: float, stack: str) -> None:
        """Report a handler that keeps the loop from everything else; init may."""
        assert self._process is not None
        self._process.log.warning("a handler blocks the event loop", seconds=round(seconds, 3), stack=stack)
