# ruff: noqa: S608 - only constants of this package are put into SQL text; values are always bound
"""Runs from one journal into another, whatever keeps either; and whether both have the same.

A run is copied page by page, each page in a transaction. Until it is there to its end its copy is paused and says what
it is, so that one that is broken off goes on behind its last page. What was paid stays in the books of the journal that
has paid it: a copy of a run has cost nothing again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack

from dspex_actors.errors import ConfigError
from dspex_actors.journal import queries
from dspex_actors.journal.base import JournalBase
from dspex_actors.journal.migrations import INDEX_BITS, MAX_INDEX, version_of
from dspex_actors.journal.opening import open_journal, open_reader, place_of
from dspex_actors.journal.reader import JOURNAL_FILE, JournalReader
from dspex_actors.journal.records import RunRow
from dspex_actors.journal.schema import (
    ATTEMPT_COLUMNS,
    INSERT_RUN,
    RESULT_COLUMNS,
    RUN_COLUMNS,
    columns,
    insert,
    span,
    spec_values,
)
from supervisors.client.launch import node_runs

PAGE = 500
#: Of the run's row, what its copy gets at the end; the rest it has from the beginning. It belongs to nobody, and nobody
#: has claimed it: epochs of another cluster would be above those of the one that goes on with it.
_SETTLED = tuple(name for name in RUN_COLUMNS[RUN_COLUMNS.index("total") :] if name not in ("owner", "claimed"))
_STEPS = f"place, {queries.STEP_COLUMNS}"


@dataclass(frozen=True, slots=True)
class Copied:
    """What became of one run.

    Args:
        run_id: the run.
        outcome: copied, there (already, with all its rows) or running (not copied).
        results: how many results the copy has; `attempts`, how many requests.
        attempts: how many requests the copy has.
    """

    run_id: str
    outcome: str
    results: int = 0
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Content:
    """What a journal has of one run: how much, and a digest of all of it.

    Args:
        results: how many.
        attempts: how many requests.
        steps: how many steps of a workflow.
        digest: of the rows and of the run's own figures, 16 digits.
    """

    results: int
    attempts: int
    steps: int
    digest: str


def source_at(text: str) -> JournalReader:
    """Return who reads the journal at a path (the file, or a node's data folder) or address.

    Raises:
        ConfigError: there is none.
    """
    from dspex_actors.journal.postgres.address import is_postgres

    if is_postgres(text):
        from dspex_actors.journal.postgres.reader import PostgresReader

        return PostgresReader(text, Path("journal.json"))
    path = Path(text)
    if path.is_dir():
        reader = open_reader(path)
        path = reader.path
    else:
        reader = JournalReader(path)
    if not path.is_file():
        raise ConfigError(
            f"journal is invalid: got {text!r}, expected a journal's file, a data folder with one, or a URL"
        )
    return reader


def target_at(text: str) -> JournalBase:
    """Open the journal at a path or address for writing; a file is made where there is none.

    Raises:
        ConfigError: its node is running, and is the only one that may write it.
    """
    from dspex_actors.journal.postgres.address import is_postgres

    if is_postgres(text):
        from dspex_actors.journal.postgres.writer import PostgresJournal

        far = PostgresJournal(text, owner="", folder=Path())
        far.open()
        return far
    from dspex_actors.journal.writer import Journal

    path = Path(text)
    if path.is_dir():
        if place_of(path) is not None:
            return open_journal(path)
        path /= JOURNAL_FILE
    if path.name == JOURNAL_FILE and node_runs(path.parent):
        raise ConfigError(f"{path} is written by a node that runs: `dspex stop` it first")
    return Journal(path)


def copy_run(source: JournalReader, target: JournalBase, row: RunRow) -> Copied:
    """Copy one run, or what its copy lacks.

    Args:
        source: the journal that has it.
        target: the other one.
        row: the run, as the source has it.

    Raises:
        ConfigError: the other journal has another run of that id, or one that has gone on there.
    """
    run_id = row.run_id
    if row.state == "running":
        return Copied(run_id, "running")
    mark = f"its copy is not finished (change {row.seq})"
    with target.transaction() as db:
        there = queries.run(db, run_id)
        if there is not None and not _is_copy(there, row):
            raise ConfigError(
                f"run {run_id} is in that journal already, and is another one or has gone on there: "
                "delete it there first"
            )
        goes_on = there is not None and there.reason == mark
        if there is not None and not goes_on and there.seq == row.seq and there.state == row.state:
            return Copied(run_id, "there", *_counts(db, there.run_id))
        if there is None:
            db.execute(INSERT_RUN, (*spec_values(row.spec), "paused", row.created_at, None, None, ""))
        db.execute("UPDATE runs SET state = 'paused', reason = ? WHERE run_id = ?", (mark, run_id))
        base = queries.number_and_base(db, run_id)[1]
        begin = _last(db, base) if goes_on else (-1, (-1, 0, 0))
    _copy_results(source, target, run_id, base, begin[0])
    _copy_attempts(source, target, run_id, base, begin[1])
    with target.transaction() as db:
        steps = _steps_of(source, run_id)
        db.execute("DELETE FROM steps WHERE run = ?", (base >> INDEX_BITS,))
        if steps:
            marks = ", ".join("?" * (1 + len(steps[0])))
            db.executemany(
                f"INSERT INTO steps (run, {_STEPS}) VALUES ({marks})", [(base >> INDEX_BITS, *step) for step in steps]
            )
        values = source.ask(lambda other: _run_values(other, run_id), None)
        if values is None or values[_SETTLED.index("seq")] != row.seq:
            raise ConfigError(f"run {run_id} has gone on while it was copied: pause it, and copy it again")
        db.execute(
            f"UPDATE runs SET {', '.join(f'{name} = ?' for name in _SETTLED)} WHERE run_id = ?", (*values, run_id)
        )
        return Copied(run_id, "copied", *_counts(db, run_id))


def content_of(reader: JournalReader, run_id: str) -> Content | None:
    """Read all that a journal has of a run, with a page of it in memory; None where it has none.

    Texts are compared as PostgreSQL can have them: a zero in one is the replacement character there.
    """
    row = reader.get_run(run_id)
    if row is None:
        return None
    digest = hashlib.sha256()
    figures = (
        row.state, row.spec.total, row.done, row.succeeded, row.failed, row.score_sum, row.scored, row.asked,
        row.cost, row.unpriced, row.spec.program_digest, row.spec.dataset_digest, row.spec.metric_digest,
    )  # fmt: skip
    digest.update(_packed(figures))
    counts = []
    for rows in (
        _pages(reader, run_id, "results", RESULT_COLUMNS, (-1,)),
        _pages(reader, run_id, "attempts", ATTEMPT_COLUMNS, (-1, 0, 0)),
    ):
        count = 0
        for page in rows:
            count += len(page)
            for values in page:
                digest.update(_packed(values))
        digest.update(b"|")
        counts.append(count)
    steps = _steps_of(reader, run_id)
    for step in steps:
        digest.update(_packed(step))
    return Content(counts[0], counts[1], len(steps), digest.hexdigest()[:16])


def _is_copy(there: RunRow, row: RunRow) -> bool:
    """Whether a run is an earlier state of another one, as far as both say: the same, and not further."""
    same = all(
        getattr(there.spec, name) == getattr(row.spec, name)
        for name in ("kind", "program_digest", "dataset_digest", "metric_digest", "lm_digest", "options_digest")
    )
    unfinished = (there.reason or "").startswith("its copy is not finished")
    return same and there.created_at == row.created_at and (unfinished or there.seq <= row.seq)


def _copy_results(source: JournalReader, target: JournalBase, run_id: str, base: int, after: int) -> None:
    statement = insert("results", RESULT_COLUMNS, base)
    for page in _pages(source, run_id, "results", RESULT_COLUMNS, (after,)):
        with target.transaction() as db:
            db.executemany(statement, page)


def _copy_attempts(
    source: JournalReader, target: JournalBase, run_id: str, base: int, after: tuple[int, int, int]
) -> None:
    # One that was lost at the first copy may have been found since.
    statement = insert("attempts", ATTEMPT_COLUMNS, base, instead="REPLACE")
    for page in _pages(source, run_id, "attempts", ATTEMPT_COLUMNS, after):
        with target.transaction() as db:
            db.executemany(statement, page)


def _pages(
    reader: JournalReader, run_id: str, table: str, names: Sequence[str], after: tuple[int, ...]
) -> Iterator[list[list[Any]]]:
    """Give a run's rows of a table, behind one, by values as they are written: the index, then the other columns."""
    keys = names[: len(after)]

    def page(db: Any) -> list[list[Any]]:
        number, base = queries.number_and_base(db, run_id)
        if table == "attempts" and version_of(db) < 2:
            return []
        marks = ", ".join("?" * len(after))
        rows = db.execute(
            f"SELECT {columns(names, db)} FROM {table} WHERE key BETWEEN ? AND ? AND ({', '.join(keys)}) > ({marks}) "
            f"ORDER BY {', '.join(keys)} LIMIT {PAGE}",
            (*span(number), base + after[0], *after[1:]),
        )
        return [[key & MAX_INDEX, *values] for key, *values in rows]

    nothing: list[list[Any]] = []
    while found := reader.ask(page, nothing):
        yield found
        after = tuple(found[-1][: len(after)])


def _last(db: Any, base: int) -> tuple[int, tuple[int, int, int]]:
    """Return the last result and the last request of a copy that was broken off."""
    first, last = span(base >> INDEX_BITS)
    result = db.execute("SELECT max(key) FROM results WHERE key BETWEEN ? AND ?", (first, last)).fetchone()[0]
    attempt = db.execute(
        "SELECT key, send, n FROM attempts WHERE key BETWEEN ? AND ? ORDER BY key DESC, send DESC, n DESC LIMIT 1",
        (first, last),
    ).fetchone()
    return (
        -1 if result is None else result - base,
        (-1, 0, 0) if attempt is None else (attempt[0] - base, attempt[1], attempt[2]),
    )


def _counts(db: Any, run_id: str) -> tuple[int, int]:
    found = span(queries.number_and_base(db, run_id)[0])
    results, attempts = (
        int(db.execute(f"SELECT count(*) FROM {table} WHERE key BETWEEN ? AND ?", found).fetchone()[0])
        for table in ("results", "attempts")
    )
    return results, attempts


def _run_values(db: Any, run_id: str) -> list[Any] | None:
    found = db.execute(f"SELECT {columns(_SETTLED, db)} FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    return None if found is None else list(found)


def _steps_of(reader: JournalReader, run_id: str) -> list[tuple[Any, ...]]:
    statement = f"SELECT {_STEPS} FROM steps WHERE run = (SELECT number FROM runs WHERE run_id = ?) ORDER BY place"

    def steps(db: Any) -> list[tuple[Any, ...]]:
        return [] if version_of(db) < 3 else [tuple(row) for row in db.execute(statement, (run_id,))]

    none: list[tuple[Any, ...]] = []
    return reader.ask(steps, none)


def _packed(values: Sequence[Any]) -> bytes:
    plain = [value.replace("\x00", "\ufffd") if type(value) is str else value for value in values]
    packed: bytes = msgpack.packb(plain)
    return packed
