"""What is asked in batches, on the disk: a request is in one batch at a time, and a batch is sent once.

One SQLite file per node, written by the collector only. Before a batch is sent it is written down with the name that
finds it again (`sending`), afterwards with the provider's id (`out`); both are on the disk before the next step.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from dspex_actors.lm.batches.messages import AskInBatch, Place
from dspex_actors.lm.deployment import Deployment

#: In the node's data folder.
BATCHES_FILE = "batches.db"
#: A batch is made up, being sent, with the provider, being cancelled, or over.
State = Literal["made", "sending", "out", "cancelling", "over"]
#: A request waits for a batch, is in one, is answered, or has failed.
NEW, IN_BATCH, ANSWERED, FAILED = range(4)
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS lines (id INTEGER PRIMARY KEY, run TEXT NOT NULL, deployment TEXT NOT NULL, "
    "model_type TEXT NOT NULL, poll REAL NOT NULL, gather REAL NOT NULL, UNIQUE (run, deployment, model_type))",
    "CREATE TABLE IF NOT EXISTS batches (id INTEGER PRIMARY KEY, line INTEGER NOT NULL, tag TEXT NOT NULL UNIQUE, "
    "size INTEGER NOT NULL, state TEXT NOT NULL, remote TEXT, file TEXT, sent REAL, began REAL)",
    "CREATE TABLE IF NOT EXISTS requests (id INTEGER PRIMARY KEY, run TEXT NOT NULL, key BLOB NOT NULL, "
    "line INTEGER NOT NULL, batch INTEGER, state INTEGER NOT NULL, example INTEGER NOT NULL, send INTEGER NOT NULL, "
    "n INTEGER NOT NULL, told INTEGER NOT NULL DEFAULT 0, asked REAL NOT NULL, size INTEGER NOT NULL, body BLOB, "
    "status INTEGER, request_id TEXT, answer BLOB, UNIQUE (run, key))",
    "CREATE INDEX IF NOT EXISTS by_batch ON requests (batch, state)",
    "CREATE INDEX IF NOT EXISTS by_line ON requests (line, state)",
)


#: Makes what stands for a request in a batch.
Item = Callable[[int, bytes], bytes]


@dataclass(frozen=True, slots=True)
class LineOf:
    """What goes into the same batches: one run's requests of one deployment in one format."""

    id: int
    run: str
    deployment: Deployment
    model_type: str
    poll: float
    gather: float


@dataclass(slots=True)
class Batch:
    """One batch, as it is written down."""

    id: int
    line: int
    tag: str
    size: int
    state: State
    remote: str | None = None
    file: str | None = None
    #: When it was sent first, and when the provider's id was heard; seconds since 1970.
    sent: float | None = None
    began: float | None = None


@dataclass(slots=True)
class Asked:
    """One request, as it is written down."""

    id: int
    key: bytes
    state: int
    place: Place
    told: bool
    asked: float
    status: int | None
    request_id: str | None
    answer: bytes | None


_ASKED = "id, key, state, example, send, n, told, asked, status, request_id, answer"
_BATCH = "id, line, tag, size, state, remote, file, sent, began"


class BatchStore:
    """The file.

    Args:
        path: where it is; made with mode 0600.
    """

    def __init__(self, path: Path) -> None:
        """Open it. Requests that wait for a batch are dropped: who waits for them asks again."""
        for left in path.parent.glob("batch-*.part"):
            left.unlink(missing_ok=True)  # of one that was killed while it wrote
        path.touch(mode=0o600)
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # space that a run leaves goes back to the disk
        self._db.execute("PRAGMA journal_mode = WAL")
        self._surely(False)
        for statement in _SCHEMA:
            self._db.execute(statement)
        self._db.execute("DELETE FROM requests WHERE state = ?", (NEW,))
        self._db.execute(
            "DELETE FROM batches WHERE state = 'over' AND id NOT IN (SELECT batch FROM requests WHERE batch NOT NULL)"
        )

    def _surely(self, is_sure: bool) -> None:
        """Have what is written next on the disk, and all before it; else in the kernel's hands, which a kill is not."""
        self._db.execute(f"PRAGMA synchronous = {'FULL' if is_sure else 'NORMAL'}")

    def close(self) -> None:
        """Close it."""
        self._db.close()

    # --- requests ---------------------------------------------------------------------------------------------------

    def find(self, run: str, key: bytes) -> Asked | None:
        """Return a request of a run; None: it was not asked."""
        row = self._db.execute(f"SELECT {_ASKED} FROM requests WHERE run = ? AND key = ?", (run, key)).fetchone()  # noqa: S608
        return None if row is None else _asked(row)

    def add(self, asked: AskInBatch, line: int) -> None:
        """Write a request down that waits for a batch."""
        values = (asked.run, asked.key, line, NEW, *asked.place, time.time(), len(asked.body), asked.body)
        self._db.execute(
            "INSERT INTO requests (run, key, line, state, example, send, n, asked, size, body) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            values,
        )

    def drop(self, number: int) -> None:
        """Forget a request."""
        self._db.execute("DELETE FROM requests WHERE id = ?", (number,))

    def told(self, number: int) -> None:
        """Take note that whoever has it in the books has the answer."""
        self._db.execute("UPDATE requests SET told = 1 WHERE id = ?", (number,))

    def keys_of(self, batch: int, state: int = IN_BATCH) -> list[Asked]:
        """Return the requests of a batch that are in a state."""
        rows = self._db.execute(f"SELECT {_ASKED} FROM requests WHERE batch = ? AND state = ?", (batch, state))  # noqa: S608
        return [_asked(row) for row in rows]

    def set_results(self, batch: int, results: Iterable[tuple[int, int, int, str | None, bytes]]) -> list[Asked]:
        """Write results down, once each: number, state, status, the provider's id and body; return the new ones."""
        found: list[Asked] = []
        with self._transaction():
            for number, state, status, request_id, answer in results:
                changed = self._db.execute(
                    "UPDATE requests SET state = ?, status = ?, request_id = ?, answer = ?, body = NULL "
                    "WHERE id = ? AND batch = ? AND state = ?",
                    (state, status, request_id, answer, number, batch, IN_BATCH),
                ).rowcount
                if changed:
                    row = self._db.execute(f"SELECT {_ASKED} FROM requests WHERE id = ?", (number,)).fetchone()  # noqa: S608
                    found.append(_asked(row))
        return found

    def renew(self, batch: int, numbers: Iterable[int]) -> None:
        """Have requests of a batch wait for another one."""
        with self._transaction():  # all or none: those that are left are not looked for again
            self._db.executemany(
                "UPDATE requests SET state = ?, batch = NULL WHERE id = ? AND batch = ? AND state = ?",
                [(NEW, number, batch, IN_BATCH) for number in numbers],
            )

    # --- lines and batches ------------------------------------------------------------------------------------------

    def line_for(self, asked: AskInBatch) -> LineOf:
        """Return the line in which a request waits."""
        told = orjson.dumps(asked.deployment, option=orjson.OPT_SORT_KEYS).decode()
        poll, gather = asked.settings
        (number,) = self._db.execute(
            "INSERT INTO lines (run, deployment, model_type, poll, gather) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT DO UPDATE SET poll = excluded.poll, gather = excluded.gather RETURNING id",
            (asked.run, told, asked.model_type, poll, gather),
        ).fetchone()
        return LineOf(number, asked.run, Deployment(**asked.deployment), asked.model_type, poll, gather)

    def line(self, number: int) -> LineOf:
        """Return a line."""
        row = self._db.execute(
            "SELECT id, run, deployment, model_type, poll, gather FROM lines WHERE id = ?", (number,)
        ).fetchone()
        return LineOf(row[0], row[1], Deployment(**orjson.loads(row[2])), *row[3:])

    def begin(self, line: int, most: int, most_bytes: int, around: int) -> Batch | None:
        """Make a batch of what waits in a line, as much as fits; None: nothing waits.

        Args:
            line: the line.
            most: requests at most.
            most_bytes: bytes at most.
            around: bytes that stand around each.
        """
        rows = self._db.execute(
            "SELECT id, size FROM requests WHERE line = ? AND state = ? ORDER BY id LIMIT ?", (line, NEW, most)
        ).fetchall()
        taken: list[int] = []
        room = most_bytes
        for number, size in rows:
            room -= size + around
            if room < 0 and taken:
                break
            taken.append(number)
        if not taken:
            return None
        return self._make(line, taken)[0]

    def halve(self, batch: Batch) -> list[Batch]:
        """Make two batches of one that was too much for the provider; one of a single request stays as it is."""
        numbers = [row.id for row in self.keys_of(batch.id)]
        if len(numbers) < 2:
            return [batch]
        half = len(numbers) // 2
        made = self._make(batch.line, numbers[:half], numbers[half:], instead=batch)
        batch.state = "over"
        return made

    def _make(self, line: int, *parts: list[int], instead: Batch | None = None) -> list[Batch]:
        made: list[Batch] = []
        self._surely(True)
        with self._transaction():
            for numbers in parts:
                tag = secrets.token_hex(12)
                number = self._db.execute(
                    "INSERT INTO batches (line, tag, size, state) VALUES (?, ?, ?, 'made')", (line, tag, len(numbers))
                ).lastrowid
                made.append(Batch(int(number or 0), line, tag, len(numbers), "made"))
                self._db.executemany(
                    "UPDATE requests SET batch = ?, state = ? WHERE id = ?", [(number, IN_BATCH, n) for n in numbers]
                )
            if instead is not None:
                self._db.execute("UPDATE batches SET state = 'over' WHERE id = ?", (instead.id,))
        self._surely(False)
        return made

    def change(self, batch: Batch, **values: Any) -> None:
        """Write down what has changed of a batch; on the disk when this returns."""
        self._surely(True)
        names = ", ".join(f"{name} = ?" for name in values)
        self._db.execute(f"UPDATE batches SET {names} WHERE id = ?", (*values.values(), batch.id))  # noqa: S608
        self._surely(False)
        for name, value in values.items():
            setattr(batch, name, value)

    def open_batches(self, run: str | None = None) -> list[Batch]:
        """Return the batches that are not over, of one run or of all."""
        mine = "" if run is None else " AND line IN (SELECT id FROM lines WHERE run = ?)"
        rows = self._db.execute(
            f"SELECT {_BATCH} FROM batches WHERE state != 'over'{mine} ORDER BY id",  # noqa: S608
            () if run is None else (run,),
        )
        return [Batch(*row) for row in rows]

    def remotes(self) -> list[str]:
        """Return the providers' ids of all batches."""
        return [row[0] for row in self._db.execute("SELECT remote FROM batches WHERE remote IS NOT NULL")]

    def end_run(self, run: str) -> None:
        """Forget the requests of a run, and its batches that are over."""
        with self._transaction():
            self._db.execute("DELETE FROM requests WHERE run = ?", (run,))
            self._db.execute(
                "DELETE FROM batches WHERE state = 'over' AND line IN (SELECT id FROM lines WHERE run = ?)", (run,)
            )
            self._db.execute("DELETE FROM lines WHERE run = ? AND id NOT IN (SELECT line FROM batches)", (run,))

        self._db.execute("PRAGMA incremental_vacuum").fetchall()

    def _transaction(self) -> _Transaction:
        return _Transaction(self._db)


def write_batch(path: Path, batch: int, file: Path, parts: tuple[bytes, bytes, bytes], item: Item) -> None:
    """Write the requests of a batch to a file, one after the other; for a thread, so with a connection of its own.

    Args:
        path: the store's file.
        batch: the batch.
        file: where to.
        parts: what stands before, between and behind the requests.
        item: makes of number and body what stands for a request.
    """
    before, between, behind = parts
    db = sqlite3.connect(path)
    try:
        with open(file, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as out:
            out.write(before)
            rows = db.execute(
                "SELECT id, body FROM requests WHERE batch = ? AND state = ? ORDER BY id", (batch, IN_BATCH)
            )
            for place, (number, body) in enumerate(rows):
                out.write(between + item(number, body) if place else item(number, body))
            out.write(behind)
    finally:
        db.close()


class _Transaction:
    """All or nothing, as a `with`."""

    __slots__ = ("_db",)

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: Any, *rest: object) -> None:
        if kind is None:
            try:
                self._db.execute("COMMIT")
            except sqlite3.Error:
                if self._db.in_transaction:  # else no other one could ever begin
                    self._db.execute("ROLLBACK")
                raise
        elif self._db.in_transaction:  # where the disk is full SQLite may have rolled it back itself
            self._db.execute("ROLLBACK")


def _asked(row: Any) -> Asked:
    number, key, state, example, send, n, told, *rest = row
    return Asked(number, key, state, (example, send, n), bool(told), *rest)
