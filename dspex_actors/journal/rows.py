"""Rows into the tables of results and requests, where some of them may be there already."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgpack

from dspex_actors.journal import queries
from dspex_actors.journal.schema import ATTEMPT_COLUMNS, RESULT_COLUMNS, Values, insert
from dspex_actors.lm.attempts import Attempt


def packed_rows(results: Sequence[Values], attempts: Sequence[Values]) -> bytes:
    """Return results and requests as bytes, as they travel."""
    packed: bytes = msgpack.packb([results, attempts])
    return packed


def unpacked_rows(rows: bytes) -> tuple[list[Values], list[Values]]:
    """Return results and requests of `packed_rows`."""
    results, attempts = msgpack.unpackb(rows)
    return results, attempts


def add_results(db: Any, base: int, results: Sequence[Values]) -> Sequence[Values]:
    """Add results, and return those that were not there; inside the caller's transaction.

    Args:
        db: the journal.
        base: the key of the run's index 0.
        results: values by column.
    """
    statement = insert("results", RESULT_COLUMNS, base)
    if not results or _insert(db, "results", RESULT_COLUMNS, base, results):
        return results
    # Some were there, and executemany does not say which: start over with the new ones only.
    db.execute("ROLLBACK TO batch")
    results = _only_new(db, base, results)
    if results:
        db.executemany(statement, results)
    return results


def add_attempts(db: Any, base: int, attempts: Sequence[Values]) -> tuple[Sequence[Values], list[Attempt]]:
    """Add requests; return those that count now, and lost ones that count no more; inside the caller's transaction."""
    if not attempts or _insert(db, "attempts", ATTEMPT_COLUMNS, base, attempts):
        return attempts, []
    db.execute("ROLLBACK TO batch")
    return _one_by_one(db, base, attempts)


def _insert(db: Any, table: str, names: Sequence[str], base: int, values: Sequence[Values]) -> bool:
    """Insert rows behind a savepoint; return whether none of them was there. Else what has become of them is open."""
    db.execute("SAVEPOINT batch")
    if not isinstance(db, sqlite3.Connection):
        return bool(db.copy(table, names, base, values))
    return int(db.executemany(insert(table, names, base), values).rowcount) == len(values)


def _one_by_one(db: Any, base: int, attempts: Sequence[Values]) -> tuple[list[Values], list[Attempt]]:
    counted: list[Values] = []
    replaced: list[Attempt] = []
    statement = insert("attempts", ATTEMPT_COLUMNS, base, instead="REPLACE")
    outcome = ATTEMPT_COLUMNS.index("outcome")
    for attempt in attempts:
        index, send, n = attempt[:3]
        there = queries.attempt(db, base | index, send, n)
        if there is not None and (there.outcome != "lost" or attempt[outcome] == "lost"):
            continue
        if there is not None:
            replaced.append(there)
        db.execute(statement, attempt)
        counted.append(attempt)
    return counted, replaced


def _only_new(db: Any, base: int, results: Sequence[Values]) -> list[Values]:
    there = queries.existing(db, [base | result[0] for result in results])
    # One that is in the batch twice is new once.
    new = {result[0]: result for result in reversed(results) if base | result[0] not in there}
    return list(new.values())[::-1]
