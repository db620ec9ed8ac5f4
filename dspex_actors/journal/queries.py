# ruff: noqa: S608 - only constants of this package are put into SQL text; values are always bound
"""What can be asked of a journal's SQLite connection; shared by the writer and the readers."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.indexset import IndexSet
from dspex_actors.journal.errors import JournalCorrupt, corrupt
from dspex_actors.journal.migrations import INDEX_BITS, MAX_INDEX, VERSION, version_of
from dspex_actors.journal.records import ErrorGroup, EventRow, Part, ResultRow, RunRow, StepRow
from dspex_actors.journal.sameness import OPTIMISE
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
from dspex_actors.lm.attempts import SECOND, Attempt

PAGE = 500
_IN_AT_ONCE = 500
STEP_COLUMNS = "step, state, attempts, duration, at, error, data"


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
    later = [table for since, table in ((2, "attempts"), (3, "steps"), (4, "spend"), (5, "log")) if version >= since]
    missing = {"runs", "results", "events", *later} - tables
    if version and missing:
        raise corrupt(path, f"is damaged (no table {', '.join(sorted(missing))})")


def locking(db: Any) -> str:
    """Return what a SELECT needs at its end so that its rows stay as they are until the end of the transaction."""
    return "" if isinstance(db, sqlite3.Connection) else " FOR UPDATE"


def no_such_run(run_id: str) -> ConfigError:
    """Return the error for an unknown run."""
    return ConfigError(f"there is no run {run_id!r} in this journal: `dspex runs` lists them")


def number_and_base(db: Any, run_id: str) -> tuple[int, int]:
    """Return the run's number, and the key of its index 0."""
    found = db.execute("SELECT number FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    if found is None:
        raise no_such_run(run_id)
    return found[0], found[0] << INDEX_BITS


def _run_columns(db: Any, *, code: bool) -> str:
    """Return what is read of a run; without the code of its program and metric, which may be much, those are empty."""
    told = columns(RUN_COLUMNS, db)
    return told if code else told.replace(" program,", " NULL AS program,").replace(" metric,", " NULL AS metric,")


def run(db: Any, run_id: str, *, code: bool = True) -> RunRow | None:
    """Return the run, None where there is none; see `_run_columns`."""
    found = db.execute(f"SELECT {_run_columns(db, code=code)} FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    return None if found is None else _run_row(found)


def runs(
    db: Any, *, state: str | None = None, kind: str | None = None, limit: int = -1, code: bool = True
) -> Iterator[RunRow]:
    """Give the runs, newest first; only those in a state, or of a kind, where that is told; see `_run_columns`."""
    told = [(name, value) for name, value in (("state", state), ("kind", kind)) if value is not None]
    where = f"WHERE {' AND '.join(f'{name} = ?' for name, _ in told)}" if told else ""
    values = [value for _, value in told]
    end, last = ("", []) if limit < 0 else ("LIMIT ?", [limit])
    found = db.execute(
        f"SELECT {_run_columns(db, code=code)} FROM runs {where} ORDER BY number DESC {end}", [*values, *last]
    )
    return map(_run_row, found)


def streamed(db: Any, statement: str, values: Sequence[Any]) -> Iterator[Any]:
    """Give the rows of a long answer with some of them in memory."""
    if isinstance(db, sqlite3.Connection):
        return db.execute(statement, values)
    rows: Iterator[Any] = db.stream(statement, values)
    return rows


def _run_row(row: Sequence[Any]) -> RunRow:
    return run_row(dict(zip(RUN_COLUMNS, row, strict=True)))


def done(db: Any, run_id: str) -> IndexSet:
    """Return the indices that have a result."""
    found = db.execute("SELECT number FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    indices = IndexSet()
    if found is not None:
        keys = streamed(db, "SELECT key FROM results WHERE key BETWEEN ? AND ? ORDER BY key", span(found[0]))
        for (key,) in keys:
            indices.add(key & MAX_INDEX)
    return indices


def results(db: Any, run_id: str, start: int, limit: int, *, failed_only: bool = False) -> list[ResultRow]:
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


def attempts(db: Any, run_id: str, after: tuple[int, int, int], limit: int) -> list[Attempt]:
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
        f"SELECT {columns(ATTEMPT_COLUMNS, db)} FROM attempts "
        "WHERE key BETWEEN ? AND ? AND (key, send, n) > (?, ?, ?) ORDER BY key, send, n LIMIT ?",
        (max(first, first + index), last, first + index, send, n, limit),
    )
    return [attempt_row(row) for row in rows]


def attempt(db: Any, key: int, send: int, n: int) -> Attempt | None:
    """Return one request, None where there is none."""
    found = db.execute(
        f"SELECT {', '.join(ATTEMPT_COLUMNS)} FROM attempts WHERE key = ? AND send = ? AND n = ?", (key, send, n)
    ).fetchone()
    return None if found is None else attempt_row(found)


def attempts_in_pages(page: Callable[[tuple[int, int, int], int], list[Attempt]]) -> Iterator[Attempt]:
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


def existing(db: Any, keys: list[int]) -> set[int]:
    """Return those of `keys` that have a result."""
    there: set[int] = set()
    for at in range(0, len(keys), _IN_AT_ONCE):
        some = keys[at : at + _IN_AT_ONCE]
        marks = ",".join("?" * len(some))
        there.update(row[0] for row in db.execute(f"SELECT key FROM results WHERE key IN ({marks})", some))
    return there


def steps(db: Any, run_id: str, after: int = 0, most: int | None = None) -> list[StepRow]:
    """Return the finished steps of a run after the first so many, as they ended; none where it had no table.

    Args:
        db: the journal.
        run_id: the run.
        after: see above.
        most: only so many bytes of what each gave; None: all.
    """
    if version_of(db) < 3:
        return []
    columns = STEP_COLUMNS if most is None else STEP_COLUMNS.replace("data", f"substr(data, 1, {int(most)})")
    rows = db.execute(
        f"SELECT {columns} FROM steps WHERE run = (SELECT number FROM runs WHERE run_id = ?) AND place >= ? "
        "ORDER BY place",
        (run_id, after),
    )
    return [StepRow._make(row) for row in rows]


def standing(db: Any, run_id: str) -> tuple[str, str | None, int] | None:
    """Return a run's state, the reason for it, and how often it was opened; None where there is no run."""
    found = db.execute("SELECT state, reason, epoch FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    return None if found is None else (found[0], found[1], found[2])


def parts_of(db: Any, run_id: str) -> list[Part]:
    """Return the runs that belong to a run, in the order in which they were made."""
    if version_of(db) < 2:
        return []
    rows = db.execute(
        "SELECT run_id, kind, state, reason, total, done, failed, score_sum, asked, cost, unpriced FROM runs "
        "WHERE parent_id = ? ORDER BY number",
        (run_id,),
    )
    return [Part._make(row) for row in rows]


def seconds_up_to_last(db: Any, row: RunRow) -> float:
    """Return how long a run has been running up to its last result, or the last one of the runs that belong to it."""
    found = [row.last_result_at]
    if row.spec.kind == OPTIMISE:
        found += db.execute("SELECT max(last_result_at) FROM runs WHERE parent_id = ?", (row.run_id,)).fetchone()
    since = row.running_since
    return 0.0 if since is None else max((at - since for at in found if at is not None and at > since), default=0.0)


def events(db: Any, after: int, limit: int) -> list[EventRow]:
    """Return events with a number above `after`, oldest first."""
    rows = db.execute(
        "SELECT number, at, kind, data FROM events WHERE number > ? ORDER BY number LIMIT ?", (after, limit)
    )
    return [EventRow(number, at, kind, from_json(data)) for number, at, kind, data in rows]


def delete(db: Any, number: int) -> None:
    """Remove run `number`, its results, its requests and its steps, inside the caller's transaction."""
    db.execute("DELETE FROM results WHERE key BETWEEN ? AND ?", span(number))
    db.execute("DELETE FROM attempts WHERE key BETWEEN ? AND ?", span(number))
    db.execute("DELETE FROM steps WHERE run = ?", (number,))
    db.execute("DELETE FROM log WHERE run = ?", (number,))
    db.execute("DELETE FROM runs WHERE number = ?", (number,))


def percentiles(db: Any, run_id: str, points: tuple[float, ...]) -> list[float] | None:
    """Return the latencies (seconds) at `points` (each 0 to 1, ascending), exact; None where there are none.

    SQLite sorts, in a file of its own where there are many: memory does not grow with the run.
    """
    number, _ = number_and_base(db, run_id)
    where = "FROM results WHERE key BETWEEN ? AND ? AND latency IS NOT NULL"
    count = db.execute(f"SELECT count(*) {where}", span(number)).fetchone()[0]
    if not count:
        return None
    ranks = [min(count - 1, int(point * count)) for point in points]
    if not isinstance(db, sqlite3.Connection):
        asked = f"SELECT latency {where} ORDER BY latency OFFSET ? LIMIT 1"
        return [db.execute(asked, (*span(number), rank)).fetchone()[0] for rank in ranks]
    found: list[float] = []
    for place, (latency,) in enumerate(db.execute(f"SELECT latency {where} ORDER BY latency", span(number))):
        while len(found) < len(ranks) and ranks[len(found)] == place:
            found.append(latency)
        if len(found) == len(ranks):
            break
    return found


def by_node(db: Any, run_id: str) -> dict[str, dict[str, Any]]:
    """Return what each node has done of a run, by its name: see `JournalReader.by_node`."""
    number, _ = number_and_base(db, run_id)
    rows: Any = db.execute(
        "SELECT substr(worker, 1, instr(worker, '/') - 1) AS node, count(*), count(error), coalesce(sum(asked), 0), "
        "coalesce(sum(cost), 0.0), avg(latency) FROM results "
        "WHERE key BETWEEN ? AND ? AND worker LIKE '%/%' GROUP BY node ORDER BY node",
        span(number),
    )
    names = ("done", "failed", "asked", "cost", "latency")
    found = {node: dict(zip(names, figures, strict=True)) for node, *figures in rows if node}
    nodes = (
        "SELECT substr(worker, 1, instr(worker, '/') - 1) AS node, latency FROM results "
        "WHERE key BETWEEN ? AND ? AND worker LIKE '%/%' AND latency IS NOT NULL"
    )
    places = (
        "SELECT node, latency, row_number() OVER (PARTITION BY node ORDER BY latency) - 1 AS place, "
        f"count(*) OVER (PARTITION BY node) AS n FROM ({nodes}) AS timed"
    )
    points: Any = db.execute(
        "SELECT node, max(CASE WHEN place = n * 50 / 100 THEN latency END), "
        f"max(CASE WHEN place = n * 95 / 100 THEN latency END) FROM ({places}) AS placed GROUP BY node",
        span(number),
    )
    percentiles_of = {node: (p50, p95) for node, p50, p95 in points}
    for node, figures in found.items():
        figures["p50"], figures["p95"] = percentiles_of.get(node, (None, None))
    return found


def hedged(db: Any, run_id: str) -> dict[str, Any]:
    """Return what was started a second time of a run: see `JournalReader.hedged`."""
    number, _ = number_and_base(db, run_id)
    if version_of(db) < 2:
        return {"examples": 0, "asked": 0, "cost": 0.0}
    examples, asked, cost, priced = db.execute(
        "SELECT count(DISTINCT key), count(*), coalesce(sum(cost), 0.0), count(cost) FROM attempts "
        f"WHERE key BETWEEN ? AND ? AND (send & {SECOND}) <> 0",
        span(number),
    ).fetchone()
    return {"examples": examples, "asked": asked, "cost": cost if priced == asked else None}


def error_groups(db: Any, run_id: str, limit: int) -> list[ErrorGroup]:
    """Return the run's errors by type, most frequent first, at most `limit` types."""
    number, _ = number_and_base(db, run_id)
    if not isinstance(db, sqlite3.Connection):
        return _grouped(db, number)[:limit]
    # With min() SQLite takes the other bare columns from the row that has the minimum.
    rows: Any = db.execute(
        "SELECT coalesce(json_extract(error, '$.type'), 'Error') AS type, count(*) AS n, min(key), "
        "coalesce(json_extract(error, '$.message'), '') FROM results "
        "WHERE key BETWEEN ? AND ? AND error IS NOT NULL GROUP BY type ORDER BY n DESC, min(key) LIMIT ?",
        (*span(number), limit),
    )
    return [ErrorGroup(str(kind), n, key & MAX_INDEX, str(text)) for kind, n, key, text in rows]


def _grouped(db: Any, number: int) -> list[ErrorGroup]:
    """Group errors here: not every server opens every JSON."""
    groups: dict[str, list[Any]] = {}
    statement = "SELECT key, error FROM results WHERE key BETWEEN ? AND ? AND error IS NOT NULL ORDER BY key"
    for key, text in streamed(db, statement, span(number)):
        error = from_json(text)
        group = groups.setdefault(
            str(error.get("type") or "Error"), [0, key & MAX_INDEX, str(error.get("message") or "")]
        )
        group[0] += 1
    found = [ErrorGroup(kind, *group) for kind, group in groups.items()]
    return sorted(found, key=lambda one: (-one.count, one.first_index))
