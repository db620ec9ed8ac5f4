"""An optimisation and the runs of its steps, in a cluster whose nodes have each their own journal: one family.

They have one lease, and are claimed together: who goes on with the optimisation needs all of them. A run of its own is
a family of one.
"""

from __future__ import annotations

from typing import Any

from dspex_actors.journal import log, queries
from dspex_actors.journal.base import JournalBase
from dspex_actors.journal.records import RunRow
from dspex_actors.journal.sameness import is_nodes_own
from dspex_actors.journal.steps import await_next

#: Why a run of an optimisation is paused that another node had under way.
ELSEWHERE = "its optimisation goes on at another node"


def head_of(journal: JournalBase, row: RunRow) -> str:
    """Return the id of the run whose lease holds for a run: of a node's optimisation for the runs of its steps."""
    parent = None if row.spec.parent_id is None else journal.get_run(row.spec.parent_id)
    return row.run_id if parent is None or not is_nodes_own(parent.spec) else parent.run_id


def rest_of(journal: JournalBase, row: RunRow) -> list[RunRow]:
    """Return the runs that a run's lease holds for, beside it, oldest first."""
    if not is_nodes_own(row.spec):
        return []
    found = (journal.get_run(part.run_id) for part in journal.parts_of(row.run_id))
    return [part for part in found if part is not None]


def claim_family(journal: JournalBase, row: RunRow, epoch: int, owner: str) -> RunRow:
    """Claim a run and those that its lease holds for, all or nothing; return it.

    What another owner had under way of these is paused until it is asked for; a finished one stays as it is.

    Args:
        journal: a node's own.
        row: the run.
        epoch: of its lease.
        owner: who claims it.

    Raises:
        Fenced: somebody has claimed one of them with this epoch or a greater one.
    """
    rest = [part for part in rest_of(journal, row) if part.state != "finished"]
    with journal.transaction() as db:
        if is_nodes_own(row.spec):
            log.enter_steps(db, row.run_id)
            if row.state == "running" and row.owner != owner:
                await_next(db, row.run_id)
        log.claim(db, row.run_id, epoch, owner)
        for part in rest:
            log.claim(db, part.run_id, epoch, owner)
            if part.state == "running" and part.owner != owner:
                _pause(db, part)
        claimed = queries.run(db, row.run_id)
    assert claimed is not None
    return claimed


def check_head(journal: JournalBase, parent_id: str | None, epoch: int) -> None:
    """Refuse a run of an optimisation that comes from a coordinator of before.

    The run may be new here, so that nothing of its own says who has it.

    Args:
        journal: a node's own.
        parent_id: what the run is a step of; None: of nothing.
        epoch: of the coordinator.

    Raises:
        Fenced: another one has claimed the optimisation here with a greater epoch.
    """
    if parent_id is None:
        return
    with journal.reading() as db:
        head = queries.run(db, parent_id, code=False)
    if head is not None and is_nodes_own(head.spec) and epoch < head.claimed:
        raise log.fenced(head.run_id, epoch, head.claimed)


def leave_parts(db: Any, run_id: str, claimed: int) -> None:
    """Pause, in the copy of an optimisation, what a coordinator of before had under way; in the caller's transaction.

    What the present one has not claimed it does not know: nobody goes on with it, or ends it, unless it is made again.
    Its number stays: only a coordinator gives numbers.
    """
    db.execute(
        "UPDATE runs SET state = 'paused', reason = ?, running_since = NULL "
        "WHERE parent_id = ? AND state = 'running' AND claimed < ?",
        (ELSEWHERE, run_id, claimed),
    )


def _pause(db: Any, row: RunRow) -> None:
    """Pause a run whose node is gone: it was running until its last result, as far as anybody knows."""
    db.execute(
        "UPDATE runs SET state = 'paused', reason = ?, running_since = NULL, seq = seq + 1, "
        "active_seconds = active_seconds + ? WHERE run_id = ?",
        (ELSEWHERE, queries.seconds_up_to_last(db, row), row.run_id),
    )
