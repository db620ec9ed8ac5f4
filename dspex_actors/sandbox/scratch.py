"""Folders that code may write to: one of each process, in it one for each child, and gone with it even by kill -9."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

_PREFIX = "dspex-code-"
_LOCK = "in-use"


class _Base:
    """The folder of this process; a lock in it says that the process lives."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start afresh; in a forked child."""
        self._mutex = threading.Lock()
        self._folder: Path | None = None
        self._lock: int | None = None

    def new(self) -> str:
        """Make a folder in it: nobody can have left it meanwhile."""
        with self._mutex:
            return tempfile.mkdtemp(dir=self._own())

    def _own(self) -> Path:
        while self._folder is None or not self._folder.is_dir():
            _sweep()
            folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
            lock = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Before that it was nobody's, and another process that sweeps may have taken it away.
            self._lock, self._folder = self._replaced(lock), folder
        return self._folder

    def _replaced(self, lock: int) -> int:
        if self._lock is not None:
            os.close(self._lock)
        return lock

    def leave(self) -> None:
        """Remove it, where no child has a folder in it any more."""
        with self._mutex:
            folder, lock = self._folder, self._lock
            if folder is None or lock is None or any(each.name != _LOCK for each in folder.iterdir()):
                return
            self._folder = self._lock = None
            _clear(folder)
            os.close(lock)


_base = _Base()
os.register_at_fork(after_in_child=_base.forget)


def new() -> str:
    """Return a new folder."""
    return _base.new()


def remove(folder: str) -> None:
    """Remove it, whatever code has made in it."""
    _clear(folder)
    with contextlib.suppress(OSError):
        _base.leave()


def _clear(folder: str | Path) -> None:
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except (OSError, RecursionError):
        # Folders in folders, deeper than Python goes, or such as nobody may look into.
        for command in (["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
            subprocess.run([*command, str(folder)], check=False, capture_output=True)  # noqa: S603 - our own folder


def size(folder: str) -> float:
    """Return how many bytes, and 4 KB for each file, are in a folder."""
    total = 0
    try:
        for place, folders, files in os.walk(folder, onerror=None):
            for name in (*folders, *files):
                with contextlib.suppress(OSError):
                    total += 4096 + os.lstat(os.path.join(place, name)).st_size
    except RecursionError:
        return float("inf")  # so deep is no honest folder
    return total


def _sweep() -> None:
    """Remove what processes that were killed have left."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue  # somebody else's, or just being made
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _clear(folder)
        except OSError:
            pass  # its process lives
        finally:
            os.close(lock)
