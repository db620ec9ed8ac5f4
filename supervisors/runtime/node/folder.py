"""The data folder of a running node: its lock, its key and its node.json, kept whole whatever happens to them.

What is removed is brought back, the whole folder too. The lock is a file in it, and a name outside (host/path_lock.py)
for the moment in which that is gone. A node whose folder was moved away, or is another node's by now, has to end:
what its servers have open lies elsewhere.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any

from supervisors.host import path_lock
from supervisors.host.surroundings import forget_private, keep_private
from supervisors.wire.keys import KEY_FILE, KeyFileError, load_key, load_or_create_key, save_key

#: So many seconds are given to what is left of a node whose daemon was killed: it ends by itself, and holds the lock
#: until it has.
REMAINS_SECONDS = 5.0
#: A node that finds its folder locked by another one so many times in a row, a second apart, is no more at home there;
#: a single time somebody may just have had a look at the lock.
TAKEN_TIMES = 5


class NodeFolder:
    """What a daemon holds in its folder.

    Args:
        path: the data folder; it and what belongs into it are made.

    Raises:
        OSError: it cannot be used.
    """

    def __init__(self, path: Path) -> None:
        """Make the folder."""
        self.path = path
        self.key = b""
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._make_folders()
        self._name: int | None = None
        self._lock_fd = -1
        self._text = ""
        self._trouble = ""
        self._taken = 0

    def open_key(self, makes_key: bool = True) -> None:
        """Read or make its key; with the lock: who is refused leaves none behind.

        Args:
            makes_key: a key is made where there is none. Not for a node that joins others: it needs theirs.

        Raises:
            KeyFileError, OSError: it cannot be used.
        """
        key = load_or_create_key(self.path) if makes_key else load_key(self.path)
        if key is None:
            raise KeyFileError(f"{self.path} has no {KEY_FILE}: copy that of a node of the cluster there, then join")
        self.key = key

    def lock_in_turn(self) -> bool:
        """Take the lock, also from a node whose daemon is dead and whose last processes are just ending."""
        end = time.monotonic() + REMAINS_SECONDS
        while not self.lock():
            if not self._daemon_is_dead() or time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    def _daemon_is_dead(self) -> bool:
        """Whether who wrote node.json has ended. Without one, its daemon is perhaps about to write it."""
        try:
            pid = json.loads((self.path / "node.json").read_text())["pid"]
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return True
        except (OSError, ValueError, LookupError, TypeError):
            return False
        return False

    def lock(self) -> bool:
        """Take the lock that says that a node runs here; False: another one has it."""
        fd = os.open(self.path / "run" / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        if self._name is None:
            self._name = path_lock.take(self.path)
            if self._name is None:  # that node will bring back its file
                os.close(fd)
                return False
            keep_private(self._name, from_servers=True)
        if self._lock_fd >= 0:
            forget_private(self._lock_fd)
            os.close(self._lock_fd)
        self._lock_fd = fd
        keep_private(fd, from_servers=True)
        return True

    def tell(self, node: dict[str, Any], log: Any) -> None:
        """Write node.json. What fails is logged, and `keep` tries again: a full disk fells no node."""
        self._text = json.dumps(node, indent=2)
        self._try(self._write_node_file, log)

    def say_stopping(self, log: Any) -> None:
        """Have node.json say that the node is being stopped: who wants one here waits, and starts another."""
        if self._text and self._holds_lock():
            self.tell(json.loads(self._text) | {"stopping": True}, log)

    def keep(self, log: Any) -> str | None:
        """Bring back what has been removed, or could not be written; return why the node can stay here no longer."""
        if not self._trouble and self._is_whole():
            self._taken = 0
            return None
        if self._was_moved():
            return f"{self.path} was moved away or replaced under it: start it anew where its data is now"
        self._try(self._mend, log)
        if self._taken >= TAKEN_TIMES:
            return f"another node runs in {self.path}, which was removed under it: give it another data folder"
        return None

    def _was_moved(self) -> bool:
        """Whether the lock is no longer at its place, and still somewhere."""
        try:
            there = os.stat(self.path / "run" / "lock")
        except (FileNotFoundError, NotADirectoryError):
            there = None
        except OSError:
            return False  # nobody can tell now
        mine = os.fstat(self._lock_fd)
        return mine.st_nlink > 0 and (there is None or not os.path.samestat(there, mine))

    def say_good_bye(self) -> None:
        """Remove node.json, unless it is another node's by now."""
        with contextlib.suppress(OSError):
            if self._holds_lock():
                (self.path / "node.json").unlink()

    def _try(self, what: Any, log: Any) -> None:
        try:
            what()
        except (OSError, KeyFileError) as error:
            if str(error) != self._trouble:
                log.error("the node's folder is not whole; it is tried again each second", error=str(error))
            self._trouble = str(error)
        else:
            self._trouble = ""

    def _is_whole(self) -> bool:
        return self._holds_lock() and all((self.path / name).exists() for name in ("node.json", KEY_FILE, "logs"))

    def _holds_lock(self) -> bool:
        try:
            return os.path.samestat(os.stat(self.path / "run" / "lock"), os.fstat(self._lock_fd))
        except OSError:
            return False

    def _mend(self) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._make_folders()
        if not self._holds_lock() and not self.lock():
            self._taken += 1
            raise KeyFileError(f"another node runs in {self.path}, which was removed from under this one")
        self._taken = 0
        if not (self.path / KEY_FILE).exists():
            save_key(self.path, self.key)
        self._write_node_file()

    def _make_folders(self) -> None:
        for name in ("logs", "run"):
            (self.path / name).mkdir(mode=0o700, exist_ok=True)

    def _write_node_file(self) -> None:
        draft = self.path / "node.tmp"
        try:
            draft.write_text(self._text)
            os.replace(draft, self.path / "node.json")
        except OSError:
            draft.unlink(missing_ok=True)
            raise
