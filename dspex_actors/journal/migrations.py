# ruff: noqa: S608 - only constants of this package are put into SQL text
"""The journal's tables, step by step: what each version of the schema has that the one before had not.

A new journal goes through all steps, an old one through those that it lacks, in one transaction, with a copy of the
old file beside it. A step that was released is never changed again: another one is added. `schema` knows from which
version on a column is there, so that journals of a node that is gone are read as they are.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

INDEX_BITS = 40
MAX_INDEX = (1 << INDEX_BITS) - 1


def _first(db: sqlite3.Connection) -> None:
    """Version 1, of commit 17e5cbe and before: runs, results, events."""
    db.execute(
        """CREATE TABLE runs (
        number INTEGER PRIMARY KEY, run_id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL,
        state TEXT NOT NULL, reason TEXT, total INTEGER,
        done INTEGER NOT NULL DEFAULT 0, succeeded INTEGER NOT NULL DEFAULT 0,
        failed INTEGER NOT NULL DEFAULT 0,
        score_sum REAL NOT NULL DEFAULT 0, scored INTEGER NOT NULL DEFAULT 0,
        asked INTEGER NOT NULL DEFAULT 0,
        usage TEXT NOT NULL DEFAULT '{}', cost REAL NOT NULL DEFAULT 0, unpriced INTEGER NOT NULL DEFAULT 0,
        nodes TEXT NOT NULL DEFAULT '[]',
        created_at REAL NOT NULL, started_at REAL, ended_at REAL, last_result_at REAL,
        active_seconds REAL NOT NULL DEFAULT 0, running_since REAL,
        program_digest TEXT NOT NULL, dataset_digest TEXT,
        metric_name TEXT NOT NULL, metric_digest TEXT NOT NULL,
        lm TEXT, settings TEXT NOT NULL, dataset TEXT NOT NULL, program BLOB NOT NULL, metric BLOB NOT NULL)"""
    )
    db.execute(
        """CREATE TABLE results (
        key INTEGER PRIMARY KEY, score REAL, attempts INTEGER NOT NULL, latency REAL, asked INTEGER NOT NULL,
        cost REAL, at REAL NOT NULL, worker TEXT NOT NULL, usage TEXT, error TEXT,
        prediction BLOB, example BLOB NOT NULL)"""
    )
    db.execute("CREATE INDEX results_failed ON results (key) WHERE error IS NOT NULL")
    db.execute(
        """CREATE TABLE events (
        number INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, data TEXT NOT NULL)"""
    )
    db.execute(
        f"""CREATE VIEW result AS
        SELECT runs.run_id, results.key & {MAX_INDEX} AS idx, results.score, results.error, results.attempts,
               results.latency, results.usage, results.asked, results.cost, results.worker, results.at
        FROM results JOIN runs ON runs.number = results.key >> {INDEX_BITS}"""
    )


def _identities_and_attempts(db: sqlite3.Connection) -> None:
    """Version 2: what a run is, part by part; what an example has beside its prediction; a row per request."""
    for column in (
        "parent_id TEXT",
        "lm_digest TEXT",
        "options_digest TEXT",
        "identity TEXT",
        "epoch INTEGER NOT NULL DEFAULT 0",
        "labels TEXT NOT NULL DEFAULT '{}'",
    ):
        db.execute(f"ALTER TABLE runs ADD COLUMN {column}")
    db.execute("ALTER TABLE results ADD COLUMN finish_reason TEXT")
    db.execute("ALTER TABLE results ADD COLUMN extra BLOB")
    db.execute(
        """CREATE TABLE attempts (
        key INTEGER NOT NULL, send INTEGER NOT NULL, n INTEGER NOT NULL, at REAL NOT NULL,
        provider TEXT NOT NULL, model TEXT NOT NULL, outcome TEXT NOT NULL, error TEXT, status INTEGER,
        usage TEXT, cost REAL, latency REAL, finish_reason TEXT, request_id TEXT,
        PRIMARY KEY (key, send, n)) WITHOUT ROWID"""
    )
    db.execute(
        f"""CREATE VIEW attempt AS
        SELECT runs.run_id, attempts.key & {MAX_INDEX} AS idx, attempts.send, attempts.n, attempts.at,
               attempts.provider, attempts.model, attempts.outcome, attempts.error, attempts.status, attempts.usage,
               attempts.cost, attempts.latency, attempts.finish_reason, attempts.request_id
        FROM attempts JOIN runs ON runs.number = attempts.key >> {INDEX_BITS}"""
    )


def _steps(db: sqlite3.Connection) -> None:
    """Version 3: the steps of durable workflows, and which process carries one out."""
    db.execute("ALTER TABLE runs ADD COLUMN holder TEXT")
    db.execute(
        """CREATE TABLE steps (
        run INTEGER NOT NULL, step TEXT NOT NULL, place INTEGER NOT NULL, state TEXT NOT NULL,
        attempts INTEGER NOT NULL, duration REAL NOT NULL, at REAL NOT NULL, error TEXT, data BLOB NOT NULL,
        PRIMARY KEY (run, step))"""
    )
    db.execute(
        """CREATE VIEW workflow_step AS
        SELECT runs.run_id, steps.place, steps.step, steps.state, steps.attempts, steps.duration, steps.at, steps.error
        FROM steps JOIN runs ON runs.number = steps.run ORDER BY steps.run, steps.place"""
    )


def _money(db: sqlite3.Connection) -> None:
    """Version 4: for whom and what for requests are, which answers a cache gave, and what was paid, by the hour."""
    db.execute("ALTER TABLE results ADD COLUMN cached TEXT")
    db.execute("ALTER TABLE attempts ADD COLUMN user TEXT")
    db.execute("ALTER TABLE attempts ADD COLUMN tags TEXT")
    db.execute(
        """CREATE TABLE spend (
        hour INTEGER NOT NULL, run TEXT NOT NULL, provider TEXT NOT NULL, model TEXT NOT NULL, user TEXT NOT NULL,
        tags TEXT NOT NULL, requests INTEGER NOT NULL, answered INTEGER NOT NULL, failed INTEGER NOT NULL,
        given_up INTEGER NOT NULL, unpriced INTEGER NOT NULL, cost REAL NOT NULL, input_total INTEGER NOT NULL,
        output_total INTEGER NOT NULL, cache_read INTEGER NOT NULL, cache_write INTEGER NOT NULL,
        reasoning INTEGER NOT NULL, cached INTEGER NOT NULL, saved REAL NOT NULL,
        PRIMARY KEY (hour, run, provider, model, user, tags)) WITHOUT ROWID"""
    )
    tokens = ", ".join(
        f"coalesce(sum(json_extract(attempts.usage, '$.{name}')), 0)"
        for name in ("input_total", "output_total", "cache_read", "cache_write", "reasoning")
    )
    db.execute(
        f"""INSERT INTO spend
        SELECT CAST(attempts.at / 3600 AS INTEGER), runs.run_id, attempts.provider, attempts.model, '', '', count(*),
               sum(attempts.outcome = 'answered'), sum(attempts.outcome = 'failed'),
               sum(attempts.outcome IN ('cancelled', 'lost')), sum(attempts.cost IS NULL),
               coalesce(sum(attempts.cost), 0.0), {tokens}, 0, 0.0
        FROM attempts JOIN runs ON runs.number = attempts.key >> {INDEX_BITS} GROUP BY 1, 2, 3, 4"""
    )


def _log(db: sqlite3.Connection) -> None:
    """Version 5: a number for each change of a run, the examples of each batch, and whose the run is."""
    for column in (
        "owner TEXT NOT NULL DEFAULT ''",
        "claimed INTEGER NOT NULL DEFAULT 0",
        "seq INTEGER NOT NULL DEFAULT 0",
        "batch INTEGER NOT NULL DEFAULT 0",
    ):
        db.execute(f"ALTER TABLE runs ADD COLUMN {column}")
    db.execute(
        """CREATE TABLE log (
        run INTEGER NOT NULL, seq INTEGER NOT NULL, epoch INTEGER NOT NULL, opening INTEGER NOT NULL,
        batch INTEGER NOT NULL, results BLOB, attempts BLOB, PRIMARY KEY (run, seq)) WITHOUT ROWID"""
    )


def _told(db: sqlite3.Connection) -> None:
    """Version 6: the last batch of sums that each worker has told, so that none is added twice."""
    db.execute("CREATE TABLE told (worker TEXT PRIMARY KEY, batch INTEGER NOT NULL, at REAL NOT NULL) WITHOUT ROWID")


#: Step n brings a journal of version n to version n + 1.
STEPS: tuple[Callable[[sqlite3.Connection], None], ...]
STEPS = (_first, _identities_and_attempts, _steps, _money, _log, _told)
#: The version that this program writes.
VERSION = len(STEPS)


def version_of(db: Any) -> int:
    """Return the version of the open journal's schema; 0: it is empty."""
    if not isinstance(db, sqlite3.Connection):
        return int(db.version)
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def migrate(db: sqlite3.Connection) -> None:
    """Bring an open journal to `VERSION`; inside the caller's transaction."""
    for step in STEPS[version_of(db) :]:
        step(db)
    db.execute(f"PRAGMA user_version = {VERSION}")


def index_claims(db: sqlite3.Connection) -> None:
    """Have the claims of a run found without reading all of its log, in a journal of whatever version.

    A standby looks for the last one before each batch, and a coordinator several times a second.
    """
    db.execute("CREATE INDEX IF NOT EXISTS log_claims ON log (run, batch, seq) WHERE results IS NULL")


def copy_path(path: Path, version: int) -> Path:
    """Return where the copy of a journal is kept that was of an earlier version."""
    return path.with_name(f"{path.name}.v{version}")


def keep_copy(path: Path, db: sqlite3.Connection) -> Path:
    """Keep a journal as it is, beside it, before it is migrated; one that is there already stays.

    Args:
        path: the journal's file.
        db: the open journal, outside a transaction.

    Returns:
        The copy's path: the journal's with ".v" and its version.

    Raises:
        sqlite3.Error, OSError: no space, no permission; nothing is left behind.
    """
    target = copy_path(path, version_of(db))
    if target.exists():
        return target
    part = target.with_name(f"{target.name}.part")
    part.unlink(missing_ok=True)
    try:
        os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        copy = sqlite3.connect(part)
        try:
            db.backup(copy)
            # Without a log beside it: it is opened by hand, if ever.
            copy.execute("PRAGMA journal_mode = DELETE")
        finally:
            copy.close()
        handle = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target
