"""What every writer of a journal does, whatever keeps its tables (`writer.Journal`: a file of SQLite).

What a method has acknowledged (it returned) is on the disk. A batch of results and the run's counters change in one
transaction: the counters are always those of the rows that are there. So does the number that every change of a run
gets (`seq`), by which a copy catches up, and so is a writer refused that the run no longer belongs to.
"""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dspex_actors.errors import ConfigError, DspexError
from dspex_actors.foundation.indexset import IndexSet
from dspex_actors.journal import log, queries, spend
from dspex_actors.journal.appending import write_batch
from dspex_actors.journal.errors import Fenced, NotHere
from dspex_actors.journal.records import STATES, EventRow, Part, ResultRow, RunRow, RunSpec, RunState
from dspex_actors.journal.sameness import check_goes_on, check_same
from dspex_actors.journal.schema import (
    INSERT_RUN,
    UPDATE_IDENTITY,
    UPDATE_RUN,
    Values,
    attempt_values,
    check_indices,
    going_on_values,
    identity_values,
    spec_values,
    to_json,
    values_of_result,
)
from dspex_actors.journal.store import UNNUMBERED, Appended, Batch, LogEntry
from dspex_actors.lm.attempts import Attempt

#: The setting by which results are read, and not made.
_READ = "failure_score"


class JournalBase:
    """Write a journal. Safe to use from several threads, one call at a time.

    Args:
        clock: wall-clock seconds since 1970.
        owner: who writes, as a lease names its holder: a run that another one has is not changed. Empty: a node alone.
    """

    def __init__(self, clock: Callable[[], float] = time.time, owner: str = "") -> None:
        """Follow no run; whoever derives from this opens its tables."""
        self.owner = owner
        self._clock = clock
        self._lock = threading.RLock()
        self._followed: dict[str, RunRow] = {}  # as they are now: somebody asks for their progress
        self._trouble_since: float | None = None

    #: Whether the journal is asked over a network.
    is_far = False
    #: Whether runs that were claimed belong to who has their lease: a cluster in which each node has its own journal.
    is_leased = False
    #: The file in the node's data folder that is the journal, or says where it is.
    path: Path

    @abstractmethod
    def transaction(self, *, adds: bool = False) -> AbstractContextManager[Any]:
        """Change something, all or nothing, locked; `adds`: only results, to the run that is followed."""

    @abstractmethod
    def reading(self) -> AbstractContextManager[Any]:
        """Read something, locked."""

    @abstractmethod
    def check(self) -> None:
        """Read everything and check it.

        Raises:
            JournalCorrupt: something does not fit; says what.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the journal."""

    @abstractmethod
    def check_there(self) -> None:
        """Raise the DspexError that says why what is written would not be kept; waits for no other call."""

    def trouble(self) -> tuple[str, float] | None:
        """Return why the journal cannot be used, and since when that is known (seconds since 1970); None: it can."""
        try:
            self.check_there()
        except DspexError as error:
            self._trouble_since = self._trouble_since or self._clock()
            return error.message, self._trouble_since
        self._trouble_since = None
        return None

    def __enter__(self) -> Self:
        """Return the journal."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Close the journal."""
        self.close()

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
        with self.transaction() as db:
            found = queries.run(db, spec.run_id)
            if found is None:
                now = self._clock()
                running = now if state == "running" else None
                db.execute(
                    INSERT_RUN + " ON CONFLICT (run_id) DO NOTHING",
                    (*spec_values(spec), _checked(state), now, running, running, self.owner),
                )
                found = _run(db, spec.run_id)
            check_same(found.spec, spec, force=force)
            check_goes_on(found, force=force)
            if found.state not in ("running", "finished"):
                log.change(db, spec.run_id, self.owner)
                db.execute(UPDATE_RUN, (*going_on_values(spec), spec.run_id))
                if force:
                    db.execute(UPDATE_IDENTITY, (*identity_values(spec), spec.run_id))
                found = _run(db, spec.run_id)
            if found.state == "finished" and (read := spec.settings.get(_READ)) != found.spec.settings.get(_READ):
                settings = to_json(found.spec.settings | {_READ: read})
                db.execute("UPDATE runs SET settings = ?, seq = seq + 1 WHERE run_id = ?", (settings, spec.run_id))
                found = _run(db, spec.run_id)
            return found

    def set_dataset(self, run_id: str, descriptor: dict[str, Any], digest: str | None, parts: dict[str, str]) -> None:
        """Have a run go on with what its dataset is now.

        Args:
            run_id: the run.
            descriptor: opens the dataset.
            digest: identity of its content.
            parts: what of it is kept for people.
        """
        with self.transaction() as db:
            log.change(db, run_id, self.owner)
            identity = _run(db, run_id).spec.identity
            text = None if identity is None else to_json(identity | {"dataset": parts})
            db.execute(
                "UPDATE runs SET dataset = ?, dataset_digest = ?, identity = ? WHERE run_id = ?",
                (to_json(descriptor), digest, text, run_id),
            )

    def add_results(self, run_id: str, results: Iterable[ResultRow], attempts: Iterable[Attempt] = ()) -> int:
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
        return self.add_values(run_id, list(map(values_of_result, results)), list(map(attempt_values, attempts)))

    def add_values(self, run_id: str, results: Sequence[Values], attempts: Sequence[Values]) -> int:
        """Do what `add_results` does, for rows that are values by column already."""
        return self._append(run_id, None, UNNUMBERED, results, attempts).new

    def append(
        self, run_id: str, epoch: int, batch: Batch, results: Sequence[Values], attempts: Sequence[Values]
    ) -> Appended:
        """Write a batch of a run's evaluator, as `RunStore` has it."""
        return self._append(run_id, epoch, batch, results, attempts)

    def _append(
        self, run_id: str, epoch: int | None, batch: Batch, results: Sequence[Values], attempts: Sequence[Values]
    ) -> Appended:
        check_indices(results)
        check_indices(attempts)
        with self.transaction(adds=True) as db:
            try:
                held = log.hold(db, run_id, epoch)
            except Fenced:
                self._followed.pop(run_id, None)  # others change it now
                raise
            if log.is_there(held, batch) or not (results or attempts):
                return Appended(held.seq, 0)
            written = write_batch(db, held, batch, results, attempts)
            spend.book(db, run_id, written.attempts, written.replaced)
        if run_id in self._followed:
            self._followed[run_id] = written.tally.added_to(self._followed[run_id], held.seq + 1)
        return Appended(held.seq + 1, len(written.results))

    def claim(self, run_id: str, epoch: int, owner: str) -> RunRow:
        """Take a run over, as `RunStore` has it."""
        with self.transaction() as db:
            log.claim(db, run_id, epoch, owner)
            return _run(db, run_id)

    def has(self, row: RunRow) -> bool:
        """Whether a run is this node's, or nobody's."""
        return row.owner in ("", self.owner)

    def take_over(self, row: RunRow, *, force: bool) -> RunRow:
        """Have a run go on here that another node of the same journal has left; one that is finished stays as it is.

        Args:
            row: the run.
            force: take it also from a node that has it running, which then writes it no more.

        Raises:
            NotHere: it is running there.
        """
        if self.has(row) or row.state == "finished":
            return row
        if row.state == "running" and not force:
            raise NotHere(
                f"run {row.run_id} is running on another node of this journal: pause it there, or, if that one is "
                f"gone, take it with `dspex runs resume {row.run_id} --force-resume`"
            )
        return self.claim(row.run_id, row.claimed + 1, self.owner)

    def log_since(self, run_id: str, seq: int, limit: int = 100) -> list[LogEntry]:
        """Return at most `limit` batches with a number above `seq`, by number."""
        with self.reading() as db:
            return log.since(db, run_id, seq, limit)

    def pay(self, worker: str, batch: int, paid: Sequence[Values], now: float) -> None:
        """Add what a worker has paid outside of runs; a batch that comes twice counts once.

        Args:
            worker: which one; another process is another worker.
            batch: its number, from 1.
            paid: as `journal.spend.Sums.take` gives it.
            now: wall-clock seconds since 1970.
        """
        with self.transaction(adds=True) as db:
            spend.add_batch(db, worker, batch, paid, now)

    def set_state(self, run_id: str, state: RunState, reason: str | None = None) -> RunRow:
        """Change a run's state, and account for the time it was running.

        A finished run stays finished: a pause that was under way when the last result came in is too late.

        Args:
            run_id: the run.
            state: the new one.
            reason: why, for people; shown for a paused or failed run.
        """
        _checked(state)
        with self.transaction() as db:
            row, now = _run(db, run_id), self._clock()
            if row.state == "finished":
                return row
            log.change(db, run_id, self.owner)
            active = row.active_seconds
            if row.running_since is not None:
                active += max(0.0, now - row.running_since)
            running = state == "running"
            db.execute(
                "UPDATE runs SET state = ?, reason = ?, active_seconds = ?, running_since = ?, ended_at = ?, "
                "started_at = coalesce(started_at, ?) WHERE run_id = ?",
                (state, reason, active, now if running else None,
                 None if state in ("running", "paused") else now, now if running else None, run_id),
            )  # fmt: skip
            return _run(db, run_id)

    def next_epoch(self, run_id: str) -> RunRow:
        """Count that another evaluator opens the run, and return it."""
        with self.transaction() as db:
            log.change(db, run_id, self.owner)
            db.execute("UPDATE runs SET epoch = epoch + 1, batch = 0 WHERE run_id = ?", (run_id,))
            return _run(db, run_id)

    def set_total(self, run_id: str, total: int) -> None:
        """Write down the number of examples, once the dataset has been read to its end."""
        with self.transaction() as db:
            log.change(db, run_id, self.owner)
            db.execute("UPDATE runs SET total = ? WHERE run_id = ?", (total, run_id))

    def pause_interrupted(self, reason: str) -> list[str]:
        """Turn every run that a node left behind as running into a paused one; call it at the node's start.

        Its running time ends with its last result, or that of its parts: nobody knows when the node died.

        Returns:
            The ids of those runs, oldest first; those of other owners, or under leases, go on by themselves.
        """
        with self.transaction() as db:
            rows = [row for row in queries.runs(db, state="running") if self.has(row)]
            ids = [row.run_id for row in rows if not (self.is_leased and row.claimed)]
            seconds = {row.run_id: queries.seconds_up_to_last(db, row) for row in rows}
            db.executemany(
                "UPDATE runs SET state = 'paused', reason = ?, running_since = NULL, seq = seq + 1, "
                "active_seconds = active_seconds + ? WHERE run_id = ?",
                [(reason, seconds[run_id], run_id) for run_id in ids],
            )
        return ids[::-1]

    def add_event(self, kind: str, data: dict[str, Any]) -> int:
        """Write down that something happened; return the event's number."""
        with self.transaction() as db:
            found = db.execute(
                "INSERT INTO events (at, kind, data) VALUES (?, ?, ?) RETURNING number",
                (self._clock(), kind, to_json(data)),
            )
            return int(found.fetchall()[0][0])

    def delete_run(self, run_id: str) -> bool:
        """Remove a run and its results; return whether it was there."""
        with self.transaction() as db:
            if queries.run(db, run_id) is None:
                return False
            log.change(db, run_id, self.owner)
            queries.delete(db, queries.number_and_base(db, run_id)[0])
            return True

    def get_run(self, run_id: str) -> RunRow | None:
        """Return the run, None where there is none."""
        with self.reading() as db:
            return queries.run(db, run_id)

    def parts_of(self, run_id: str) -> list[Part]:
        """Return the runs that belong to a run, in figures."""
        with self.reading() as db:
            return queries.parts_of(db, run_id)

    def follow_run(self, run_id: str) -> RunRow | None:
        """Do what `get_run` does; a run that is asked for again and again is not read each time."""
        if (followed := self._followed.get(run_id)) is not None:
            return followed
        found = self.get_run(run_id)
        if found is not None and self.has(found):
            self._followed[run_id] = found
        return found

    def list_runs(self, *, state: RunState | None = None, limit: int = 1000) -> list[RunRow]:
        """Return the runs, newest first."""
        with self.reading() as db:
            return list(queries.runs(db, state=state, limit=limit))

    def done_indices(self, run_id: str) -> IndexSet:
        """Return the indices that have a result, one bit each."""
        with self.reading() as db:
            return queries.done(db, run_id)

    def iter_results(self, run_id: str, start: int = 0, limit: int | None = None) -> Iterator[ResultRow]:
        """Give results in input order, from index `start` on, page by page."""
        yield from queries.in_pages(lambda after, n: self._page(run_id, after, n), start, limit)

    def events(self, *, after: int = 0, limit: int = 1000) -> list[EventRow]:
        """Return events with a number above `after`, oldest first."""
        with self.reading() as db:
            return queries.events(db, after, limit)

    def _page(self, run_id: str, start: int, limit: int) -> list[ResultRow]:
        with self.reading() as db:
            return queries.results(db, run_id, start, limit)


def _run(db: Any, run_id: str) -> RunRow:
    found = queries.run(db, run_id)
    if found is None:
        raise queries.no_such_run(run_id)
    return found


def _checked(state: str) -> str:
    if state not in STATES:
        raise ConfigError(f"a run's state is one of {', '.join(STATES)}; got {state!r}")
    return state
