# ruff: noqa: S608 - only constants of this package are put into SQL text; values are always bound
"""The log of a run: a number for each change, the examples of each batch, and who may write.

An entry has no rows, only their examples (8 bytes each), or of a workflow or an optimisation the places of its steps:
the rows are in their tables, and a copy that catches up is given them from there. Changes of the run itself (its
state, its total) take a number and no entry: the run's row says all of it, and is sent with whatever is behind a copy's
number.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from dspex_actors.journal import queries
from dspex_actors.journal.errors import Fenced
from dspex_actors.journal.migrations import INDEX_BITS
from dspex_actors.journal.schema import Values
from dspex_actors.journal.store import Batch, LogEntry

_COLUMNS = "seq, epoch, opening, batch, results, attempts"
#: Puts an entry in.
INSERT = f"INSERT INTO log (run, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"


class Held(NamedTuple):
    """A run as it is locked for a batch."""

    number: int
    opening: int
    batch: int
    seq: int
    claimed: int

    @property
    def base(self) -> int:
        """The key of its index 0."""
        return self.number << INDEX_BITS


def hold(db: Any, run_id: str, epoch: int | None) -> Held:
    """Lock a run until the end of the transaction.

    Args:
        db: the journal, inside the caller's transaction.
        run_id: the run.
        epoch: the writer's; None: not compared.

    Raises:
        ConfigError: there is no such run.
        Fenced: it was claimed with another epoch.
    """
    found = db.execute(
        "SELECT number, epoch, batch, seq, claimed FROM runs WHERE run_id = ?" + queries.locking(db), (run_id,)
    ).fetchone()
    if found is None:
        raise queries.no_such_run(run_id)
    held = Held(*found)
    if epoch is not None and epoch != held.claimed:
        raise fenced(run_id, epoch, held.claimed)
    return held


def change(db: Any, run_id: str, owner: str) -> None:
    """Give a change of a run, not of its rows, its number; inside the caller's transaction.

    Raises:
        Fenced: the run belongs to another owner.
    """
    found = db.execute("SELECT owner FROM runs WHERE run_id = ?" + queries.locking(db), (run_id,)).fetchone()
    if found is None:
        raise queries.no_such_run(run_id)
    if found[0] not in ("", owner):
        raise Fenced(f"run {run_id} belongs to another node now; this one writes it no more")
    db.execute("UPDATE runs SET seq = seq + 1 WHERE run_id = ?", (run_id,))


def fenced(run_id: str, epoch: int, claimed: int) -> Fenced:
    """Return the error for a writer of another epoch."""
    return Fenced(
        f"run {run_id} belongs to the coordinator with epoch {claimed}; one with epoch {epoch} writes it no more"
    )


def is_there(held: Held, batch: Batch) -> bool:
    """Whether a batch of the present opening came before."""
    return batch.opening == held.opening and 0 < batch.number <= held.batch


def last_batch(held: Held, batch: Batch) -> int:
    """Return the last batch of the present opening, when this one is in."""
    return max(held.batch, batch.number) if batch.opening == held.opening else held.batch


def enter(db: Any, held: Held, batch: Batch, results: Sequence[Values], attempts: Sequence[Values]) -> None:
    """Write down that a batch is in, with the number behind the run's last; inside the caller's transaction."""
    values = (held.claimed, *batch, _packed(row[0] for row in results), _packed(row[0] for row in attempts))
    db.execute(INSERT, (held.number, held.seq + 1, *values))


def enter_steps(db: Any, run_id: str) -> None:
    """Write down which steps of a run there are that no entry has, if any; inside the caller's transaction.

    Those of one that was copied from another journal, or written by an earlier version, have none.
    """
    held = hold(db, run_id, None)
    known: set[int] = set()
    for (places,) in db.execute("SELECT results FROM log WHERE run = ? AND results IS NOT NULL", (held.number,)):
        known.update(_unpacked(places))
    there = {place for (place,) in db.execute("SELECT place FROM steps WHERE run = ?", (held.number,))}
    if there - known:
        enter(db, held, Batch(held.opening, 0), [[place] for place in there - known], [])
        db.execute("UPDATE runs SET seq = seq + 1 WHERE number = ?", (held.number,))


def claim(db: Any, run_id: str, epoch: int, owner: str) -> None:
    """Give a run to a coordinator; inside the caller's transaction.

    Raises:
        Fenced: another one has it, with this epoch or a greater one.
    """
    held = hold(db, run_id, None)
    there = db.execute("SELECT owner FROM runs WHERE number = ?", (held.number,)).fetchone()[0]
    if epoch < held.claimed or (epoch == held.claimed and there not in ("", owner)):
        raise fenced(run_id, epoch, held.claimed)
    if (epoch, owner) == (held.claimed, there):
        return
    seq = held.seq + 1
    db.execute("UPDATE runs SET claimed = ?, owner = ?, seq = ? WHERE number = ?", (epoch, owner, seq, held.number))
    if epoch > held.claimed:
        db.execute(INSERT, (held.number, seq, epoch, 0, 0, None, None))


def since(db: Any, run_id: str, seq: int, limit: int) -> list[LogEntry]:
    """Return at most `limit` entries with a number above `seq`, by number."""
    number, _ = queries.number_and_base(db, run_id)
    found = db.execute(
        f"SELECT {_COLUMNS} FROM log WHERE run = ? AND seq > ? ORDER BY seq LIMIT ?",
        (number, seq, limit),
    )
    return [_entry(*row) for row in found]


def epoch_at(db: Any, number: int, seq: int) -> int:
    """Return the epoch that a run had when it had this number; 0: nobody had claimed it."""
    found = db.execute(
        # Claims have no batch; with that said there is an index of nothing but them (`migrations.index_claims`).
        "SELECT epoch FROM log WHERE run = ? AND seq = "
        "(SELECT max(seq) FROM log WHERE run = ? AND batch = 0 AND seq <= ? AND results IS NULL)",
        (number, number, seq),
    ).fetchone()
    return 0 if found is None else int(found[0])


def _entry(seq: int, epoch: int, opening: int, batch: int, results: bytes | None, attempts: bytes | None) -> LogEntry:
    return LogEntry(seq, epoch, Batch(opening, batch), _unpacked(results), _unpacked(attempts), results is None)


def _packed(indices: Iterable[int]) -> bytes:
    return array("q", sorted(set(indices))).tobytes()


def _unpacked(packed: bytes | None) -> Sequence[int]:
    found = array("q")
    found.frombytes(packed or b"")
    return found
