"""The journal: runs, results and events of one node in one SQLite file, with one writer.

What `Journal` has acknowledged (the method returned) is on the disk: the write-ahead log is synced at every
commit (`synchronous=FULL`), so neither `kill -9` nor a power cut takes it back. NORMAL would do for `kill
-9` only; with a commit per batch the sync is not what limits us.

Readers (`reader.JournalReader`) work while the writer writes.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dspex_actors.journal import queries
from dspex_actors.journal.base import JournalBase
from dspex_actors.journal.errors import JournalError, corrupt, translated
from dspex_actors.journal.migrations import VERSION, index_claims, keep_copy, migrate, version_of

_BUSY_MS = 5_000
_QUICK_CHECK_LIMIT = 32 << 20


class Journal(JournalBase):
    """Write a journal; the only writer of its file. Safe to use from several threads, one call at a time.

    A journal of an earlier version is brought to this one when it is opened; a copy of it as it was stays beside it.

    Args:
        path: the SQLite file; made with mode 0600, and its folder with 0700, where it is not there.
        clock: wall-clock seconds since 1970.
        owner: who writes; empty: a node alone.

    Raises:
        JournalCorrupt: the file is damaged, no journal, or of a newer version.
        JournalReadOnly: it cannot be written.
        JournalFull: there is no space to make it.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, clock: Callable[[], float] = time.time, owner: str = ""
    ) -> None:
        """Open the journal, or make it; a damaged one is refused here rather than in the middle of a run."""
        self.path = Path(path)
        super().__init__(clock, owner)
        with translated(self.path):
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # SQLite gives -wal and -shm the mode of the main file, so that one is made before SQLite sees it.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            self._file = os.stat(self.path)
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise

    def check(self) -> None:
        """Read the whole file and check it.

        Raises:
            JournalCorrupt: something does not fit; says what.
        """
        with self.reading() as db:
            problem = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if problem != "ok":
            raise corrupt(self.path, f"is damaged ({_one_line(problem)})")

    def check_there(self) -> None:
        """Look whether the file at the path is the one that is open."""
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(self.path), self._file):
                return
        raise JournalError(
            f"the journal {self.path} was removed or replaced while it is in use, so what is written is lost: "
            "`dspex stop`, put it back from a copy if there is one, and `dspex start`"
        )

    def close(self) -> None:
        """Close the file; the write-ahead log is folded into it."""
        with self._lock:
            self._db.close()

    def _prepare(self) -> None:
        db = self._db
        db.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        queries.check_schema(self.path, db)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA cache_size = -2048")
        # A log that once grew (a long reader kept it from being folded in) gives its space back.
        db.execute("PRAGMA journal_size_limit = 67108864")
        version = version_of(db)
        if version and self.path.stat().st_size <= _QUICK_CHECK_LIMIT:
            problem = db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if problem != "ok":
                raise corrupt(self.path, f"is damaged ({_one_line(problem)})")
        if version < VERSION:
            if version:
                keep_copy(self.path, db)
            with self.transaction():
                migrate(db)
        with contextlib.suppress(sqlite3.OperationalError):  # a full disk: the same is found without it, more slowly
            index_claims(db)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Read something, locked."""
        with self._lock, translated(self.path):
            yield self._db

    @contextmanager
    def transaction(self, *, adds: bool = False) -> Iterator[sqlite3.Connection]:
        """Change something, all or nothing, in the file, locked; `adds`: only results, to the run that is followed."""
        with self._lock, translated(self.path):
            self._followed = self._followed if adds else {}
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                # On a full disk SQLite may have rolled back by itself.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise


def _one_line(text: str) -> str:
    return " ".join(str(text).split())[:200]
