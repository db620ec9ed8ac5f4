"""Requests written down before they are sent: a worker that is killed cannot tell what it had asked.

A file per worker process and run, under `asked/` in the node's data folder; a line per request, appended. What is
written is in the kernel's hands at once, so it survives the end of the process (not that of the machine). Whoever takes
a run over reads the files: what was asked and never told becomes a "lost" request, which may have been billed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from supervisors.host import processes

FOLDER = "asked"
#: A file is written anew, without what has been told, when it is larger than this many bytes.
LARGE = 1 << 20

#: Says of a request (example, sending, number) whether its end is known.
Told = Callable[[int, int, int], bool]


def none_told(index: int, send: int, n: int) -> bool:
    """Say that the end of no request is known."""
    return False


class Line(NamedTuple):
    """One request as it was written down."""

    example: int
    send: int
    n: int
    at: float
    tokens: int
    provider: str
    model: str


def folder_of(data_dir: Path, run_id: str) -> Path:
    """Return where the files of a run are; its id may hold anything."""
    return data_dir / FOLDER / hashlib.blake2s(run_id.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


class Notes:
    """What this process asks for one run.

    Args:
        data_dir: the node's data folder.
        run_id: the run.
        pid: of this process, and when it was `born`: so that a later one of that number is another one.
    """

    def __init__(self, data_dir: Path, run_id: str, pid: int, born: int) -> None:
        """Open nothing before the first request."""
        self._path = folder_of(data_dir, run_id) / f"{pid}-{born}"
        self._file: int | None = None
        self._size = 0
        #: Lines of what has not been told, by example and sending.
        self._open: dict[tuple[int, int], list[bytes]] = {}

    def write(self, index: int, send: int, n: int, at: float, tokens: int, provider: str, model: str) -> None:
        """Write a request down. Without space it goes unwritten: the journal waits for space, too."""
        line = f"{index} {send} {n} {at:.3f} {tokens} {provider} {model}".replace("\n", " ").encode() + b"\n"
        self._open.setdefault((index, send), []).append(line)
        try:
            if self._file is None:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self._size += os.write(self._file, line)
            if self._size > LARGE:
                self._write_anew()
        except OSError:
            pass

    def told(self, index: int, send: int) -> None:
        """Take note that the requests of a sending are in the journal."""
        self._open.pop((index, send), None)

    def _write_anew(self) -> None:
        lines = b"".join(line for lines in self._open.values() for line in lines)
        part = self._path.with_name(f".{self._path.name}")
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(handle, lines)
            part.replace(self._path)
        except BaseException:
            os.close(handle)
            raise
        self.close()
        # What is open may be much itself: it is not written anew for each further line.
        self._file, self._size = handle, min(len(lines), LARGE // 2)

    def close(self) -> None:
        """Close the file; it stays where it is."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def left_behind(data_dir: Path, run_id: str, *, ended_only: bool, told: Told = none_told) -> Iterator[Line]:
    """Give what was asked for a run, but for what is known to be told.

    Args:
        data_dir: the node's data folder.
        run_id: the run.
        ended_only: only by processes that have ended.
        told: asked of each request; those of which it is true are left out.
    """
    folder = folder_of(data_dir, run_id)
    try:
        names = sorted(name for name in os.listdir(folder) if name[0] != ".")
    except OSError:
        return
    for name in names:
        pid, _, born = name.partition("-")
        if ended_only and not processes.has_ended(int(pid), int(born)):
            continue
        with contextlib.suppress(OSError):
            for line in (folder / name).read_bytes().splitlines():
                with contextlib.suppress(ValueError):  # a last line that was cut
                    first, second, third, rest = line.split(b" ", 3)
                    index, send, n = int(first), int(second), int(third)
                    if told(index, send, n):
                        continue
                    at, tokens, provider, model = rest.decode().split(" ", 3)
                    yield Line(index, send, n, float(at), int(tokens), provider, model)


def clear(data_dir: Path, run_id: str) -> None:
    """Remove the files of a run, of which everything is in the journal."""
    shutil.rmtree(folder_of(data_dir, run_id), ignore_errors=True)
