"""What a process has spent, and holds back for requests under way, where it outlives it: a small mapped file.

Two whole numbers for each purse, written without a call to the kernel; whoever has the file reads them at any time.
They survive the end of the process, not that of the machine.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

from dspex_actors.foundation.purses import Used

#: In a node's data folder.
FOLDER = "spending"
#: So many purses has a process at most: sets of accounts.
SLOTS = 256
_PAIR, _ONE = struct.Struct("<qq"), struct.Struct("<q")


def file_of(data_dir: Path, holder: str) -> Path:
    """Return where the purses of a process stand."""
    return data_dir / FOLDER / holder


class SpendingFile:
    """The purses of this process.

    Args:
        data_dir: the node's data folder.
        holder: this process, as "PID-BORN".

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, data_dir: Path, holder: str) -> None:
        """Make it, with nothing spent."""
        path = file_of(data_dir, holder)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # Written, not only made longer: a disk that is full is found out now, and not by a signal.
            os.write(handle, bytes(SLOTS * _PAIR.size))
            self._map = mmap.mmap(handle, SLOTS * _PAIR.size)
        finally:
            os.close(handle)

    def write_spent(self, slot: int, spent: int) -> None:
        """Write down what a purse has spent."""
        _ONE.pack_into(self._map, slot * _PAIR.size, spent)

    def write_held(self, slot: int, held: int) -> None:
        """Write down what a purse holds back."""
        _ONE.pack_into(self._map, slot * _PAIR.size + _ONE.size, held)


def read_used(data_dir: Path, holder: str) -> list[Used] | None:
    """Return what the purses of a process have spent and held back; None where there is no file that can be read."""
    try:
        data = file_of(data_dir, holder).read_bytes()
    except OSError:
        return None
    if len(data) != SLOTS * _PAIR.size:
        return None
    return [Used(spent, held) for spent, held in _PAIR.iter_unpack(data)]
