"""Who is just computing the answer to a key, among all processes that use a folder: locks of the kernel's.

A claim is a lock on one byte of a file, at a place that the key names. Taking and leaving it takes some microseconds
and no message. The kernel takes it back from a process that dies, however it dies; and it asks nobody to be alive: an
owner of claims could be killed, this cannot.

Such a lock belongs to a process, not to a thread: within the process the book of `Claims` says who has it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from pathlib import Path

#: The kernel keeps a list of locks per file: each key has one of so many files.
FILES = 16
_PLACES = (1 << 62) - 1


class Claims:
    """The claims of this process in one folder.

    Args:
        folder: where the files are; made where it is not there.

    Raises:
        OSError: they cannot be made here.
    """

    def __init__(self, folder: Path) -> None:
        """Open the files."""
        folder.mkdir(mode=0o700, exist_ok=True)
        self._files: list[int] = []
        self._held: dict[int, int] = {}
        self._lock = threading.Lock()
        try:
            for number in range(FILES):
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
                self._files.append(os.open(folder / f"{number:x}", flags, 0o600))
            self._take(0)  # a file system without locks says so now
            self._free(0)
        except BaseException:
            self.close()
            raise

    def take(self, key: bytes) -> bool:
        """Claim a key; say whether no other process has it. Here it may be claimed several times.

        Raises:
            OSError: the file system has no locks any more.
        """
        number = int.from_bytes(key[:8], "big")
        with self._lock:
            count = self._held.get(number, 0)
            if not count and not self._take(number):
                return False
            self._held[number] = count + 1
        return True

    def free(self, key: bytes) -> None:
        """Leave a claim."""
        number = int.from_bytes(key[:8], "big")
        with self._lock:
            left = self._held.get(number, 0) - 1
            if left > 0:
                self._held[number] = left
            elif left == 0:
                del self._held[number]
                self._free(number)

    def writes(self) -> bytes:
        """Return what is another thing after each write, by whichever process.

        Raises:
            OSError: it is closed. So do all of these.
        """
        with self._lock:  # a number of a file that another thread closes may be another file's at once
            return os.pread(self._file(0), 8, 8)

    def turn_writes(self) -> None:
        """Let every process know that something was written."""
        with self._lock:
            os.pwrite(self._file(0), os.urandom(8), 8)

    def epoch(self) -> bytes:
        """Return what says whether answers were taken back, by whichever process, since it was asked last."""
        with self._lock:
            return os.pread(self._file(0), 8, 0).ljust(8, b"\0")  # the file grows with what stands behind it

    def turn_epoch(self) -> None:
        """Let every process know that answers were taken back: what they hold in memory may be among them."""
        with self._lock:
            os.pwrite(self._file(0), os.urandom(8), 0)

    def _file(self, number: int) -> int:
        if not self._files:
            raise OSError(errno.EBADF, "the claims of this folder are closed here")
        return self._files[number]

    def _take(self, number: int) -> bool:
        try:
            fcntl.lockf(self._file(number % FILES), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number >> 2 & _PLACES)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def _free(self, number: int) -> None:
        fcntl.lockf(self._file(number % FILES), fcntl.LOCK_UN, 1, number >> 2 & _PLACES)

    def close(self) -> None:
        """Leave all of them."""
        with self._lock:
            for handle in self._files:
                os.close(handle)
            self._files = []
            self._held = {}

    def __len__(self) -> int:
        """Return how many keys are claimed here."""
        return len(self._held)
