"""The journal: runs, results and events of one node in one SQLite file, with one writer.

What `Journal` has acknowledged (the method returned) is on the disk: the write-ahead log is synced at every
commit (`synchronous=FULL`), so neither `kill -9` nor a power cut takes it back. NORMAL would do for `kill
-9` only; with a commit per batch the sync is not what limits us. A batch of results and the run's counters
change in one transaction: the counters are always those of the rows that are there.

Readers (`reader.JournalReader`) work while the writer writes.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.indexset import IndexSet
from dspex_actors.journal import queries
from dspex_actors.journal.errors import corrupt, translated
from dspex_actors.journal.migrations import VERSION, keep_copy, migrate, version_of
from dspex_actors.journal.records import STATES, AttemptRow, EventRow, ResultRow, RunRow, RunSpec, RunState
from dspex_actors.journal.sameness import check_goes_on, check_same
from dspex_actors.journal.schema import (
    ATTEMPT_COLUMNS,
    INSERT_RUN,
    RESULT_COLUMNS,
    UPDATE_IDENTITY,
    UPDATE_RUN,
    Values,
    check_indices,
    going_on_values,
    identity_values,
    insert,
    spec_values,
    to_json,
    values_of_attempt,
    values_of_result,
)
from dspex_actors.journal.tally import Tally

_BUSY_MS = 5_000
#: The setting by which results are read, and not made.
_READ = "failure_score"
_QUICK_CHECK_LIMIT = 32 << 20


class Journal:
    """Write a journal; the only writer of its file. Safe to use from several threads, one call at a time.

    A journal of an earlier version is brought to this one when it is opened; a copy of it as it was stays beside it.

    Args:
        path: the SQLite file; made with mode 0600, and its folder with 0700, where it is not there.
        clock: wall-clock seconds since 1970.

    Raises:
        JournalCorrupt: the file is damaged, no journal, or of a newer version.
        JournalReadOnly: it cannot be written.
        JournalFull: there is no space to make it.
    """

    def __init__(self, path: str | os.PathLike[str], *, clock: Callable[[], float] = time.time) -> None:
        """Open the journal, or make it; a damaged one is refused here rather than in the middle of a run."""
        self.path = Path(path)
        self._clock = clock
        self._lock = threading.RLock()
        with translated(self.path):
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # SQLite gives -wal and -shm the mode of the main file, so that one is made before SQLite sees it.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise

    def create_run(self, spec: RunSpec, *, state: RunState = "running", force: bool = False) -> RunRow:
        """Put a run in, or return the one that is there under the same id.

        One that is neither running nor finished takes over how it is to go on: the LM (another address, another
        key), the settings, where the dataset is now. A finished one takes over how its results are read: what a
        failed example counts as.

        Args:
            spec: what to run.
            state: the state of a new run; that of an existing one stays what it is.
            force: take one that is there also where it is another run: it goes on as `spec` says.

        Raises:
            ConfigError: the id belongs to a run of another kind, program, dataset, metric, LM or of other settings;
                says which differ. Or that run was cancelled.
        """
        with self._transaction():
            found = queries.run(self._db, spec.run_id)
            if found is None:
                now = self._clock()
                running = now if state == "running" else None
                self._db.execute(INSERT_RUN, (*spec_values(spec), _checked(state), now, running, running))
                found = self._run(spec.run_id)
            check_same(found.spec, spec, force=force)
            check_goes_on(found, force=force)
            if found.state not in ("running", "finished"):
                self._db.execute(UPDATE_RUN, (*going_on_values(spec), spec.run_id))
                if force:
                    self._db.execute(UPDATE_IDENTITY, (*identity_values(spec), spec.run_id))
                found = self._run(spec.run_id)
            if found.state == "finished" and (read := spec.settings.get(_READ)) != found.spec.settings.get(_READ):
                settings = to_json(found.spec.settings | {_READ: read})
                self._db.execute("UPDATE runs SET settings = ? WHERE run_id = ?", (settings, spec.run_id))
                found = self._run(spec.run_id)
            return found

    def set_dataset(self, run_id: str, descriptor: dict[str, Any], digest: str | None, parts: dict[str, str]) -> None:
        """Have a run go on with what its dataset is now.

        Args:
            run_id: the run.
            descriptor: opens the dataset.
            digest: identity of its content.
            parts: what of it is kept for people.
        """
        with self._transaction():
            identity = self._run(run_id).spec.identity
            text = None if identity is None else to_json(identity | {"dataset": parts})
            self._db.execute(
                "UPDATE runs SET dataset = ?, dataset_digest = ?, identity = ? WHERE run_id = ?",
                (to_json(descriptor), digest, text, run_id),
            )

    def add_results(self, run_id: str, results: Iterable[ResultRow], attempts: Iterable[AttemptRow] = ()) -> int:
        """Add results, the requests they took and their counts to the run, all or nothing; on the disk when it returns.

        A result whose index is there already is not counted twice: the first one stays, and its requests are paid
        all the same. A request that is there already is not counted twice either; one that was "lost" is replaced by
        what became of it.

        Args:
            run_id: the run.
            results: any number; 50 to 1,000 at once are efficient.
            attempts: requests of these or of other examples of the run: the run's `asked`, `usage` and `cost` are sums
                over them.

        Returns:
            How many results were new.

        Raises:
            JournalFull: no space; nothing of the batch is in, the same call works once there is space.
            ConfigError: there is no such run.
        """
        return self.add_values(run_id, list(map(values_of_result, results)), list(map(values_of_attempt, attempts)))

    def add_values(self, run_id: str, results: Sequence[Values], attempts: Sequence[Values]) -> int:
        """Do what `add_results` does, for rows that are values by column already: what a run's batches are."""
        check_indices(results)
        check_indices(attempts)
        with self._transaction():
            number, base = queries.number_and_base(self._db, run_id)
            replaced: list[AttemptRow] = []
            if results:
                statement = insert("results", RESULT_COLUMNS, base)
                if self._insert(statement, results) != len(results):
                    # Some were there, and executemany does not say which: start over with the new ones only.
                    self._db.execute("ROLLBACK TO batch")
                    results = self._only_new(base, results)
                    self._db.executemany(statement, results)
            if attempts and self._insert(insert("attempts", ATTEMPT_COLUMNS, base), attempts) != len(attempts):
                self._db.execute("ROLLBACK TO batch")
                attempts, replaced = self._one_by_one(base, attempts)
            if results or attempts:
                tally = Tally.of(results, attempts)
                for attempt in replaced:
                    tally.take_back(attempt)
                tally.add_to(self._db, number)
        return len(results)

    def set_state(self, run_id: str, state: RunState, reason: str | None = None) -> RunRow:
        """Change a run's state, and account for the time it was running.

        A finished run stays finished: a pause that was under way when the last result came in is too late.

        Args:
            run_id: the run.
            state: the new one.
            reason: why, for people; shown for a paused or failed run.
        """
        _checked(state)
        with self._transaction():
            row, now = self._run(run_id), self._clock()
            if row.state == "finished":
                return row
            active = row.active_seconds
            if row.running_since is not None:
                active += max(0.0, now - row.running_since)
            running = state == "running"
            self._db.execute(
                "UPDATE runs SET state = ?, reason = ?, active_seconds = ?, running_since = ?, ended_at = ?, "
                "started_at = coalesce(started_at, ?) WHERE run_id = ?",
                (state, reason, active, now if running else None,
                 None if state in ("running", "paused") else now, now if running else None, run_id),
            )  # fmt: skip
            return self._run(run_id)

    def next_epoch(self, run_id: str) -> RunRow:
        """Count that another evaluator opens the run, and return it."""
        with self._transaction():
            self._db.execute("UPDATE runs SET epoch = epoch + 1 WHERE run_id = ?", (run_id,))
            return self._run(run_id)

    def set_total(self, run_id: str, total: int) -> None:
        """Write down the number of examples, once the dataset has been read to its end."""
        with self._transaction():
            self._db.execute("UPDATE runs SET total = ? WHERE run_id = ?", (total, run_id))

    def pause_interrupted(self, reason: str) -> list[str]:
        """Turn every run that a node left behind as running into a paused one; call it at the node's start.

        Its running time ends with its last result: nobody knows when the node died.

        Returns:
            The ids of those runs, oldest first.
        """
        with self._transaction():
            ids = [row.run_id for row in queries.runs(self._db, state="running")]
            self._db.execute(
                "UPDATE runs SET state = 'paused', reason = ?, running_since = NULL, "
                "active_seconds = active_seconds + max(0, coalesce(last_result_at - running_since, 0)) "
                "WHERE state = 'running'",
                (reason,),
            )
        return ids[::-1]

    def add_event(self, kind: str, data: dict[str, Any]) -> int:
        """Write down that something happened; return the event's number."""
        with self._transaction():
            found = self._db.execute(
                "INSERT INTO events (at, kind, data) VALUES (?, ?, ?)", (self._clock(), kind, to_json(data))
            )
            return int(found.lastrowid or 0)

    def delete_run(self, run_id: str) -> bool:
        """Remove a run and its results; return whether it was there."""
        with self._transaction():
            if queries.run(self._db, run_id) is None:
                return False
            number, _ = queries.number_and_base(self._db, run_id)
            queries.delete(self._db, number)
            return True

    def get_run(self, run_id: str) -> RunRow | None:
        """Return the run, None where there is none."""
        with self._reading():
            return queries.run(self._db, run_id)

    def list_runs(self, *, state: RunState | None = None, limit: int = 1000) -> list[RunRow]:
        """Return the runs, newest first."""
        with self._reading():
            return list(queries.runs(self._db, state=state, limit=limit))

    def done_indices(self, run_id: str) -> IndexSet:
        """Return the indices that have a result, one bit each."""
        with self._reading():
            return queries.done(self._db, run_id)

    def iter_results(self, run_id: str, start: int = 0, limit: int | None = None) -> Iterator[ResultRow]:
        """Give results in input order, from index `start` on, page by page."""
        yield from queries.in_pages(lambda after, n: self._page(run_id, after, n), start, limit)

    def events(self, *, after: int = 0, limit: int = 1000) -> list[EventRow]:
        """Return events with a number above `after`, oldest first."""
        with self._reading():
            return queries.events(self._db, after, limit)

    def check(self) -> None:
        """Read the whole file and check it.

        Raises:
            JournalCorrupt: something does not fit; says what.
        """
        with self._reading():
            problem = self._db.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if problem != "ok":
            raise corrupt(self.path, f"is damaged ({_one_line(problem)})")

    def close(self) -> None:
        """Close the file; the write-ahead log is folded into it."""
        with self._lock:
            self._db.close()

    def __enter__(self) -> Journal:
        """Return the journal."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Close the journal."""
        self.close()

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
            with self._transaction():
                migrate(db)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._lock, translated(self.path):
            yield

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock, translated(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                # On a full disk SQLite may have rolled back by itself.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _run(self, run_id: str) -> RunRow:
        found = queries.run(self._db, run_id)
        if found is None:
            raise queries.no_such_run(run_id)
        return found

    def _page(self, run_id: str, start: int, limit: int) -> list[ResultRow]:
        with self._reading():
            return queries.results(self._db, run_id, start, limit)

    def _insert(self, statement: str, values: Sequence[Values]) -> int:
        """Insert rows behind a savepoint; return how many were not there."""
        self._db.execute("SAVEPOINT batch")
        return self._db.executemany(statement, values).rowcount

    def _one_by_one(self, base: int, attempts: Sequence[Values]) -> tuple[list[Values], list[AttemptRow]]:
        """Insert requests of which some are there; return those that count now, and lost ones that count no more."""
        counted: list[Values] = []
        replaced: list[AttemptRow] = []
        statement = insert("attempts", ATTEMPT_COLUMNS, base, instead="REPLACE")
        outcome = ATTEMPT_COLUMNS.index("outcome")
        for attempt in attempts:
            index, send, n = attempt[:3]
            there = queries.attempt(self._db, base | index, send, n)
            if there is not None and (there.outcome != "lost" or attempt[outcome] == "lost"):
                continue
            if there is not None:
                replaced.append(there)
            self._db.execute(statement, attempt)
            counted.append(attempt)
        return counted, replaced

    def _only_new(self, base: int, results: Sequence[Values]) -> list[Values]:
        there = queries.existing(self._db, [base | result[0] for result in results])
        # One that is in the batch twice is new once.
        new = {result[0]: result for result in reversed(results) if base | result[0] not in there}
        return list(new.values())[::-1]


def _checked(state: str) -> str:
    if state not in STATES:
        raise ConfigError(f"a run's state is one of {', '.join(STATES)}; got {state!r}")
    return state


def _one_line(text: str) -> str:
    return " ".join(str(text).split())[:200]
