"""The connection of a program outside to a node's door: thread-safe, many calls in flight.

A caller's thread seals and sends its own frame; one reader thread hands the answers out. There is no event loop in
the user's process and no listening socket. A connection belongs to the process that has made it: in a forked child
it is closed from the start.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol

from supervisors.client.answer import Answer
from supervisors.client.forks import keep_from_children
from supervisors.client.outbox import Outbox
from supervisors.client.threads import capped, start_with_room
from supervisors.host.streams import above_streams
from supervisors.terms.errors import CallFailed, CallTimeout, NodeDown, SupervisorsError
from supervisors.terms.reason import NODEDOWN
from supervisors.terms.ref import Down
from supervisors.wire import door_protocol as protocol
from supervisors.wire import values as wire
from supervisors.wire.clock import OWN_CLOCK, Clock
from supervisors.wire.frames import FrameCodec, FrameError, FrameReader, Opener

#: So much is read at once.
READ_BYTES = 1 << 18
#: An answer that the door should have given is waited for this much longer than the call's own timeout.
SLACK_SECONDS = 2.0
#: How long a monitor may take to be set, and a message that nobody waits for to find room in a full connection.
PATIENCE_SECONDS = 10.0
#: How long closing waits until all that was sent has arrived, and until the door has seen the end.
CLOSE_SECONDS = 4.0


class Watcher(Protocol):
    """Who is told of the end of a process."""

    def ended(self, down: Down) -> None:
        """Take in that it has ended."""


class KeyRefused(NodeDown):
    """A node answered and closed the connection at once."""


class DoorClient:
    """A connection to a door.

    Args:
        host, port: where the door listens.
        key: the cluster key.
        clock: the node's, as its file tells it.
        timeout: seconds to connect.
        lost: told who watches processes over this connection when it breaks; without one they are told nodedown.

    Raises:
        NodeDown: nobody listens there, or the key is not that node's.
    """

    def __init__(
        self,
        host: str,
        port: int,
        key: bytes,
        clock: Clock = OWN_CLOCK,
        timeout: float = 5.0,
        lost: Callable[[DoorClient, list[Watcher]], None] | None = None,
    ) -> None:
        """Connect and say hello."""
        self._dest = f"{host}:{port}"
        #: Whom frames are sealed for: the address, and after the greeting the very process that has answered it.
        self._seal_for = self._dest
        self._codec = FrameCodec(key, clock)
        self._name = f"client-{os.urandom(8).hex()}"
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._waiting: dict[int, Future[Any] | Answer] = {}
        self._monitors: dict[int, weakref.ref[Watcher]] = {}
        #: Monitors that have been dropped. Whoever drops one may hold any lock, so they are undone at the next request.
        self._dropped: deque[int] = deque()
        self._lost = lost
        #: The threads that are sending. What interrupts one of them (a finalizer, a signal handler) may send as well.
        self._senders: set[int] = set()
        #: What has been sent in such an interruption: it goes out when the sender that was interrupted has sent.
        self._later: deque[tuple[int, bytes]] = deque()
        self._closed = self._broken = False
        self.pid = os.getpid()
        try:
            self._socket = above_streams(socket.create_connection((host, port), timeout))
        except OSError as error:
            raise NodeDown(f"no node answers at {self._dest}: {error.strerror or error}") from None
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(None)
        self._outbox = Outbox(self._socket, self._lock, self._break)
        keep_from_children(self)
        self._thread = threading.Thread(target=self._read, name="node-door", daemon=True)
        try:
            start_with_room(self._thread)
        except RuntimeError as error:
            self._socket.close()
            raise NodeDown(f"the node at {self._dest} cannot be talked to: {error}") from None
        try:
            self.node: dict[str, Any] = self.request(protocol.HELLO, wire.VERSION, self._name, wait=timeout)
        except CallTimeout:
            self.abort()
            raise NodeDown(f"the node at {self._dest} does not answer") from None
        except NodeDown:
            self.abort()
            # What a door does to a client without its key; also to one that comes while it goes down.
            raise KeyRefused(
                f"the node at {self._dest} closed the connection: it has another cluster key, or is going down"
            ) from None
        except BaseException:
            self.abort()
            raise

    @property
    def closed(self) -> bool:
        """Whether the connection is gone."""
        return self._closed

    @property
    def has_room(self) -> bool:
        """Whether a request may be sent without waiting for the door to read."""
        return self._outbox.has_room

    def check_own(self) -> None:
        """Refuse to wait, in a forked child, for what was asked in its parent.

        Raises:
            NodeDown: this process is such a child.
        """
        if self.pid != os.getpid():
            raise NodeDown(f"this was asked by process {self.pid}, of which this one was forked: ask again here")

    def submit(self, operation: str, *arguments: Any, wait: float | None = PATIENCE_SECONDS) -> Future[Any]:
        """Send a request; the future that is returned gets its answer.

        Args:
            operation, arguments: what is asked.
            wait: how many seconds it may take until the door has read what was sent before (None: without end).

        Raises:
            NodeDown: the connection is gone; the request was not carried out.
            CallTimeout: the door does not read; the request was not sent.
            CallFailed: the request is too large.
        """
        future: Future[Any] = Future()
        self._submit(future, operation, arguments, wait)
        return future

    def ask(self, operation: str, *arguments: Any, wait: float | None = PATIENCE_SECONDS) -> Answer:
        """Send a request whose answer the calling thread itself waits for; else as `submit`."""
        answer = Answer()
        self._submit(answer, operation, arguments, wait)
        return answer

    def tell(self, operation: str, *arguments: Any, wait: float | None = PATIENCE_SECONDS) -> None:
        """Send what has no answer; else as `submit`.

        A program that has only told, and ends without a farewell, leaves no answer unread in its socket: at one that
        is, the kernel resets the connection, and drops what it has not yet handed over.
        """
        self._submit(None, operation, arguments, wait)

    def _submit(
        self, future: Future[Any] | Answer | None, operation: str, arguments: tuple[Any, ...], wait: float | None
    ) -> None:
        number = protocol.UNASKED
        if future is not None:
            future.request_id = number = next(self._ids)  # type: ignore[union-attr]
        payload = wire.pack_message([number, operation, *arguments], "request")
        if self._is_interruption():
            if type(future) is Answer:
                raise CallFailed(
                    f"{operation} would wait for itself: a signal handler or finalizer has interrupted a request of "
                    "the same thread; cast there, or ask in another thread"
                )
            if future is not None:
                self._waiting[number] = future
            self._later.append((number, payload))
        else:
            self._in_turn(self._send_request, future, number, operation, payload, wait)

    def _send_request(
        self, future: Future[Any] | Answer | None, number: int, operation: str, payload: bytes, wait: float | None
    ) -> None:
        if not self._outbox.has_room and not self._outbox.wait_for_room(capped(wait)):
            raise CallTimeout(f"the node at {self._dest} has read nothing for {wait:g} s; {operation} was not sent")
        if self._closed:
            raise NodeDown(f"the node at {self._dest} has gone away")
        if self._dropped:
            self._undo_dropped()
        if future is not None:
            self._waiting[number] = future
        try:
            self._send(payload)
        except BaseException as error:
            self._waiting.pop(number, None)
            if isinstance(error, OSError):
                raise NodeDown(f"the node at {self._dest} has gone away") from None
            raise

    def _is_interruption(self) -> bool:
        """Whether this code, a signal handler's or a finalizer's, has interrupted a send of its own thread."""
        return threading.get_ident() in self._senders

    def _in_turn(self, send: Callable[..., None], *arguments: Any) -> None:
        """Send under the lock; then what has come in an interruption meanwhile."""
        thread = threading.get_ident()
        try:
            self._senders.add(
                thread
            )  # before the lock is taken: an interruption that waited for it would do so for ever
            with self._lock:
                try:
                    send(*arguments)
                finally:
                    self._send_later()
        finally:
            self._senders.discard(thread)
        if self._later:  # it has come at the very last
            self._in_turn(self._send_later)

    def _send_later(self) -> None:
        while self._later:
            number, payload = self._later.popleft()
            if not self._closed:
                with contextlib.suppress(OSError):  # the connection breaks, and the reader tells who waits
                    self._send(payload)
            elif (future := self._waiting.pop(number, None)) is not None:
                future.set_exception(NodeDown(f"the node at {self._dest} has gone away"))

    def _send(self, payload: bytes) -> None:
        # Sealed under the lock: the receiver takes frames of one sender in order.
        self._outbox.send(self._codec.seal(payload, self._seal_for))

    def request(self, operation: str, *arguments: Any, wait: float | None = None) -> Any:
        """Send a request and wait for its answer, at most `wait` seconds (None: without end)."""
        return self.wait(self.ask(operation, *arguments, wait=wait), operation, wait)

    def wait(self, future: Future[Any] | Answer, operation: str, wait: float | None) -> Any:
        """Wait for the answer to what was submitted, at most `wait` seconds (None: without end)."""
        try:
            return future.result(capped(wait))
        except TimeoutError:
            self.abandon(future)
            raise CallTimeout(f"no answer to {operation} from the node at {self._dest} within {wait:g} s") from None
        except BaseException:
            if not future.done():  # Ctrl-C while waiting: nobody will read the answer
                self.abandon(future)
            raise

    def abandon(self, future: Future[Any] | Answer) -> None:
        """Drop a request: its answer is not wanted any more."""
        number = future.request_id  # type: ignore[union-attr]
        if self._waiting.pop(number, None) is not None:
            with contextlib.suppress(SupervisorsError):
                self._notify(protocol.CANCEL, number)

    def _notify(self, operation: str, *arguments: Any) -> None:
        if self._is_interruption():
            self._later.append((protocol.UNASKED, wire.pack([protocol.UNASKED, operation, *arguments])))
        else:
            self._in_turn(self._send_unasked, operation, *arguments)

    def _send_unasked(self, operation: str, *arguments: Any) -> None:
        if not self._closed:
            with contextlib.suppress(OSError):
                self._send(wire.pack([protocol.UNASKED, operation, *arguments]))

    def watch(self, target: Any, watcher: Watcher) -> tuple[int, Any]:
        """Monitor a process; tell the watcher, from the reader's thread, when it ends.

        A watcher that nobody holds any more is forgotten, here and by the door.

        Returns:
            The monitor's number and the process's ref.
        """
        future: Future[Any] = Future()

        # In the reader's thread, and before it reads what comes next: no Down can be missed.
        def note(done: Future[Any]) -> None:
            if not done.cancelled() and done.exception() is None:
                number = done.result()[0]
                self._monitors[number] = weakref.ref(watcher, lambda _: self._dropped.append(number))

        future.add_done_callback(note)
        self._submit(future, protocol.MONITOR, (target,), PATIENCE_SECONDS)
        number, ref = self.wait(future, protocol.MONITOR, PATIENCE_SECONDS)
        return number, ref

    def forget_monitor(self, monitor: int) -> None:
        """Stop waiting for a process's end."""
        if self._monitors.pop(monitor, None) is not None:
            self._notify(protocol.DEMONITOR, monitor)

    def _undo_dropped(self) -> None:
        while self._dropped:
            number = self._dropped.popleft()
            if self._monitors.pop(number, None) is not None:
                self._send_unasked(protocol.DEMONITOR, number)

    def close(self) -> None:
        """Send what is left, see that it arrives, and close; what still waits gets NodeDown."""
        if self._is_interruption():  # SIGTERM's handler, say: what it has interrupted cannot be waited for
            self._break()
            return
        if not self._closed and threading.current_thread() is not self._thread:
            with contextlib.suppress(SupervisorsError):
                self.request(protocol.BYE, wait=CLOSE_SECONDS)
        with self._lock:
            self._closed = True
            if not self._broken:
                self._outbox.wait_until_empty(CLOSE_SECONDS)
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_WR)
        # The door closes at that. To close before it has would make it lose what it has not read yet.
        if threading.current_thread() is not self._thread:
            self._thread.join(CLOSE_SECONDS)
        self.abort()

    def abort(self) -> None:
        """Close the connection at once; what still waits gets NodeDown."""
        self._in_turn(self._outbox.give_up)

    def _break(self) -> None:
        """Stop sending and have the reader end; under the lock."""
        self._closed = self._broken = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def leave_to_parent(self) -> None:
        """Be closed in a forked child: the socket is closed there and not shut down, and nothing is waited for."""
        self._lock = threading.Lock()
        self._senders, self._later = set(), deque()
        self._closed = self._broken = True
        self._outbox = Outbox(self._socket, self._lock, self._break)
        self._waiting, self._monitors = {}, {}
        self._socket.close()

    def _read(self) -> None:
        reader = FrameReader(Opener(self._codec, self._name))
        buffer = memoryview(bytearray(READ_BYTES))
        try:
            while size := self._socket.recv_into(buffer):
                payloads = reader.feed(buffer[:size])
                self._seal_for = reader.peer or self._seal_for
                for payload in payloads:
                    self._take(wire.unpack(payload, trusted=True))
        except (OSError, ValueError, FrameError):
            pass
        finally:
            self._gone()

    def _take(self, message: list[Any]) -> None:
        number, ok, *rest = message
        if ok == protocol.DOWN:
            monitor, down = rest
            reference = self._monitors.pop(monitor, None)
            if reference is not None and (watcher := reference()) is not None:
                watcher.ended(down)
            return
        future = self._waiting.pop(number, None)
        if future is None or not future.set_running_or_notify_cancel():
            return
        if ok:
            future.set_result(rest[0])
        else:
            future.set_exception(rest[0])

    def _gone(self) -> None:
        with self._lock:
            self._outbox.give_up()
            self._socket.close()
            waiting, self._waiting = self._waiting, {}
            monitors, self._monitors = self._monitors, {}
        for future in waiting.values():
            if future.set_running_or_notify_cancel():
                future.set_exception(NodeDown(f"the node at {self._dest} has gone away"))
        watchers = [watcher for each in monitors.values() if (watcher := each()) is not None]
        if watchers and self._lost is not None:
            self._lost(self, watchers)
        else:
            for watcher in watchers:
                watcher.ended(Down(None, NODEDOWN))
