"""The lobby: connections that have not shown an authentic header yet.

Thespian's loop walks over all its incoming connections each time it wakes, so strangers are kept out of
them. All of them sit behind one selector, and the loop sees that as a single incoming connection: waking up
costs the same whether nobody is waiting or sixty-four are.
"""

import selectors
import time
from collections.abc import Callable
from datetime import timedelta
from socket import socket as Socket  # noqa: N812 - the lobby has an attribute of that name
from typing import Any

from supervisors.wire.frames import FrameReader

__all__ = ["Guest", "Lobby"]

CAPACITY = 64
PATIENCE = 5.0

_NEVER = timedelta(days=1)
_NOW = timedelta(microseconds=1)


class Guest:
    """One connection that is not authenticated."""

    __slots__ = ("deadline", "fd", "reader", "sock", "source")

    def __init__(self, sock: Socket, source: str, reader: FrameReader, deadline: float) -> None:
        """Note who it is and until when it may stay."""
        self.sock = sock
        self.fd = sock.fileno()
        self.source = source
        self.reader = reader
        self.deadline = deadline


class Lobby:
    """Hold unauthenticated connections, few and not for long.

    It has the attributes that Thespian's loop asks of an incoming connection.

    Args:
        clock: seconds, monotonic.
    """

    fromAddress = None  # noqa: N815 - Thespian's name

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Nobody is here yet."""
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        # In order of arrival, so in order of deadline too.
        self._guests: dict[int, Guest] = {}

    def __len__(self) -> int:
        """Return how many are waiting."""
        return len(self._guests)

    def fileno(self) -> int:
        """Return the descriptor that is readable when one of the guests is."""
        return self._selector.fileno()

    @property
    def socket(self) -> "Lobby":
        """What the loop asks for a descriptor: the lobby itself."""
        return self

    def backoffPause(self) -> bool:  # noqa: N802 - Thespian's name
        """Never paused."""
        return False

    def delay(self, current_time: Any = None) -> timedelta:
        """Return the time until the first guest has to go."""
        if not self._guests:
            return _NEVER
        # Not zero, which the loop takes for "no limit".
        return max(_NOW, timedelta(seconds=self.oldest.deadline - self._clock()))

    @property
    def full(self) -> bool:
        """Whether the next guest needs somebody's place."""
        return len(self._guests) >= CAPACITY

    @property
    def oldest(self) -> Guest:
        """The guest that waits longest."""
        return next(iter(self._guests.values()))

    def admit(self, sock: Socket, source: str, reader: FrameReader) -> None:
        """Let a new connection wait for its header."""
        guest = Guest(sock, source, reader, self._clock() + PATIENCE)
        self._selector.register(guest.fd, selectors.EVENT_READ)
        self._guests[guest.fd] = guest

    def speaking(self) -> list[Guest]:
        """Return the guests from whom something can be read."""
        return [self._guests[key.fd] for key, _ in self._selector.select(0) if key.fd in self._guests]

    def overdue(self) -> list[Guest]:
        """Return the guests whose time is over."""
        now = self._clock()
        found = []
        for guest in self._guests.values():
            if guest.deadline > now:
                break
            found.append(guest)
        return found

    def release(self, guest: Guest) -> Socket:
        """Stop waiting for `guest`, whose connection the caller takes over."""
        del self._guests[guest.fd]
        # Explicitly, before any close: a forked child may hold the same connection, and then closing ours
        # would leave it in the selector.
        self._selector.unregister(guest.fd)
        return guest.sock

    def close(self) -> None:
        """Close all connections and the selector."""
        for guest in list(self._guests.values()):
            self.release(guest).close()
        self._selector.close()

    def descriptors(self) -> list[int]:
        """Return what a forked child has copies of: the guests' connections and the selector."""
        return [*self._guests, self._selector.fileno()]
