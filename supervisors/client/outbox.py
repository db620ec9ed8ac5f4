"""What a connection sends: at once where the socket takes it; the rest by a thread that is there as long."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections import deque
from collections.abc import Callable

#: Who wants to send waits while so many bytes are left.
ROOM_BYTES = 8 << 20
#: A send never waits, and never kills a program that has SIGPIPE at its default.
_FLAGS = socket.MSG_DONTWAIT | getattr(socket, "MSG_NOSIGNAL", 0)


class Outbox:
    """The sending side of a socket. All is called under its owner's lock, but for the thread that sends the rest.

    Args:
        connected: the socket.
        lock: the owner's.
        broken: called, under the lock, when the connection cannot be used any more.
    """

    def __init__(self, connected: socket.socket, lock: threading.Lock, broken: Callable[[], None]) -> None:
        """Have nothing to send."""
        self._socket, self._lock, self._broken = connected, lock, broken
        self._changed = threading.Condition(lock)
        self._left: deque[memoryview] = deque()
        self._bytes = 0

    @property
    def has_room(self) -> bool:
        """Whether a caller may send without waiting; no lock is needed for this question."""
        return self._bytes < ROOM_BYTES

    def send(self, frame: bytes) -> None:
        """Send a frame, or keep what the socket does not take now.

        Raises:
            OSError: the connection is gone.
        """
        try:
            sent = 0
            if not self._left:
                with contextlib.suppress(BlockingIOError):
                    sent = self._socket.send(frame, _FLAGS)
            if sent < len(frame):
                self._keep(memoryview(frame)[sent:])
        except BaseException:  # Ctrl-C too: nobody knows how much of the frame has gone out
            self.give_up()
            raise

    def wait_for_room(self, seconds: float | None) -> bool:
        """Wait until there is room, or the outbox has been given up; return whether that came in time."""
        return self._changed.wait_for(lambda: self.has_room, seconds)

    def wait_until_empty(self, seconds: float) -> None:
        """Wait until all has been sent, or given up, at most so long."""
        self._changed.wait_for(lambda: not self._left, seconds)

    def give_up(self) -> None:
        """Drop what is left: the connection is not to be used any more."""
        self._broken()
        self._left.clear()
        self._bytes = 0
        self._changed.notify_all()

    def _keep(self, rest: memoryview) -> None:
        self._left.append(rest)
        self._bytes += len(rest)
        if len(self._left) == 1:
            threading.Thread(target=self._send_rest, name="node-door-rest", daemon=True).start()

    def _send_rest(self) -> None:
        poller = select.poll()
        fd = self._socket.fileno()
        if fd >= 0:
            poller.register(fd, select.POLLOUT)
        while True:
            poller.poll(1000)
            with self._lock:
                if not self._left:
                    return
                try:
                    sent = self._socket.send(self._left[0], _FLAGS)
                except BlockingIOError:
                    continue
                except OSError:
                    self.give_up()
                    return
                rest = self._left.popleft()[sent:]
                if rest:
                    self._left.appendleft(rest)
                self._bytes -= sent
                self._changed.notify_all()
                if not self._left:
                    return
