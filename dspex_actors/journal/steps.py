# ruff: noqa: S608 - only constants of this package are put into SQL text; values are always bound
"""Durable workflows and optimisations in the journal: which process carries one out, and what its steps gave.

That process brings each step (of an optimisation: each candidate) as it ends. It says which opening of the run it
belongs to (`epoch`): after another one has opened it, what it still brings is refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from dspex_actors.errors import ConfigError
from dspex_actors.journal import log
from dspex_actors.journal.base import JournalBase
from dspex_actors.journal.errors import Fenced, NotHere
from dspex_actors.journal.queries import STEP_COLUMNS, locking, no_such_run, number_and_base, run
from dspex_actors.journal.records import RunRow, RunSpec, RunState, StepRow
from dspex_actors.journal.sameness import HELD, check_goes_on
from dspex_actors.journal.schema import from_json, to_json
from dspex_actors.journal.store import Batch

#: Whether the process that a holder names lives.
IsAlive = Callable[[dict[str, Any]], bool]


#: In the place of a process: the node goes on with it by another one, which is on its way.
_NEXT = {"node": True}
#: Of a holder: on which node it is, as the journal calls that.
_OWNER = "owner"
#: The kinds of runs that are meant here, for SQL.
_KINDS = f"({', '.join(repr(kind) for kind in sorted(HELD))})"


def open_workflow(
    journal: JournalBase, spec: RunSpec, holder: dict[str, Any], is_alive: IsAlive, *, force: bool = False
) -> RunRow:
    """Put a workflow in, or go on with the one that is there; it belongs to `holder` from now on.

    Args:
        journal: the journal.
        spec: of the workflow.
        holder: the process that carries it out.
        is_alive: whether the process that is written down as such carries it out still.
        force: go on with it also where it is another one, or was cancelled.

    Raises:
        ConfigError: it is another workflow, was cancelled, or is being carried out.
    """
    own(journal, spec.run_id)
    _check_free(journal, spec.run_id, is_alive)
    row = journal.create_run(spec, state="paused", force=force)
    return row if row.state == "finished" else _held_by(journal, spec.run_id, holder)


def reopen(journal: JournalBase, run_id: str, holder: dict[str, Any], is_alive: IsAlive) -> RunRow:
    """Go on with a run that is there, as it is; it belongs to `holder` from now on.

    Raises:
        ConfigError: there is none, it was cancelled, or is being carried out.
    """
    own(journal, run_id)
    _check_free(journal, run_id, is_alive)
    row = journal.get_run(run_id)
    if row is None:
        raise no_such_run(run_id)
    check_goes_on(row)
    return row if row.state == "finished" else _held_by(journal, run_id, holder)


def own(journal: JournalBase, run_id: str) -> None:
    """Have a workflow be this node's where another one that has the journal too has left it.

    Raises:
        NotHere: it is under way there.
    """
    row = journal.get_run(run_id)
    if row is None or journal.has(row):
        return
    if row.state == "running":
        raise NotHere(f"run {run_id} is under way on another node that has this journal: pause it there first")
    journal.take_over(row, force=False)


def set_limits(journal: JournalBase, run_id: str, limits: dict[str, Any]) -> None:
    """Have other settings hold for how a run goes on; None takes one away.

    Raises:
        ConfigError: there is no such run, or it is under way on another node.
        Fenced: another node has just claimed it.
    """
    own(journal, run_id)
    with journal.transaction() as db:
        log.change(db, run_id, journal.owner)
        row = run(db, run_id)
        if row is None:
            raise no_such_run(run_id)
        settings = {name: value for name, value in {**row.spec.settings, **limits}.items() if value is not None}
        db.execute("UPDATE runs SET settings = ? WHERE run_id = ?", (to_json(settings), run_id))


def await_next(db: Any, run_id: str) -> None:
    """Have a run that goes on belong to no process until one opens it; inside the caller's transaction."""
    db.execute("UPDATE runs SET holder = ? WHERE run_id = ?", (to_json(_NEXT), run_id))


def _check_free(journal: JournalBase, run_id: str, is_alive: IsAlive) -> None:
    there = _holder(journal, run_id)
    if there is not None and _is_here(journal, there) and is_alive(_process(there)):
        raise ConfigError(
            f"run {run_id} is being carried out by process {there['pid']}: wait for its end, or choose another run id"
        )


def _is_here(journal: JournalBase, holder: dict[str, Any]) -> bool:
    """Whether a holder is a process of this node's host: of another one nothing can be told by its number."""
    return holder.get(_OWNER, "") in ("", journal.owner)


def _process(holder: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in holder.items() if name != _OWNER}


def _held_by(journal: JournalBase, run_id: str, holder: dict[str, Any]) -> RunRow:
    journal.set_state(run_id, "running")
    with journal.transaction() as db:
        log.change(db, run_id, journal.owner)  # between the two another node may have claimed it
        held = to_json({**holder, _OWNER: journal.owner})
        db.execute("UPDATE runs SET holder = ? WHERE run_id = ?", (held, run_id))
    return journal.next_epoch(run_id)


def add_step(journal: JournalBase, run_id: str, epoch: int, row: StepRow) -> None:
    """Write a finished step down; one that is there already stays.

    Raises:
        ConfigError: the run belongs to another process now; or it was paused or cancelled meanwhile: then the step,
            which is paid for, is written down all the same.
    """
    with journal.transaction() as db:
        number, state, reason = _held(db, run_id, epoch, journal.owner)
        place = db.execute("SELECT count(*) FROM steps WHERE run = ?", (number,)).fetchone()[0]
        marks = ", ".join("?" * (2 + len(row)))
        statement = f"INSERT INTO steps (run, place, {STEP_COLUMNS}) VALUES ({marks}) ON CONFLICT DO NOTHING"
        added = db.execute(statement, (number, place, *row)).rowcount
        if added:
            held = log.hold(db, run_id, None)
            log.enter(db, held, Batch(held.opening, 0), [[place]], [])
        db.execute(
            "UPDATE runs SET done = done + ?, succeeded = succeeded + ?, last_result_at = ?, seq = seq + 1 "
            "WHERE number = ?",
            (added, added, row.at, number),
        )
    if state != "running":
        then = "choose another run id" if state == "cancelled" else f"resume it with run_id={run_id!r}"
        raise ConfigError(f"run {run_id} is {state} ({reason or 'no reason was given'}): {then}")


def begin_anew(journal: JournalBase, run_id: str) -> None:
    """Forget the steps of a run that goes on as another one; those of one that is finished stay.

    Raises:
        Fenced: it is another node's.
    """
    with journal.transaction() as db:
        row = run(db, run_id)
        if row is not None and row.state != "finished":
            log.change(db, run_id, journal.owner)
            number, _ = number_and_base(db, run_id)
            db.execute("DELETE FROM steps WHERE run = ?", (number,))
            db.execute("UPDATE runs SET done = 0, succeeded = 0 WHERE number = ?", (number,))


def end_workflow(journal: JournalBase, run_id: str, epoch: int, state: RunState, reason: str | None) -> None:
    """Take in that the process is through with a workflow; what was decided about it meanwhile stays.

    With the state "running" another process of the node goes on with it.

    Raises:
        ConfigError: it belongs to another process now.
    """
    with journal.transaction() as db:
        number, there, _ = _held(db, run_id, epoch, journal.owner)
    if there == "running" or state == "finished":
        journal.set_state(run_id, state, reason)
    # After the state: who is killed in between has not left a run that is under way and nobody's.
    left = to_json(_NEXT) if state == "running" else None
    with journal.transaction() as db:
        db.execute(
            "UPDATE runs SET holder = ?, seq = seq + 1 WHERE number = ? AND epoch = ? AND owner IN ('', ?)",
            (left, number, epoch, journal.owner),
        )


def _held(db: Any, run_id: str, epoch: int, owner: str) -> tuple[int, str, str | None]:
    """Lock a run of this opening; another node that has claimed it need not have opened it yet."""
    number, _ = number_and_base(db, run_id)
    state, reason, there, owned = db.execute(
        "SELECT state, reason, epoch, owner FROM runs WHERE number = ?" + locking(db), (number,)
    ).fetchone()
    if there != epoch or owned not in ("", owner):
        raise ConfigError(f"run {run_id} was taken over by another process")
    return number, state, reason


def _holder(journal: JournalBase, run_id: str) -> dict[str, Any] | None:
    """Return the process that carries a running workflow out, None where none does."""
    with journal.transaction() as db:
        found = db.execute(
            f"SELECT holder FROM runs WHERE run_id = ? AND kind IN {_KINDS} AND state = 'running'", (run_id,)
        ).fetchone()
    holder = None if found is None or found[0] is None else from_json(found[0])
    return None if holder == _NEXT else holder


def forsaken(journal: JournalBase, is_alive: IsAlive) -> list[str]:
    """Pause this node's running workflows whose process has ended; return the ids of those that go on."""
    going_on = []
    with journal.transaction() as db:
        rows = db.execute(
            f"SELECT run_id, holder FROM runs WHERE state = 'running' AND kind IN {_KINDS} AND owner IN ('', ?)",
            (journal.owner,),
        ).fetchall()
    for run_id, holder in rows:
        if holder is not None and is_alive(_process(from_json(holder))):
            going_on.append(run_id)
        else:
            with contextlib.suppress(Fenced):  # another node has claimed it meanwhile, and goes on with it
                journal.set_state(run_id, "paused", "its program ended")
    return going_on
