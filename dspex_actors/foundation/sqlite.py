"""Reading a SQLite file while another process writes it, without making or changing a file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

T = TypeVar("T")
_BUSY_MS = 5_000
_TRIES = 5


def ask(path: Path, question: Callable[[sqlite3.Connection], T], empty: T) -> T:
    """Put a question to a database: all of its answer is of one moment.

    It is opened for each question (0.2 ms): nothing keeps the writer from folding its log into the main file.

    Args:
        path: the file.
        question: is given the connection.
        empty: the answer where there is no file.

    Raises:
        sqlite3.Error, OSError: as SQLite and the file system have it.
    """
    log = path.with_name(path.name + "-wal")
    for _ in range(_TRIES):
        if not path.exists() or not (path.stat().st_size or log.exists()):
            return empty
        # Opened the usual way, SQLite would make -wal and -shm files beside a closed database.
        # Without a log nobody writes, and it can be read as if it could not change; if a log is
        # there afterwards, somebody began to write meanwhile, and what we read may be a mixture: ask
        # again.
        still = not log.exists()
        try:
            answer = _ask_once(path, question, still=still)
        except sqlite3.DatabaseError:
            if still and log.exists():
                continue
            raise
        if not still or not log.exists():
            return answer
    return _ask_once(path, question, still=False)


def _ask_once(path: Path, question: Callable[[sqlite3.Connection], T], *, still: bool) -> T:
    options = "mode=ro&immutable=1" if still else "mode=ro"
    db = sqlite3.connect(f"file:{quote(str(path))}?{options}", uri=True, isolation_level=None)
    try:
        db.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        db.execute("BEGIN")
        return question(db)
    finally:
        db.close()
