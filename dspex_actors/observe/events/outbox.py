"""What a process has emitted and not yet sent: a bounded queue; what does not fit is dropped and counted."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from dspex_actors.foundation.events.record import Record

#: So many events wait at most, and so many bytes of them.
MAX_EVENTS, MAX_BYTES = 10_000, 32 << 20
#: So many go at a time at most, and so many bytes of them.
BATCH_EVENTS, BATCH_BYTES = 2000, 2 << 20
#: They are sent this often, in seconds.
SEND_SECONDS = 0.05
#: What a record takes beside its data, in bytes, roughly.
_ENVELOPE = 300


class Outbox:
    """A bounded queue of events. Putting is safe in any thread, in finalisers and signal handlers, and never waits.

    Args:
        wake: called, from any thread, when there is something to send where there was nothing.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        """Begin empty."""
        self._wake = wake
        self._lock = threading.RLock()
        self._records: deque[Record] = deque()
        self._bytes = 0
        self._dropped = 0
        #: How many have ever been taken in.
        self.accepted = 0

    def put(self, record: Record) -> None:
        """Put an event in, or count it as dropped."""
        size = len(record.data) + _ENVELOPE
        with self._lock:
            if len(self._records) >= MAX_EVENTS or self._bytes + size > MAX_BYTES:
                self._dropped += 1
                return
            self._records.append(record)
            self._bytes += size
            self.accepted += 1
            first = len(self._records) == 1
        if first:
            self._wake()

    def take(self) -> tuple[list[Record], int]:
        """Take the next ones out, oldest first; return them, and how many were dropped since the last time."""
        taken: list[Record] = []
        size = 0
        with self._lock:
            while self._records and len(taken) < BATCH_EVENTS and size < BATCH_BYTES:
                record = self._records.popleft()
                taken.append(record)
                size += len(record.data) + _ENVELOPE
            self._bytes = self._bytes - size if self._records else 0
            dropped, self._dropped = self._dropped, 0
        return taken, dropped

    def lost(self, count: int) -> None:
        """Count events that were taken out and could not be sent."""
        with self._lock:
            self._dropped += count

    def clear(self) -> None:
        """Forget what waits, without the lock: in a child of a fork, where another thread may have held it."""
        self._lock = threading.RLock()
        self._records.clear()
        self._bytes = self._dropped = self.accepted = 0

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._records)
