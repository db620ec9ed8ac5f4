"""Reading journals: for the CLI, for results, for everybody who is not the one writer.

A reader never makes a file and never changes one. It opens the journal for each question (0.2 ms): nothing it
holds keeps the writer from folding its log into the main file, and a node that was stopped or started in
between makes no difference.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from dspex_actors.foundation.indexset import IndexSet
from dspex_actors.journal import queries
from dspex_actors.journal.errors import corrupt, translated
from dspex_actors.journal.migrations import version_of
from dspex_actors.journal.records import AttemptRow, ErrorGroup, EventRow, ResultRow, RunRow, RunState

T = TypeVar("T")
_BUSY_MS = 5_000
_TRIES = 5


class JournalReader:
    """Read the journal at `path` while its writer writes; a missing one is an empty one.

    Args:
        path: the SQLite file.

    Every method may raise JournalCorrupt (damaged, or of a newer version) and JournalError (cannot be
    opened).
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Remember the path; nothing is opened yet."""
        self.path = Path(path)

    def get_run(self, run_id: str) -> RunRow | None:
        """Return the run, None where there is none."""
        return self._ask(lambda db: queries.run(db, run_id), None)

    def list_runs(self, *, state: RunState | None = None, limit: int = 1000) -> list[RunRow]:
        """Return the runs, newest first."""
        return self._ask(lambda db: list(queries.runs(db, state=state, limit=limit)), [])

    def done_indices(self, run_id: str) -> IndexSet:
        """Return the indices that have a result, one bit each."""
        return self._ask(lambda db: queries.done(db, run_id), IndexSet())

    def results(
        self, run_id: str, start: int = 0, limit: int = queries.PAGE, *, failed_only: bool = False
    ) -> list[ResultRow]:
        """Return one page of results in input order, from index `start` on."""
        return self._ask(lambda db: queries.results(db, run_id, start, limit, failed_only=failed_only), [])

    def iter_results(
        self, run_id: str, start: int = 0, limit: int | None = None, *, failed_only: bool = False
    ) -> Iterator[ResultRow]:
        """Give results in input order, from index `start` on, with a page of them in memory at a time."""
        return queries.in_pages(lambda after, n: self.results(run_id, after, n, failed_only=failed_only), start, limit)

    def iter_attempts(self, run_id: str) -> Iterator[AttemptRow]:
        """Give a run's requests by example, in the order in which they were sent, with a page of them in memory."""
        return queries.attempts_in_pages(
            lambda after, n: self._ask(lambda db: queries.attempts(db, run_id, after, n), [])
        )

    def events(self, *, after: int = 0, limit: int = 1000) -> list[EventRow]:
        """Return events with a number above `after`, oldest first."""
        return self._ask(lambda db: queries.events(db, after, limit), [])

    def latency_percentiles(self, run_id: str, points: tuple[float, ...]) -> list[float] | None:
        """Return the latencies (seconds) at `points` (0 to 1, ascending); None where nothing has one."""
        return self._ask(lambda db: queries.percentiles(db, run_id, points), None)

    def error_groups(self, run_id: str, limit: int = 20) -> list[ErrorGroup]:
        """Return the run's errors by type, most frequent first."""
        return self._ask(lambda db: queries.error_groups(db, run_id, limit), [])

    def check(self) -> None:
        """Read the whole file and check it, also while its writer writes.

        Raises:
            JournalCorrupt: something does not fit; says what.
        """
        problem = self._ask(lambda db: str(db.execute("PRAGMA integrity_check(1)").fetchone()[0]), "ok")
        if problem != "ok":
            raise corrupt(self.path, f"is damaged ({' '.join(problem.split())[:200]})")

    def _ask(self, question: Callable[[sqlite3.Connection], T], empty: T) -> T:
        log = self.path.with_name(self.path.name + "-wal")
        with translated(self.path):
            for _ in range(_TRIES):
                if not self.path.exists() or not (self.path.stat().st_size or log.exists()):
                    return empty
                # Opened the usual way, SQLite would make -wal and -shm files beside a closed journal.
                # Without a log nobody writes, and it can be read as if it could not change; if a log is
                # there afterwards, somebody began to write meanwhile, and what we read may be a mixture: ask
                # again.
                still = not log.exists()
                try:
                    answer = self._ask_once(question, empty, still=still)
                except sqlite3.DatabaseError:
                    if still and log.exists():
                        continue
                    raise
                if not still or not log.exists():
                    return answer
            return self._ask_once(question, empty, still=False)

    def _ask_once(self, question: Callable[[sqlite3.Connection], T], empty: T, *, still: bool) -> T:
        options = "mode=ro&immutable=1" if still else "mode=ro"
        db = sqlite3.connect(f"file:{quote(str(self.path))}?{options}", uri=True, isolation_level=None)
        try:
            db.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
            queries.check_schema(self.path, db)
            if version_of(db) == 0:
                return empty
            # One snapshot for the whole answer.
            db.execute("BEGIN")
            return question(db)
        finally:
            db.close()


def find_journals(home: str | os.PathLike[str]) -> list[Path]:
    """Return the journals under a DSPEX_HOME: the daemon's, then those of embedded nodes, by name.

    Args:
        home: the data folder; it need not exist.
    """
    root = Path(home)
    embedded = sorted(root.glob("embedded/*/journal.db"))
    return [path for path in (root / "journal.db", *embedded) if path.is_file()]
