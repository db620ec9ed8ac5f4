"""The folders of programs' own nodes: one folder per user for all of them, and what was left there is swept out."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from supervisors.client.launch import is_locked, node_runs
from supervisors.terms.errors import NodeDown

_PREFIX, _OWNER = "node-", ".owner"


class TemporaryFolder:
    """A folder that its program removes, or its daemon, or the next program of this user: it has a key in it.

    A lock on a file in it tells that its program lives.

    Raises:
        NodeDown: no folder for temporary files can be written to.
    """

    def __init__(self) -> None:
        """Make it, and sweep out those whose program and daemon have been killed."""
        try:
            users = _folder_of_user()
            with _locked(users):
                if users is not None:
                    _sweep(users)
                self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=users))
                self._lock = os.open(self.path / _OWNER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise NodeDown(
                f"no folder for a temporary node can be made: {error}; set TMPDIR to one that can be written to, or "
                "give the node a folder (data_dir)"
            ) from None

    def leave_to_parent(self) -> None:
        """Hold its lock no more in a forked child."""
        with contextlib.suppress(OSError):
            os.close(self._lock)
        self._lock = -1

    def remove(self) -> None:
        """Remove it."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _folder_of_user() -> Path | None:
    """Return the folder of this user's temporary nodes; None: somebody else has taken its name."""
    folder = Path(tempfile.gettempdir(), f"supervisors-{os.geteuid()}")
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        return None
    if stat.S_IMODE(status.st_mode) != 0o700:
        folder.chmod(0o700)
    return folder


@contextlib.contextmanager
def _locked(folder: Path | None) -> Iterator[None]:
    if folder is None:
        yield
        return
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _sweep(folder: Path) -> None:
    for each in folder.glob(f"{_PREFIX}*"):
        if not node_runs(each) and not is_locked(each / _OWNER):
            shutil.rmtree(each, ignore_errors=True)
