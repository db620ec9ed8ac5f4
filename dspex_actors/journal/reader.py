"""Reading journals: for the CLI, for results, for everybody who is not the one writer.

A reader never makes a file and never changes one. It opens the journal for each question (0.2 ms): nothing it
holds keeps the writer from folding its log into the main file, and a node that was stopped or started in
between makes no difference.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from dspex_actors.foundation.indexset import IndexSet
from dspex_actors.foundation.sqlite import ask
from dspex_actors.journal import queries
from dspex_actors.journal.errors import corrupt, translated
from dspex_actors.journal.migrations import version_of
from dspex_actors.journal.records import ErrorGroup, EventRow, Part, ResultRow, RunRow, RunState, StepRow
from dspex_actors.journal.spend import Spent, spent
from dspex_actors.lm.attempts import Attempt

T = TypeVar("T")
#: The journal's file in a node's data folder.
JOURNAL_FILE = "journal.db"


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

    def get_run(self, run_id: str, *, code: bool = True) -> RunRow | None:
        """Return the run, None where there is none.

        Args:
            run_id: its id.
            code: with its program and its metric, of an optimisation all its examples too; False: they are empty.
        """
        return self.ask(lambda db: queries.run(db, run_id, code=code), None)

    def list_runs(
        self, *, state: RunState | None = None, kind: str | None = None, limit: int = 1000, code: bool = True
    ) -> list[RunRow]:
        """Return the runs, newest first; only those in a state, or of a kind, where that is told; see `get_run`."""
        return self.ask(lambda db: list(queries.runs(db, state=state, kind=kind, limit=limit, code=code)), [])

    def done_indices(self, run_id: str) -> IndexSet:
        """Return the indices that have a result, one bit each."""
        return self.ask(lambda db: queries.done(db, run_id), IndexSet())

    def results(
        self, run_id: str, start: int = 0, limit: int = queries.PAGE, *, failed_only: bool = False
    ) -> list[ResultRow]:
        """Return one page of results in input order, from index `start` on."""
        return self.ask(lambda db: queries.results(db, run_id, start, limit, failed_only=failed_only), [])

    def iter_results(
        self, run_id: str, start: int = 0, limit: int | None = None, *, failed_only: bool = False
    ) -> Iterator[ResultRow]:
        """Give results in input order, from index `start` on, with a page of them in memory at a time."""
        return queries.in_pages(lambda after, n: self.results(run_id, after, n, failed_only=failed_only), start, limit)

    def iter_attempts(self, run_id: str) -> Iterator[Attempt]:
        """Give a run's requests by example, in the order in which they were sent, with a page of them in memory."""
        return queries.attempts_in_pages(
            lambda after, n: self.ask(lambda db: queries.attempts(db, run_id, after, n), [])
        )

    def steps(self, run_id: str, after: int = 0, most: int | None = None) -> list[StepRow]:
        """Return the finished steps of a durable workflow after the first so many, in the order in which they ended.

        Args:
            run_id: the run.
            after: see above.
            most: only so many bytes of what each gave; None: all.
        """
        return self.ask(lambda db: queries.steps(db, run_id, after, most), [])

    def standing(self, run_id: str) -> tuple[str, str | None, int] | None:
        """Return a run's state, the reason for it, and how often it was opened; None where there is no run."""
        return self.ask(lambda db: queries.standing(db, run_id), None)

    def parts_of(self, run_id: str) -> list[Part]:
        """Return the runs that belong to a run, as those of an optimisation's steps do, in figures."""
        return self.ask(lambda db: queries.parts_of(db, run_id), [])

    def events(self, *, after: int = 0, limit: int = 1000) -> list[EventRow]:
        """Return events with a number above `after`, oldest first."""
        return self.ask(lambda db: queries.events(db, after, limit), [])

    def latency_percentiles(self, run_id: str, points: tuple[float, ...]) -> list[float] | None:
        """Return the latencies (seconds) at `points` (0 to 1, ascending); None where nothing has one."""
        return self.ask(lambda db: queries.percentiles(db, run_id, points), None)

    def by_node(self, run_id: str) -> dict[str, dict[str, Any]]:
        """Return what each node has done of a run, by its name.

        Returns:
            `done` examples, of these `failed`; `asked` LM calls and their `cost` in dollars, as far as it is known;
            mean `latency` of an example in seconds, and what half (`p50`) and 95 % of them (`p95`) took at most; None
            where there is none.
        """
        return self.ask(lambda db: queries.by_node(db, run_id), {})

    def hedged(self, run_id: str) -> dict[str, Any]:
        """Return what was started a second time, because it took a worker far longer than usual.

        Returns:
            `examples` of which anything was asked then; `asked` LM calls of these second starts and their `cost` in
            dollars, None where that of one is not known. Both are in the figures of the run.
        """
        return self.ask(lambda db: queries.hedged(db, run_id), {"examples": 0, "asked": 0, "cost": 0.0})

    def error_groups(self, run_id: str, limit: int = 20) -> list[ErrorGroup]:
        """Return the run's errors by type, most frequent first."""
        return self.ask(lambda db: queries.error_groups(db, run_id, limit), [])

    def spent(self, since: int = 0, columns: Sequence[str] = ()) -> list[Spent]:
        """Return what was paid from an hour (since 1970) on, told apart by these columns of `spend.KEY_COLUMNS`."""
        return self.ask(lambda db: spent(db, since, columns), [])

    def check(self) -> None:
        """Read the whole file and check it, also while its writer writes.

        Raises:
            JournalCorrupt: something does not fit; says what.
        """
        problem = self.ask(lambda db: str(db.execute("PRAGMA integrity_check(1)").fetchone()[0]), "ok")
        if problem != "ok":
            raise corrupt(self.path, f"is damaged ({' '.join(problem.split())[:200]})")

    def ask(self, question: Callable[[sqlite3.Connection], T], empty: T) -> T:
        """Put a question to the open journal: all of its answer is of one moment; `empty` where there is none."""

        def checked(db: sqlite3.Connection) -> T:
            queries.check_schema(self.path, db)
            return empty if version_of(db) == 0 else question(db)

        with translated(self.path):
            return ask(self.path, checked, empty)


def find_journals(home: str | os.PathLike[str]) -> list[Path]:
    """Return the journals under a DSPEX_HOME: the daemon's, then those of embedded nodes, by name.

    Args:
        home: the data folder; it need not exist.
    """
    root = Path(home)
    embedded = sorted(root.glob("embedded/*/journal.db"))
    return [path for path in (root / JOURNAL_FILE, *embedded) if path.is_file()]
