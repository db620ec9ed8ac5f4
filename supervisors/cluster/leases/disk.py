"""A file of records that are on the disk when `append` returns, and whole after a kill or a power cut.

Each record has its length and its checksum before it. What a kill has left unfinished at the end is cut off when the
file is opened; nobody has been told that it was written. Where whole records follow what is damaged it is no such end:
what others were told is in there, so the file is not opened.
"""

from __future__ import annotations

import errno
import os
import re
import zlib
from collections.abc import Iterable
from pathlib import Path
from struct import Struct

_HEAD = Struct("<II")
#: No record is larger; a greater length is damage.
MAX_RECORD = 256 << 20
#: Where a length below 256 KB may begin: only such records are looked for behind a damaged one, larger ones are rare.
_SHORT = re.compile(rb"(?=(?!\x00{4})..[\x00-\x03]\x00)", re.DOTALL)


class RecordFile:
    """The file.

    Args:
        path: where it is; it is made where there is none.

    Raises:
        OSError: it cannot be opened, or is damaged before its end.
    """

    def __init__(self, path: Path) -> None:
        """Open it; `records` has what was in it."""
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            data = path.read_bytes()
            self.records, self.size = _whole(data)
            if _goes_on(data, self.size):
                why = (
                    f"{path} is damaged at byte {self.size:,} of {len(data):,}, with whole records behind it; put back "
                    "a good copy, or have this node join anew with an empty data folder"
                )
                raise OSError(errno.EIO, why)
            os.ftruncate(self._fd, self.size)
            _sync_folder(path.parent)
        except BaseException:
            os.close(self._fd)
            raise

    def append(self, records: Iterable[bytes]) -> None:
        """Write records behind the others; they are on the disk when it returns.

        Raises:
            OSError: they are not, and the file is as it was.
        """
        data = b"".join(_framed(each) for each in records)
        if not data:
            return
        try:
            _write(self._fd, data, self.size)
            os.fdatasync(self._fd)
        except OSError:
            os.ftruncate(self._fd, self.size)
            raise
        self.size += len(data)

    def replace(self, records: Iterable[bytes]) -> None:
        """Put these records in the place of all others, at once.

        Raises:
            OSError: the file is as it was; or it has them, and a power cut may take them back.
        """
        fresh = self.path.with_name(self.path.name + ".new")
        data = b"".join(_framed(each) for each in records)
        fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write(fd, data, 0)
            os.fsync(fd)
            os.replace(fresh, self.path)
        except OSError:
            os.close(fd)
            fresh.unlink(missing_ok=True)
            raise
        os.close(self._fd)  # from here on that one has no name any more
        self._fd, self.size = fd, len(data)
        _sync_folder(self.path.parent)

    def close(self) -> None:
        """Close it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _framed(record: bytes) -> bytes:
    return _HEAD.pack(len(record), zlib.crc32(record)) + record


def _record_at(data: bytes, place: int) -> bytes | None:
    """Return the record that begins there, if it is whole; none is empty, so that a hole in a file is none."""
    if place + _HEAD.size > len(data):
        return None
    length, checksum = _HEAD.unpack_from(data, place)
    begin = place + _HEAD.size
    if not 0 < length <= min(MAX_RECORD, len(data) - begin):
        return None
    record = data[begin : begin + length]
    return record if zlib.crc32(record) == checksum else None


def _whole(data: bytes) -> tuple[list[bytes], int]:
    """Return the records that are whole, up to the first that is not, and where that one begins."""
    found, place = [], 0
    while (record := _record_at(data, place)) is not None:
        found.append(record)
        place += _HEAD.size + len(record)
    return found, place


def _goes_on(data: bytes, place: int) -> bool:
    """Whether a whole record follows the damaged one at a place: by that one's length, or wherever there is one."""
    if place + _HEAD.size > len(data):
        return False
    following = place + _HEAD.size + _HEAD.unpack_from(data, place)[0]
    places = (found.start() for found in _SHORT.finditer(data, place + 1))
    return any(_record_at(data, each) is not None for each in (following, *places))


def _write(fd: int, data: bytes, place: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, place)
        view, place = view[written:], place + written


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
