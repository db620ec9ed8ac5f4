"""The store of events: one SQLite file of its own, written by one actor, bounded by bytes and by age.

What `write` has returned for is safe from `kill -9` (WAL, `synchronous=NORMAL`); a power cut takes the last moments.
A row has a number, which only grows: who follows what comes in asks for what is above the last one seen.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from dspex_actors.foundation.events.record import Record

EVENTS_FILE = "events.db"
#: The version of the tables.
VERSION = 1
COLUMNS = "id, type, version, at, correlation_id, parent_id, node, actor, data"
MAX_BYTES, MAX_AGE_SECONDS = 256 << 20, 7 * 86400.0
#: The store is never smaller than this: its log takes a part.
LEAST_BYTES = 8 << 20
#: One part of so many is how large the log (-wal) may be between two transactions; as much more, in one.
_LOG_PART = 8
#: Readers are waited for so long where the log is to be folded in, in milliseconds.
_BUSY_MS = 200
#: So many rows that are too old are removed at a time, and they are looked for this often, in seconds.
PRUNE_ROWS, PRUNE_SECONDS = 1000, 10.0
#: Where the store would be too large, so many of the oldest go at least: twice as many as come in.
DROP_ROWS = 100
#: A batch that is refused since the store is full is tried again after removing rows, so many times.
_TRIES = 20

_SCHEMA = """
CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, type TEXT NOT NULL, version INTEGER NOT NULL,
    at REAL NOT NULL, correlation_id TEXT, parent_id TEXT, node TEXT, actor TEXT, data TEXT NOT NULL);
CREATE INDEX events_correlation ON events (correlation_id, at) WHERE correlation_id IS NOT NULL;
CREATE INDEX events_type ON events (type, at);
CREATE INDEX events_at ON events (at);
CREATE TABLE notes (name TEXT PRIMARY KEY, value REAL NOT NULL) WITHOUT ROWID;
"""
_INSERT = f"INSERT OR IGNORE INTO events ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608


class EventStore:
    """Write a store of events; the only writer of its file.

    Args:
        path: the SQLite file; made with mode 0600 where it is not there. One that is damaged is put aside
            (`events.db.damaged`) and begun anew.
        max_bytes: of the file and its log together.
        max_age: seconds that an event is kept.

    Raises:
        sqlite3.Error, OSError: it cannot be opened or made just now.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES, max_age: float = MAX_AGE_SECONDS) -> None:
        """Open it, or make it."""
        self.path, self.max_age = path, max_age
        self._max_bytes = max(LEAST_BYTES, max_bytes)
        self._pruned_at = 0.0
        self.was_damaged = False
        try:
            self._db = self._open()
        except sqlite3.DatabaseError as error:
            if (getattr(error, "sqlite_errorcode", 0) & 0xFF) not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise
            self._put_aside()
            self._db = self._open()
        self._shrink()

    def write(self, records: Sequence[Record]) -> int:
        """Add events, all in one transaction; those that are there already are left alone.

        The oldest go where the store would be larger than it may be.

        Returns:
            The number of the newest row.

        Raises:
            sqlite3.Error: nothing of them is in.
        """
        for left in range(_TRIES, -1, -1):
            try:
                self._in_one(records)
                break
            except sqlite3.OperationalError as error:
                # The file may have no more pages; a disk without space says the same.
                if error.sqlite_errorcode != sqlite3.SQLITE_FULL or not left or not self._nearly_full(0.9):
                    raise
                self._drop_oldest(max(DROP_ROWS, len(records)))
        self._fold()
        if self._nearly_full(0.97):
            self._drop_oldest(max(DROP_ROWS, 2 * len(records)))
            self._fold()
        return self.last

    @property
    def last(self) -> int:
        """The number of the newest row there ever was."""
        found = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
        return 0 if found is None else int(found[0])

    def prune(self) -> None:
        """Remove some of what is too old; call it often."""
        now = time.time()
        if now - self._pruned_at < PRUNE_SECONDS:
            return
        removed = self._db.execute(
            "DELETE FROM events WHERE seq IN (SELECT seq FROM events WHERE at < ? ORDER BY at LIMIT ?)",
            (now - self.max_age, PRUNE_ROWS),
        ).rowcount
        if removed < PRUNE_ROWS:
            self._pruned_at = now

    def note(self, name: str) -> float:
        """Return a number that was kept under a name; 0.0: none was."""
        found = self._db.execute("SELECT value FROM notes WHERE name = ?", (name,)).fetchone()
        return 0.0 if found is None else float(found[0])

    def keep_note(self, name: str, value: float) -> None:
        """Keep a number."""
        self._db.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, value))

    def close(self) -> None:
        """Close the file; its log is folded into it."""
        self._db.close()

    def _open(self) -> sqlite3.Connection:
        # SQLite gives -wal and -shm the mode of the main file, so that one is made before SQLite sees it.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            self._prepare(db)
        except BaseException:
            db.close()
            raise
        return db

    def _prepare(self, db: sqlite3.Connection) -> None:
        db.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise sqlite3.NotSupportedError(f"{self.path} was written by a newer dspex (version {version}): upgrade")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA cache_size = -4096")
        page = int(db.execute("PRAGMA page_size").fetchone()[0])
        self._log_bytes = self._max_bytes // _LOG_PART
        db.execute(f"PRAGMA wal_autocheckpoint = {self._log_bytes // page // 2}")
        self._pages = (self._max_bytes - 2 * self._log_bytes) // page
        db.execute(f"PRAGMA max_page_count = {self._pages}")
        if version == 0:
            db.executescript(f"BEGIN;{_SCHEMA}PRAGMA user_version = {VERSION};COMMIT;")
        db.execute("SELECT count(*) FROM notes").fetchone()  # damage shows here, and not at the first event

    def _put_aside(self) -> None:
        self.was_damaged = True
        for end in ("-wal", "-shm"):
            self.path.with_name(self.path.name + end).unlink(missing_ok=True)
        self.path.replace(self.path.with_name(self.path.name + ".damaged"))

    def _in_one(self, records: Sequence[Record]) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.executemany(_INSERT, records)
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # on a full disk SQLite may have rolled back by itself
                self._db.execute("ROLLBACK")
            raise

    def _shrink(self) -> None:
        """Make a file smaller that is larger than it may be now; its pages are given back."""
        if int(self._db.execute("PRAGMA page_count").fetchone()[0]) <= self._pages:
            return
        first, last = self._db.execute("SELECT min(seq), max(seq) FROM events").fetchone()
        while first is not None and self._nearly_full(0.9):
            self._drop_oldest(max(DROP_ROWS, (last - first) // 50))
        self._db.execute("VACUUM")
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        self._db.execute(f"PRAGMA max_page_count = {self._pages}")

    def _fold(self) -> None:
        """Fold a log that has grown into the file, where no reader needs it."""
        log = self.path.with_name(self.path.name + "-wal")
        if log.exists() and log.stat().st_size > self._log_bytes:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def _nearly_full(self, part: float) -> bool:
        total, free = (
            int(self._db.execute(f"PRAGMA {what}").fetchone()[0]) for what in ("page_count", "freelist_count")
        )
        return total - free > part * self._pages

    def _drop_oldest(self, rows: int) -> None:
        self._db.execute("DELETE FROM events WHERE seq < (SELECT min(seq) FROM events) + ?", (rows,))
