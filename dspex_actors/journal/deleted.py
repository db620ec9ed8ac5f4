"""Runs that were deleted, of which other nodes may have copies: written down for those that are away.

A run is told from another one of its name by when it was created.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from dspex_actors.journal import queries
from dspex_actors.journal.base import JournalBase
from dspex_actors.journal.schema import from_json, to_json

#: The kind of such an event.
DELETED = "run_deleted"
#: It is forgotten after so many days: who was away for longer keeps its copies.
KEPT_DAYS = 90
#: So many are told at once.
MOST = 1000


class Deleted(NamedTuple):
    """A run that was deleted; `number`: of the event in the journal of whoever says so."""

    number: int
    run_id: str
    created_at: float


def delete_copy(journal: JournalBase, run_id: str, created_at: float, at: float) -> bool:
    """Remove a run whoever coordinated it, and have it written down; return whether it was there.

    Args:
        journal: a node's own.
        run_id: the run.
        created_at: when it was created: another run of its name stays.
        at: now, by the wall clock.
    """
    data = to_json({"run_id": run_id, "created_at": created_at})
    with journal.transaction() as db:
        if db.execute("SELECT 1 FROM events WHERE kind = ? AND data = ?", (DELETED, data)).fetchone() is None:
            db.execute("INSERT INTO events (at, kind, data) VALUES (?, ?, ?)", (at, DELETED, data))
        found = db.execute("SELECT created_at FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        if found is None or found[0] != created_at:
            return False
        queries.delete(db, queries.number_and_base(db, run_id)[0])
        return True


def deleted_after(journal: JournalBase, number: int) -> list[Deleted]:
    """Return what was deleted behind the event of a number, oldest first."""
    with journal.reading() as db:
        found = db.execute(
            "SELECT number, data FROM events WHERE kind = ? AND number > ? ORDER BY number LIMIT ?",
            (DELETED, number, MOST),
        ).fetchall()
    told: list[tuple[int, dict[str, Any]]] = [(number, from_json(data)) for number, data in found]
    return [Deleted(number, data["run_id"], data["created_at"]) for number, data in told]


def forget_deleted(journal: JournalBase, at: float) -> None:
    """Let go of what was deleted long before `at`; not of the last, whose number is not to be given again."""
    with journal.transaction() as db:
        db.execute(
            "DELETE FROM events WHERE kind = ? AND at < ? AND number < (SELECT max(number) FROM events)",
            (DELETED, at - KEPT_DAYS * 86_400.0),
        )
