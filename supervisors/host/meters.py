"""What each process of a node counts of itself, in memory that they all share.

The daemon makes one anonymous shared mapping before its first fork; every process has a slot in it, found by its pid,
and writes numbers there as it works: no message, no lock, no file. So the door can tell what a process is doing also
while that process is stuck in a handler, and nothing is left behind by one that was killed.
"""

from __future__ import annotations

import mmap
import os
import time
from array import array
from collections.abc import Iterable
from typing import Any

#: Pages that nobody writes to take no memory. Two live pids with the same slot would be this far apart.
SLOTS = 65536
#: pid, messages taken, waiting in the mailbox, parcels not yet opened, busy since (µs of the monotonic clock; 0: idle).
_PID, _TAKEN, _WAITING, _INBOX, _SINCE, _WORDS = 0, 1, 2, 3, 4, 8

_region: memoryview | None = None


def share() -> None:
    """Make the memory that this process and everything it forks from now on count in."""
    global _region  # noqa: PLW0603 - one per process, made before anything else runs
    if _region is None:
        _region = memoryview(mmap.mmap(-1, SLOTS * _WORDS * 8)).cast("Q")


class Meter:
    """The counters of this process: written by it, read by anybody in the node."""

    __slots__ = ("_slot",)

    def __init__(self) -> None:
        """Take this process's slot, and begin at zero; without shared memory it counts for itself alone."""
        pid = os.getpid()
        self._slot: Any = array("Q", [0] * _WORDS)
        if _region is not None:
            start = pid % SLOTS * _WORDS
            self._slot = _region[start : start + _WORDS]
        self._slot[_PID] = 0  # not to be read while it is wiped
        for word in range(1, _WORDS):
            self._slot[word] = 0
        self._slot[_PID] = pid

    def arrived(self, parcels: int) -> None:
        """Note how many parcels have come in and are not opened yet."""
        self._slot[_INBOX] = parcels

    def waiting(self, messages: int) -> None:
        """Note how many messages are in the mailbox."""
        self._slot[_WAITING] = messages

    def begin(self, waiting: int) -> None:
        """Note that a handler begins with a message, and how many messages wait behind it."""
        slot = self._slot
        slot[_TAKEN] += 1
        slot[_WAITING] = waiting
        slot[_SINCE] = time.monotonic_ns() // 1000

    def end(self) -> None:
        """Note that the handler has returned."""
        self._slot[_SINCE] = 0

    def took(self, messages: int) -> None:
        """Count messages that were dealt with at once."""
        self._slot[_TAKEN] += messages


def read(pids: Iterable[int]) -> list[tuple[int, int, int, float]]:
    """Return (pid, messages taken, waiting, seconds in the present handler) of those of `pids` that count."""
    if _region is None:
        return []
    found = []
    now = time.monotonic_ns() // 1000
    for pid in pids:
        start = pid % SLOTS * _WORDS
        slot = _region[start : start + _WORDS].tolist()
        if slot[_PID] == pid:
            busy = max(0, now - slot[_SINCE]) / 1e6 if slot[_SINCE] else 0.0
            found.append((pid, slot[_TAKEN], slot[_WAITING] + slot[_INBOX], busy))
    return found
