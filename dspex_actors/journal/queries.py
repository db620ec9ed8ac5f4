# ruff: noqa: S608 - only constants of this package are put into SQL text; values are always bound
"""What can be asked of a journal's SQLite connection; shared by the writer and the readers."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.indexset import IndexSet
from dspex_actors.journal.errors import JournalCorrupt, corrupt
from dspex_actors.journal.migrations import INDEX_BITS, MAX_INDEX, VERSION, version_of
from dspex_actors.journal.records import AttemptRow, ErrorGroup, EventRow, ResultRow, RunRow
from dspex_actors.journal.schema import (
    ATTEMPT_COLUMNS,
    RESULT_COLUMNS,
    RUN_COLUMNS,
    attempt_row,
    columns,
    from_json,
    result_row,
    run_row,
    span,
)

PAGE = 500
_IN_AT_ONCE = 500


def check_schema(path: Path, db: sqlite3.Connection) -> None:
    """Refuse a file that is no journal of ours, or of a newer version; an empty one passes."""
    version = version_of(db)
    tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if version > VERSION:
        raise JournalCorrupt(
            f"{path} was written by a newer dspex (schema {version}, known here {VERSION}): upgrade dspex, "
            f"or move {path.name} away to start with an empty journal"
        )
    if version == 0 and tables:
        raise JournalCorrupt(
            f"{path} is an SQLite file but not a journal of dspex (it has {', '.join(sorted(tables)[:3])}): "
            "move it away, or choose another DSPEX_HOME"
        )
    missing = {"runs", "results", "events", *(["attempts"] if version > 1 else [])} - tables
    if version and missing:
        raise corrupt(path, f"is damaged (no table {', '.join(sorted(missing))})")


def no_such_run(run_id: str) -> ConfigError:
    """Return the error for an unknown run."""
    return ConfigError(f"there is no run {run_id!r} in this journal: `dspex runs` lists them")


def number_and_base(db: sqlite3.Connection, run_id: str) -> tuple[int, int]:
    """Return the run's number, and the key of its index 0."""
    found = db.execute("SELECT number FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    if found is None:
        raise no_such_run(run_id)
    return found[0], found[0] << INDEX_BITS


def run(db: sqlite3.Connection, run_id: str) -> RunRow | None:
    """Return the run, None where there is none."""
    cursor = db.execute(f"SELECT {columns(RUN_COLUMNS, db)} FROM runs WHERE run_id = ?", (run_id,))
    cursor.row_factory = sqlite3.Row
    found = cursor.fetchone()
    return None if found is None else run_row(found)


def runs(db: sqlite3.Connection, *, state: str | None = None, limit: int = -1) -> Iterator[RunRow]:
    """Give the runs, newest first."""
    where = "?1 IS NULL OR state = ?1"
    cursor = db.execute(
        f"SELECT {columns(RUN_COLUMNS, db)} FROM runs WHERE {where} ORDER BY number DESC LIMIT ?2", (state, limit)
    )
    cursor.row_factory = sqlite3.Row
    return map(run_row, cursor)


def done(db: sqlite3.Connection, run_id: str) -> IndexSet:
    """Return the indices that have a result."""
    found = db.execute("SELECT number FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    indices = IndexSet()
    if found is not None:
        keys = db.execute("SELECT key FROM results WHERE key BETWEEN ? AND ? ORDER BY key", span(found[0]))
        for (key,) in keys:
            indices.add(key & MAX_INDEX)
    return indices


def results(
    db: sqlite3.Connection, run_id: str, start: int, limit: int, *, failed_only: bool = False
) -> list[ResultRow]:
    """Return at most `limit` results in input order, from index `start` on."""
    found = db.execute("SELECT number FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    if found is None:
        return []
    first, last = span(found[0])
    only = "AND error IS NOT NULL" if failed_only else ""
    rows = db.execute(
        f"SELECT {columns(RESULT_COLUMNS, db)} FROM results WHERE key BETWEEN ? AND ? {only} ORDER BY key LIMIT ?",
        (first + start, last, limit),
    )
    return [result_row(row) for row in rows]


def attempts(db: sqlite3.Connection, run_id: str, after: tuple[int, int, int], limit: int) -> list[AttemptRow]:
    """Return at most `limit` requests of a run, by (index, send, n), those behind `after`; none where it had no table.

    Args:
        db: the journal.
        run_id: the run.
        after: the identity of the last one of the page before; (-1, 0, 0): from the first one on.
        limit: a page.
    """
    found = db.execute("SELECT number FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    if found is None or version_of(db) < 2:
        return []
    first, last = span(found[0])
    index, send, n = after
    rows = db.execute(
        f"SELECT {', '.join(ATTEMPT_COLUMNS)} FROM attempts "
        "WHERE key BETWEEN ?1 AND ?2 AND (key, send, n) > (?3, ?4, ?5) ORDER BY key, send, n LIMIT ?6",
        (max(first, first + index), last, first + index, send, n, limit),
    )
    return [attempt_row(row) for row in rows]


def attempt(db: sqlite3.Connection, key: int, send: int, n: int) -> AttemptRow | None:
    """Return one request, None where there is none."""
    found = db.execute(
        f"SELECT {', '.join(ATTEMPT_COLUMNS)} FROM attempts WHERE key = ? AND send = ? AND n = ?", (key, send, n)
    ).fetchone()
    return None if found is None else attempt_row(found)


def attempts_in_pages(page: Callable[[tuple[int, int, int], int], list[AttemptRow]]) -> Iterator[AttemptRow]:
    """Give the rows of page after page; `page(after, limit)` returns those behind one."""
    after = (-1, 0, 0)
    while rows := page(after, PAGE):
        yield from rows
        after = (rows[-1].index, rows[-1].send, rows[-1].n)


def in_pages(page: Callable[[int, int], list[ResultRow]], start: int, limit: int | None) -> Iterator[ResultRow]:
    """Give the rows of page after page; `page(start, limit)` returns those with an index from `start` on."""
    left = limit
    while left is None or left > 0:
        rows = page(start, PAGE if left is None else min(PAGE, left))
        yield from rows
        if not rows:
            return
        start = rows[-1].index + 1
        if left is not None:
            left -= len(rows)


def existing(db: sqlite3.Connection, keys: list[int]) -> set[int]:
    """Return those of `keys` that have a result."""
    there: set[int] = set()
    for at in range(0, len(keys), _IN_AT_ONCE):
        some = keys[at : at + _IN_AT_ONCE]
        marks = ",".join("?" * len(some))
        there.update(row[0] for row in db.execute(f"SELECT key FROM results WHERE key IN ({marks})", some))
    return there


def events(db: sqlite3.Connection, after: int, limit: int) -> list[EventRow]:
    """Return events with a number above `after`, oldest first."""
    rows = db.execute(
        "SELECT number, at, kind, data FROM events WHERE number > ? ORDER BY number LIMIT ?", (after, limit)
    )
    return [EventRow(number, at, kind, from_json(data)) for number, at, kind, data in rows]


def delete(db: sqlite3.Connection, number: int) -> None:
    """Remove run `number`, its results and its requests, inside the caller's transaction."""
    db.execute("DELETE FROM results WHERE key BETWEEN ? AND ?", span(number))
    db.execute("DELETE FROM attempts WHERE key BETWEEN ? AND ?", span(number))
    db.execute("DELETE FROM runs WHERE number = ?", (number,))


def percentiles(db: sqlite3.Connection, run_id: str, points: tuple[float, ...]) -> list[float] | None:
    """Return the latencies (seconds) at `points` (each 0 to 1, ascending), exact; None where there are none.

    SQLite sorts, in a file of its own where there are many: memory does not grow with the run.
    """
    number, _ = number_and_base(db, run_id)
    where = "FROM results WHERE key BETWEEN ? AND ? AND latency IS NOT NULL"
    count = db.execute(f"SELECT count(*) {where}", span(number)).fetchone()[0]
    if not count:
        return None
    ranks = [min(count - 1, int(point * count)) for point in points]
    found: list[float] = []
    for place, (latency,) in enumerate(db.execute(f"SELECT latency {where} ORDER BY latency", span(number))):
        while len(found) < len(ranks) and ranks[len(found)] == place:
            found.append(latency)
        if len(found) == len(ranks):
            break
    return found


def error_groups(db: sqlite3.Connection, run_id: str, limit: int) -> list[ErrorGroup]:
    """Return the run's errors by type, most frequent first, at most `limit` types."""
    number, _ = number_and_base(db, run_id)
    # With min() SQLite takes the other bare columns from the row that has the minimum.
    rows: Any = db.execute(
        "SELECT coalesce(json_extract(error, '$.type'), 'Error') AS type, count(*) AS n, min(key), "
        "coalesce(json_extract(error, '$.message'), '') FROM results "
        "WHERE key BETWEEN ? AND ? AND error IS NOT NULL GROUP BY type ORDER BY n DESC, min(key) LIMIT ?",
        (*span(number), limit),
    )
    return [ErrorGroup(str(kind), n, key & MAX_INDEX, str(text)) for kind, n, key, text in rows]
