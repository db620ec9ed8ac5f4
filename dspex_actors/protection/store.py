"""What outlives the owner of protected keys: one file, to which each change is added before it is answered.

A killed owner's successor reads it: what was used counts, whoever is in stays in, an open circuit stays open. A write
reaches the kernel, which no kill of a process takes back; after a crash of the machine there is nobody left to protect
from.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack

from dspex_actors.foundation.files import write_whole

FILE = "protection.log"
#: After so many changes the file is written anew.
MOST = 2000


class Store:
    """The file.

    Args:
        folder: where it is.
    """

    def __init__(self, folder: Path) -> None:
        """Touch nothing yet."""
        self._path = folder / FILE
        self._file: Any = None
        self.changes = 0

    def read(self) -> Iterator[Any]:
        """Give what was written, in order; what a kill has cut in the middle is left out.

        Nothing where the machine was started anew since: its clock began again.
        """
        try:
            data = self._path.read_bytes()
        except OSError:
            return
        unpacker = msgpack.Unpacker(strict_map_key=False)
        unpacker.feed(data)
        with contextlib.suppress(ValueError, msgpack.UnpackException):
            first = next(unpacker, None)
            if not isinstance(first, list) or first[:2] != ["boot", _boot()] or first[2] > time.monotonic():
                return
            yield from unpacker

    def add(self, *record: Any) -> None:
        """Add a change.

        Raises:
            OSError: the disk is full.
        """
        if self._file is None:
            if not self._path.exists():
                self.write([])
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.write(self._file, msgpack.packb(record))
        self.changes += 1

    def write(self, records: list[Any]) -> None:
        """Write all of it anew.

        Raises:
            OSError: the disk is full.
        """
        self.close()
        begins = ("boot", _boot(), time.monotonic())
        write_whole(self._path, b"".join(msgpack.packb(record) for record in (begins, *records)))
        self.changes = 0

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _boot() -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""
