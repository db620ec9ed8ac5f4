"""The connection of a program outside to a node's door: thread-safe, many calls in flight.

A caller's thread seals and sends its own frame; one reader thread hands the answers out. There is no event loop in
the user's process and no listening socket.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from supervisors.terms.errors import CallTimeout, NodeDown, SupervisorsError
from supervisors.terms.reason import ExitReason
from supervisors.terms.ref import Down
from supervisors.wire import door_protocol as protocol
from supervisors.wire import values as wire
from supervisors.wire.clock import OWN_CLOCK, Clock
from supervisors.wire.frames import FrameCodec, FrameError, FrameReader, Opener

#: So much is read at once.
READ_BYTES = 1 << 18
#: An answer that the door should have given is waited for this much longer than the call's own timeout.
SLACK_SECONDS = 10.0


class Answer:
    """What one thread waits for: a Future's few methods that are needed for that, over a bare lock.

    A Future wakes its thread through a condition, which takes twice as long as the lock.
    """

    __slots__ = ("_arrived", "_error", "_is_done", "_value", "request_id")

    def __init__(self) -> None:
        """Wait to be answered."""
        self._arrived = threading.Lock()
        self._arrived.acquire()
        self._is_done = False
        self._value: Any = None
        self._error: Exception | None = None
        self.request_id = 0

    def set_running_or_notify_cancel(self) -> bool:
        """Return True: it is not cancelled, but abandoned."""
        return True

    def set_result(self, value: Any) -> None:
        """Answer it."""
        self._value, self._is_done = value, True
        self._arrived.release()

    def set_exception(self, error: Exception) -> None:
        """Answer it by an error."""
        self._error, self._is_done = error, True
        self._arrived.release()

    def done(self) -> bool:
        """Whether it is answered."""
        return self._is_done

    def result(self, timeout: float | None = None) -> Any:
        """Return the answer; for one thread, once.

        Raises:
            TimeoutError: it did not come within `timeout` seconds.
            Exception: what it was answered by.
        """
        # A lock takes no more seconds than this; nobody lives to see the difference.
        if not self._arrived.acquire(timeout=-1 if timeout is None else min(timeout, threading.TIMEOUT_MAX)):
            raise TimeoutError
        if self._error is not None:
            raise self._error
        return self._value


class KeyRefused(NodeDown):
    """A node answered and closed the connection at once."""


class DoorClient:
    """A connection to a door.

    Args:
        host, port: where the door listens.
        key: the cluster key.
        clock: the node's, as its file tells it.
        timeout: seconds to connect.

    Raises:
        NodeDown: nobody listens there, or the key is not that node's.
    """

    def __init__(self, host: str, port: int, key: bytes, clock: Clock = OWN_CLOCK, timeout: float = 5.0) -> None:
        """Connect and say hello."""
        self._dest = f"{host}:{port}"
        #: Whom frames are sealed for: the address, and after the greeting the very process that has answered it.
        self._seal_for = self._dest
        self._codec = FrameCodec(key, clock)
        self._name = f"client-{os.urandom(8).hex()}"
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._waiting: dict[int, Future[Any] | Answer] = {}
        self._monitors: dict[int, Callable[[Down], None]] = {}
        self._closed = False
        try:
            self._socket = socket.create_connection((host, port), timeout)
        except OSError as error:
            raise NodeDown(f"no node answers at {self._dest}: {error.strerror or error}") from None
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(None)
        self._thread = threading.Thread(target=self._read, name="node-door", daemon=True)
        self._thread.start()
        try:
            self.node: dict[str, Any] = self.request(protocol.HELLO, wire.VERSION, self._name, wait=timeout)
        except CallTimeout:
            self.close()
            raise NodeDown(f"the node at {self._dest} does not answer") from None
        except NodeDown:
            self.close()
            # What a door does to a client without its key; also to one that comes while it goes down.
            raise KeyRefused(
                f"the node at {self._dest} closed the connection: it has another cluster key, or is going down"
            ) from None
        except SupervisorsError:
            self.close()
            raise

    @property
    def closed(self) -> bool:
        """Whether the connection is gone."""
        return self._closed

    def submit(self, operation: str, *arguments: Any) -> Future[Any]:
        """Send a request; the future that is returned gets its answer.

        Raises:
            NodeDown: the connection is gone; the request was not carried out.
            CallFailed: the request is too large.
        """
        future: Future[Any] = Future()
        self._submit(future, next(self._ids), operation, arguments)
        return future

    def ask(self, operation: str, *arguments: Any) -> Answer:
        """Send a request whose answer the calling thread itself waits for.

        Raises:
            NodeDown: the connection is gone; the request was not carried out.
            CallFailed: the request is too large.
        """
        answer = Answer()
        self._submit(answer, next(self._ids), operation, arguments)
        return answer

    def _submit(self, future: Future[Any] | Answer, number: int, operation: str, arguments: tuple[Any, ...]) -> None:
        future.request_id = number  # type: ignore[union-attr]
        payload = wire.pack_message([number, operation, *arguments], "request")
        with self._lock:
            if self._closed:
                raise NodeDown(f"the node at {self._dest} has gone away")
            self._waiting[number] = future
            try:
                # Sealed under the lock: the receiver takes frames of one sender in order.
                self._socket.sendall(self._codec.seal(payload, self._seal_for))
            except OSError:
                self._waiting.pop(number, None)
                raise NodeDown(f"the node at {self._dest} has gone away") from None

    def request(self, operation: str, *arguments: Any, wait: float | None = None) -> Any:
        """Send a request and wait for its answer, at most `wait` seconds (None: without end)."""
        return self.wait(self.ask(operation, *arguments), operation, wait)

    def wait(self, future: Future[Any] | Answer, operation: str, wait: float | None) -> Any:
        """Wait for the answer to what was submitted, at most `wait` seconds (None: without end)."""
        try:
            return future.result(wait)
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
        with self._lock:
            if not self._closed:
                with contextlib.suppress(OSError):
                    self._socket.sendall(
                        self._codec.seal(wire.pack([protocol.UNASKED, operation, *arguments]), self._seal_for)
                    )

    def watch(self, target: Any, callback: Callable[[Down], None]) -> tuple[int, Any]:
        """Monitor a process; call back, from the reader's thread, when it ends.

        Returns:
            The monitor's number and the process's ref.
        """
        future: Future[Any] = Future()

        # In the reader's thread, and before it reads what comes next: no Down can be missed.
        def note(done: Future[Any]) -> None:
            if not done.cancelled() and done.exception() is None:
                self._monitors[done.result()[0]] = callback

        future.add_done_callback(note)
        self._submit(future, next(self._ids), protocol.MONITOR, (target,))
        number, ref = self.wait(future, protocol.MONITOR, SLACK_SECONDS)
        return number, ref

    def forget_monitor(self, monitor: int) -> None:
        """Stop waiting for a process's end."""
        self._monitors.pop(monitor, None)
        self._notify(protocol.DEMONITOR, monitor)

    def close(self) -> None:
        """Close the connection; what still waits gets NodeDown."""
        if not self._closed and threading.current_thread() is not self._thread:
            with contextlib.suppress(SupervisorsError):
                self.request(protocol.BYE, wait=4.0)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
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
            callback = self._monitors.pop(monitor, None)
            if callback is not None:
                callback(down)
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
            self._closed = True
            waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if future.set_running_or_notify_cancel():
                future.set_exception(NodeDown(f"the node at {self._dest} has gone away"))
        monitors, self._monitors = self._monitors, {}
        for callback in monitors.values():
            callback(Down(None, ExitReason("nodedown")))
        with contextlib.suppress(OSError):
            self._socket.close()
