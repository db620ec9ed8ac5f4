# ruff: noqa: S608 - only constants of this package are put into SQL text; values are always bound
"""A run's copy in the journal of another node: how far it is, what it lacks, and taking that in.

A copy has the number of the last change that it has, and the epoch of that number. Where both are the same in two
journals, so is everything up to there: within an epoch one coordinator gives the numbers. What is behind it comes as
batches, as the evaluator made them, or, where those are not in memory any more, by the log, in portions. Whoever
takes something in compares first whether its copy is as it was thought to be: what comes late, twice, or from a
coordinator of before, does nothing.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dspex_actors.journal import log, queries
from dspex_actors.journal.appending import write_batch
from dspex_actors.journal.base import JournalBase
from dspex_actors.journal.errors import JournalError
from dspex_actors.journal.family import leave_parts
from dspex_actors.journal.migrations import INDEX_BITS, MAX_INDEX
from dspex_actors.journal.rows import packed_rows, unpacked_rows
from dspex_actors.journal.sameness import HELD, OPTIMISE, WORKFLOW
from dspex_actors.journal.schema import ATTEMPT_COLUMNS, RESULT_COLUMNS, RUN_COLUMNS, Values, insert, span
from dspex_actors.journal.store import Batch, LogEntry
from dspex_actors.journal.tally import Tally

#: About so many rows are in a portion.
ROWS = 1000
#: Of a step so many bytes count as a row.
ROW_BYTES = 1024
#: Why a copy is no whole one: more of it is on its way.
UNFINISHED = "its copy on this node is not finished"
_COLUMNS = (*RUN_COLUMNS, "batch")
#: Of the run's row what is not sent again and again.
_CODE = ("program", "metric")
_STATE = _COLUMNS.index("state")
_STEP_COLUMNS = f"place, {queries.STEP_COLUMNS}"
_AT_ONCE = 500


class Stand(NamedTuple):
    """How far a copy is; a journal without the run is at number 0.

    Args:
        seq: the number of its last change.
        epoch: that the run had at this number; 0: nobody had claimed it.
        created_at: of the run: another run of that name is none of its copies.
        claimed: the epoch of the coordinator that it was claimed by last.
        is_whole: whether its counters are of that number too.
    """

    seq: int = 0
    epoch: int = 0
    created_at: float = 0.0
    claimed: int = 0
    is_whole: bool = True


@dataclass(frozen=True, slots=True)
class Portion:
    """What a copy lacks, by the log: changes, their rows, and the run's row as it is.

    Args:
        seq: the number that the copy has with it.
        entries: number, epoch, opening, batch, results, attempts of each; the last two None for a claim.
        rows: of all entries.
        run: the run's row; None for its program and metric: they are there.
        is_last: whether nothing was behind it.
        steps: those of a workflow or an optimisation whose places the entries have.
    """

    seq: int
    entries: list[list[Any]]
    rows: bytes
    run: list[Any]
    is_last: bool
    steps: list[list[Any]] = field(default_factory=list)


def stand_of(journal: JournalBase, run_id: str, seq: int | None = None) -> Stand:
    """Return how far a run is in a journal, or what it was at a number that it is beyond."""
    with journal.reading() as db:
        return _stand(db, run_id, seq)


def _stand(db: Any, run_id: str, seq: int | None = None) -> Stand:
    found = db.execute(
        "SELECT number, seq, created_at, claimed, reason FROM runs WHERE run_id = ?", (run_id,)
    ).fetchone()
    if found is None:
        return Stand()
    number, at, created_at, claimed, reason = found
    at = at if seq is None else seq
    return Stand(at, log.epoch_at(db, number, at), created_at, claimed, not (reason or "").startswith(UNFINISHED))


def portion_after(journal: JournalBase, run_id: str, seq: int, *, code: bool = True) -> Portion:
    """Return what is behind a number, about `ROWS` rows of it.

    Args:
        journal: that has the run.
        run_id: the run.
        seq: the number; 0: all from the beginning.
        code: with program and metric, which may be much.
    """
    with journal.reading() as db:
        number, base = queries.number_and_base(db, run_id)
        run = list(db.execute(f"SELECT {', '.join(_COLUMNS)} FROM runs WHERE number = ?", (number,)).fetchone())
        if not code:
            for name in _CODE:
                run[_COLUMNS.index(name)] = None
        sizes = _sizes_of_steps(db, number) if run[_COLUMNS.index("kind")] in HELD else None
        entries: list[LogEntry] = []
        count, is_last = 0, True
        for entry in log.since(db, run_id, seq, ROWS):
            rows = (
                len(entry.results) + len(entry.attempts)
                if sizes is None
                else sum(sizes.get(place, 0) for place in entry.results)
            )
            if entries and count + rows > 2 * ROWS:
                is_last = False
                break
            entries.append(entry)
            count += rows
        is_last = is_last and len(entries) < ROWS
        told = {index for one in entries for index in one.results}
        steps = [] if sizes is None else _steps(db, number, told)
        results = [] if sizes is not None else _rows(db, "results", RESULT_COLUMNS, base, told)
        attempts = _rows(db, "attempts", ATTEMPT_COLUMNS, base, {index for one in entries for index in one.attempts})
    plain = [
        [
            one.seq,
            one.epoch,
            *one.batch,
            *((None, None) if one.is_claim else (_bytes(one.results), _bytes(one.attempts))),
        ]
        for one in entries
    ]
    last = run[_COLUMNS.index("seq")] if is_last else entries[-1].seq
    return Portion(last, plain, packed_rows(results, attempts), run, is_last, steps)


def take_batch(journal: JournalBase, run_id: str, epoch: int, seen: Stand, batch: Batch, packed: bytes) -> Stand:
    """Write a batch into a copy; on the disk when it returns.

    Args:
        journal: that has the copy.
        run_id: the run.
        epoch: of the coordinator that sends it.
        seen: how far the copy is thought to be.
        batch: which batch of its evaluator.
        packed: its rows.

    Returns:
        How far the copy is now.

    Raises:
        Fenced: the run was claimed with a greater epoch.
    """
    results, attempts = unpacked_rows(packed)
    with journal.transaction(adds=True) as db:
        stand = _stand(db, run_id)
        _check(run_id, epoch, stand)
        if stand[:3] != seen[:3] or not stand.is_whole or stand.claimed != epoch:
            return stand
        held = log.hold(db, run_id, epoch)
        write_batch(db, held, batch, results, attempts)
        return stand._replace(seq=held.seq + 1)


def take_portion(
    journal: JournalBase, run_id: str, epoch: int, seen: Stand, portion: Portion, *, anew: bool = False
) -> Stand:
    """Write a portion into a copy, as `take_batch` writes a batch; the first one makes the copy.

    Args:
        journal: that has the copy.
        run_id: the run.
        epoch: of the coordinator that sends it.
        seen: how far the copy is thought to be.
        portion: what it lacks.
        anew: whether what the copy has is another content, and is dropped first.
    """
    with journal.transaction() as db:
        stand = _stand(db, run_id)
        _check(run_id, epoch, stand)
        if stand[:3] != seen[:3]:
            return stand
        if anew and stand != Stand():
            queries.delete(db, queries.number_and_base(db, run_id)[0])
        values = list(portion.run)
        values[_COLUMNS.index("seq")] = portion.seq
        if not portion.is_last:
            values[_COLUMNS.index("reason")] = UNFINISHED
            if values[_STATE] == "finished":
                values[_STATE] = "paused"  # else it would be answered from, by what is there of it
        if anew or stand == Stand():
            marks = ", ".join("?" * len(_COLUMNS))
            db.execute(f"INSERT INTO runs ({', '.join(_COLUMNS)}) VALUES ({marks})", values)
        else:
            names = ", ".join(f"{name} = coalesce(?, {name})" if name in _CODE else f"{name} = ?" for name in _COLUMNS)
            db.execute(f"UPDATE runs SET {names} WHERE run_id = ?", (*values, run_id))
        number, base = queries.number_and_base(db, run_id)
        results, attempts = unpacked_rows(portion.rows)
        db.executemany(insert("results", RESULT_COLUMNS, base), results)
        db.executemany(insert("attempts", ATTEMPT_COLUMNS, base, instead="REPLACE"), attempts)
        if values[_COLUMNS.index("kind")] in HELD:
            _take_steps(db, number, portion, values[_COLUMNS.index("done")])
        if values[_COLUMNS.index("kind")] == OPTIMISE:
            leave_parts(db, run_id, values[_COLUMNS.index("claimed")])
        db.executemany(log.INSERT, [(number, *entry) for entry in portion.entries])
        return _stand(db, run_id)


def parent_of(portion: Portion) -> str | None:
    """Return the run that the run of a portion is a step of; None: of none."""
    parent: str | None = portion.run[_COLUMNS.index("parent_id")]
    return parent


def check_order(journal: JournalBase, run_id: str, before: Batch) -> None:
    """Refuse a batch as long as the one before it is not there: of two, the later number would hide the other.

    Args:
        journal: the journal.
        run_id: the run.
        before: the batch that must be there; number 0: none.

    Raises:
        JournalError: it is not.
    """
    if not before.number:
        return
    with journal.reading() as db:
        found = db.execute("SELECT epoch, batch FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    if found is not None and found[0] == before.opening and found[1] < before.number:
        raise JournalError(f"batch {before.number} of the run is to be written first")


class Leased(NamedTuple):
    """A run that goes on somewhere, under a lease, as a journal has it."""

    run_id: str
    kind: str
    owner: str


def leased_runs(journal: JournalBase) -> list[Leased]:
    """Return the runs of a journal that go on under a lease of their own, here or elsewhere."""
    with journal.reading() as db:
        found = db.execute(  # runs of steps go on where their optimisation is
            "SELECT run_id, kind, owner FROM runs WHERE state = 'running' AND claimed > 0 AND coalesce(parent_id, '') "
            "NOT IN (SELECT run_id FROM runs WHERE kind = ? AND claimed > 0)",
            (OPTIMISE,),
        )
        return [Leased(*row) for row in found]


def stale_runs(journal: JournalBase) -> list[tuple[str, str]]:
    """Return the runs under leases of a journal that do not go on, and whose end is not there: it may be elsewhere.

    With each comes the run whose lease it is: for the steps of an optimisation that.
    """
    with journal.reading() as db:
        found = db.execute(
            "SELECT runs.run_id, coalesce(head.run_id, runs.run_id) FROM runs LEFT JOIN runs AS head "
            "ON head.run_id = runs.parent_id AND head.kind = ? AND head.claimed > 0 "
            "WHERE runs.claimed > 0 AND runs.owner != '' AND runs.kind != ? "
            "AND (runs.state != 'running' OR coalesce(head.state, 'running') != 'running') "
            "AND (runs.state != 'finished' OR runs.reason = ?)",
            (OPTIMISE, WORKFLOW, UNFINISHED),
        )
        return [(run_id, head) for run_id, head in found]


def set_aside(journal: JournalBase, run_id: str, reason: str) -> None:
    """Pause a copy that nobody keeps in sync any more, and its parts: what it says would be wrong for ever.

    Its number stays: only the run's coordinator gives numbers. So does that it is not finished.
    """
    with journal.transaction() as db:
        db.execute(
            "UPDATE runs SET state = 'paused', running_since = NULL, "
            "reason = CASE WHEN reason = ? THEN reason ELSE ? END "
            "WHERE (run_id = ? OR parent_id = ?) AND state = 'running'",
            (UNFINISHED, reason, run_id, run_id),
        )


def make_whole(journal: JournalBase, run_id: str) -> None:
    """Have a run's counters be those of the rows that are there, where its copy was not finished."""
    with journal.transaction() as db:
        if _stand(db, run_id).is_whole:
            return
        number, base = queries.number_and_base(db, run_id)
        if db.execute("SELECT kind FROM runs WHERE number = ?", (number,)).fetchone()[0] in HELD:
            steps = "(SELECT count(*) FROM steps WHERE run = number)"
            db.execute(
                f"UPDATE runs SET done = {steps}, succeeded = {steps}, reason = NULL WHERE number = ?", (number,)
            )
            return
        names = ("done", "succeeded", "failed", "score_sum", "scored", "asked", "cost", "unpriced")
        zeros = ", ".join(f"{name} = 0" for name in names)
        db.execute(f"UPDATE runs SET {zeros}, usage = '{{}}', reason = NULL WHERE number = ?", (number,))
        seq, batch = db.execute("SELECT seq, batch FROM runs WHERE number = ?", (number,)).fetchone()
        for results in _pages(db, "results", RESULT_COLUMNS, base):
            Tally.of(results, []).add_to(db, number, seq, batch)
        for attempts in _pages(db, "attempts", ATTEMPT_COLUMNS, base):
            Tally.of([], attempts).add_to(db, number, seq, batch)


def _check(run_id: str, epoch: int, stand: Stand) -> None:
    if epoch < stand.claimed:
        raise log.fenced(run_id, epoch, stand.claimed)


def _rows(db: Any, table: str, names: Sequence[str], base: int, indices: Iterable[int]) -> list[Values]:
    keys = sorted(base | index for index in indices)
    found: list[Values] = []
    for at in range(0, len(keys), _AT_ONCE):
        some = keys[at : at + _AT_ONCE]
        marks = ", ".join("?" * len(some))
        rows = db.execute(f"SELECT {', '.join(names)} FROM {table} WHERE key IN ({marks})", some)
        found += [[key & MAX_INDEX, *values] for key, *values in rows]
    return found


def _sizes_of_steps(db: Any, number: int) -> dict[int, int]:
    """Return of each step of a run, by its place, how many rows it counts as."""
    found = db.execute("SELECT place, length(data) FROM steps WHERE run = ?", (number,))
    return {place: 1 + size // ROW_BYTES for place, size in found}


def _steps(db: Any, number: int, places: Iterable[int]) -> list[list[Any]]:
    told = ((number, place) for place in sorted(places))
    statement = f"SELECT {_STEP_COLUMNS} FROM steps WHERE run = ? AND place = ?"
    return [list(row) for one in told for row in db.execute(statement, one)]


def _take_steps(db: Any, number: int, portion: Portion, done: int) -> None:
    """Put steps in; those of a run that was begun anew under its name take the places of those before."""
    for step in portion.steps:
        db.execute("DELETE FROM steps WHERE run = ? AND (place = ? OR step = ?)", (number, *step[:2]))
        marks = ", ".join("?" * (1 + len(step)))
        db.execute(f"INSERT INTO steps (run, {_STEP_COLUMNS}) VALUES ({marks})", (number, *step))
    if portion.is_last:
        db.execute("DELETE FROM steps WHERE run = ? AND place >= ?", (number, done))


def _pages(db: Any, table: str, names: Sequence[str], base: int) -> Iterable[list[Values]]:
    cursor = db.execute(f"SELECT {', '.join(names)} FROM {table} WHERE key BETWEEN ? AND ?", span(base >> INDEX_BITS))
    while rows := cursor.fetchmany(_AT_ONCE):
        yield [list(row) for row in rows]


def _bytes(indices: Sequence[int]) -> bytes:
    return array("q", indices).tobytes()
