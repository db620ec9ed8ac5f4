"""The disk tier: one SQLite file per folder (WAL), read and written by every process that uses it.

A row is an answer under the two halves of its key's digest. Its number only grows, and one that is used again after a
while gets a new number: the lowest numbers are those that were not used for the longest time, and go first. What is in
a row was made by msgpack; nothing here loads a pickle.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

FILE = "answers.db"
#: The version of the tables.
VERSION = 1
#: Another process's write is waited for so long, in milliseconds.
_BUSY_MS = 10_000
_LOOK_SECONDS = 0.005
#: A reader waits less: it stands on an event loop.
_BUSY_READING_MS = 250
#: A row's use is written down at most once in so many hours.
USED_HOURS = 6
#: Where the file would be too large, one part of so many of its rows goes.
_PRUNED_PART = 50
_MOST_PRUNED = 20

_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    n INTEGER PRIMARY KEY AUTOINCREMENT, id INTEGER NOT NULL UNIQUE, rest INTEGER NOT NULL, made REAL NOT NULL,
    used INTEGER NOT NULL, tenant INTEGER NOT NULL, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS questions (
    n INTEGER PRIMARY KEY AUTOINCREMENT, scope INTEGER NOT NULL, id INTEGER NOT NULL, rest INTEGER NOT NULL,
    tenant INTEGER NOT NULL, text TEXT NOT NULL, vector BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS questions_scope ON questions (scope, n);
"""
_COLUMNS = "id, rest, made, used, tenant, value"
_FIND = "SELECT rest, made, used, value FROM answers WHERE id = ?"
_halves = struct.Struct(">qq")

#: A row as it is written: id, rest, made, used, tenant, value.
Row = tuple[int, int, float, int, int, bytes]


class Found(NamedTuple):
    """What is kept under a key.

    Args:
        value: the answer's bytes.
        made: when it came, in seconds since 1970.
        is_due: whether its use should be written down.
    """

    value: bytes
    made: float
    is_due: bool


class NotOurs(Exception):
    """The file is of a newer version, or the folder is not fit."""


def halves(key: bytes) -> tuple[int, int]:
    """Return the two numbers that a key of 16 bytes is kept under."""
    first, rest = _halves.unpack(key)
    return first, rest


def tenant_number(tenant: str) -> int:
    """Return the number that a tenant's rows have."""
    if not tenant:
        return 0
    import hashlib

    return int.from_bytes(hashlib.sha256(tenant.encode("utf-8", "surrogatepass")).digest()[:6], "big") + 1


def row(key: bytes, value: bytes, tenant: int, now: float) -> Row:
    """Return a row for an answer that came now."""
    return (*_halves.unpack(key), now, int(now) // 3600, tenant, value)


def open_store(folder: Path) -> sqlite3.Connection:
    """Open a folder's file, or make it; one that is damaged is put aside and begun anew.

    Raises:
        NotOurs: the file was written by a newer version; it stays as it is.
        sqlite3.Error, OSError: it cannot be opened or made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / FILE
    try:
        return _open(path)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        put_aside(path)
        return _open(path)


def is_damage(error: sqlite3.Error) -> bool:
    """Say whether an error means that the file is damaged, or is no database."""
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def put_aside(path: Path) -> Path:
    """Move a damaged file out of the way; return where it is now."""
    aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}")
    for ending in ("-wal", "-shm", ""):
        with contextlib.suppress(FileNotFoundError):
            os.replace(path.with_name(path.name + ending), aside.with_name(aside.name + ending))
    return aside


def _open(path: Path) -> sqlite3.Connection:
    # SQLite gives -wal and -shm the mode of the main file, so that one is made before SQLite sees it. One that is there
    # is not opened: closing it would end the locks of this process's other connections, and the next process to close
    # the file would take it to be nobody's, and remove the log that is being written.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=64)
    try:
        db.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise NotOurs(f"{path} was written by a newer dspex (version {version}, expected {VERSION})")
        _use_log(db)
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA cache_size = -8192")
        db.execute("PRAGMA wal_autocheckpoint = 4000")
        if version < VERSION:
            db.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA.split(";")[:-1]:
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {VERSION}")
            db.execute("COMMIT")
    except BaseException:
        db.close()
        raise
    return db


def _use_log(db: sqlite3.Connection) -> None:
    """Have a write-ahead log. SQLite does not wait here for others who open the file just now, so it is asked again."""
    until = time.monotonic() + _BUSY_MS / 1000
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
        time.sleep(_LOOK_SECONDS)


class Reader:
    """Reads a folder's file on the thread that asks: a question takes some 15 µs.

    Args:
        db: from `open_store`; the reader's own.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        """Take it."""
        db.execute(f"PRAGMA busy_timeout = {_BUSY_READING_MS}")
        self._db = db
        self._execute = db.execute

    def find(self, key: bytes) -> Found | None:
        """Return what is kept under a key; None: nothing.

        Raises:
            sqlite3.Error: it cannot be read.
        """
        first, rest = _halves.unpack(key)
        found = self._execute(_FIND, (first,)).fetchone()
        if found is None or found[0] != rest:
            return None
        return Found(found[3], found[1], time.time() // 3600 - found[2] >= USED_HOURS)

    def ids(self, above: int, most: int) -> tuple[list[int], int]:
        """Return the first halves of the keys of rows with numbers above one, at most so many, and the last number."""
        rows = self._execute("SELECT id, n FROM answers WHERE n > ? ORDER BY n LIMIT ?", (above, most)).fetchall()
        return [row[0] for row in rows], rows[-1][1] if rows else above

    def questions(self, scope: int, above: int) -> list[tuple[int, int, int, str, bytes]]:
        """Return the questions of a scope with numbers above one: number, the halves of the key, text, vector."""
        return self._execute(
            "SELECT n, id, rest, text, vector FROM questions WHERE scope = ? AND n > ? ORDER BY n", (scope, above)
        ).fetchall()

    def size(self) -> tuple[int, int]:
        """Return the number of answers, and the bytes of the file that are in use."""
        entries = self._execute("SELECT count(*) FROM answers").fetchone()[0]
        return entries, used_bytes(self._db)

    def close(self) -> None:
        """Close it."""
        self._db.close()


class Writer:
    """Writes a folder's file; each call is one statement: whoever runs beside it in Python waits for none of it.

    Args:
        db: from `open_store`; the writer's own.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        """Take it."""
        self._db = db

    def put(self, rows: Sequence[Row]) -> None:
        """Keep answers, in the place of earlier ones under their keys.

        Raises:
            sqlite3.Error: none of them is kept.
        """
        marks = ", ".join(["(?, ?, ?, ?, ?, ?)"] * len(rows))
        values = [value for row in rows for value in row]
        self._db.execute(f"INSERT OR REPLACE INTO answers ({_COLUMNS}) VALUES {marks}", values)  # noqa: S608

    def put_questions(self, rows: Sequence[tuple[int, int, int, int, str, bytes]]) -> None:
        """Keep questions: scope, the halves of the key, tenant, text, vector."""
        for each in rows:
            self._db.execute("INSERT INTO questions (scope, id, rest, tenant, text, vector) VALUES (?,?,?,?,?,?)", each)

    def touch(self, ids: Sequence[int]) -> None:
        """Write down that answers were used: they go last from now on."""
        marks = ", ".join("?" * len(ids))
        self._db.execute(
            f"INSERT OR REPLACE INTO answers ({_COLUMNS}) "  # noqa: S608 - marks only
            f"SELECT id, rest, made, ?, tenant, value FROM answers WHERE id IN ({marks})",
            (int(time.time()) // 3600, *ids),
        )

    def forget(self, ids: Sequence[int]) -> None:
        """Remove answers."""
        marks = ", ".join("?" * len(ids))
        for table in ("answers", "questions"):
            self._db.execute(f"DELETE FROM {table} WHERE id IN ({marks})", list(ids))  # noqa: S608 - marks only

    def clear(self, tenant: int | None = None, before: float | None = None) -> int:
        """Remove all answers, those of one tenant, or those from before a moment; return how many there were."""
        which, values = [], []
        for column, value in (("tenant = ?", tenant), ("made < ?", before)):
            if value is not None:
                which.append(column)
                values.append(value)
        where = f" WHERE {' AND '.join(which)}" if which else ""
        gone = self._db.execute(f"DELETE FROM answers{where}", values).rowcount  # noqa: S608 - constants only
        self._db.execute(
            "DELETE FROM questions WHERE NOT EXISTS (SELECT 1 FROM answers WHERE answers.id = questions.id)"
        )
        return gone

    def prune(self, limit: int) -> int:
        """Remove what was not used for the longest time while the file has more than so many bytes in use."""
        gone = 0
        for _ in range(_MOST_PRUNED):
            if used_bytes(self._db) <= limit:
                break
            first, last = self._db.execute("SELECT min(n), max(n) FROM answers").fetchone()
            if first is None:
                break
            until = first + max(1, (last - first) // _PRUNED_PART)
            gone += self._db.execute("DELETE FROM answers WHERE n <= ?", (until,)).rowcount
            self._db.execute(
                "DELETE FROM questions WHERE n IN (SELECT n FROM questions ORDER BY n LIMIT "
                "(SELECT count(*) / ? FROM questions))",
                (_PRUNED_PART,),
            )
        return gone

    def fold(self) -> None:
        """Fold the log into the file, and take what is free from the file's end: after much was removed."""
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._db.execute("VACUUM")

    def close(self) -> None:
        """Close it."""
        self._db.close()


def used_bytes(db: sqlite3.Connection) -> int:
    """Return how many bytes of the file are in use."""
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    free = db.execute("PRAGMA freelist_count").fetchone()[0]
    size = db.execute("PRAGMA page_size").fetchone()[0]
    return int((pages - free) * size)
