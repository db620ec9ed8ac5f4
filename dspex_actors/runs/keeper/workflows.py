"""The keeper's part in durable workflows and optimisations: others carry them out, and bring each step as it ends.

Requests, behind "workflow":
    ("open", spec fields, holder, is_only_one, force) → epoch; the run belongs to the program from now on
    ("enlist", spec fields, force)                    → state; the run is there, and begins when it is opened anew
    ("reopen", run_id, holder)                        → epoch; the run belongs to the holder from now on
    ("step", run_id, epoch, row)                      → None
    ("end", run_id, epoch, state, reason)             → None
    ("limits", run_id, limits)                        → None; its settings that say how it goes on
    ("give up", run_id, reason)                       → its summary; nobody can carry it out (answered by the keeper)
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

from dspex_actors.errors import ConfigError
from dspex_actors.journal.base import JournalBase
from dspex_actors.journal.errors import NotHere
from dspex_actors.journal.records import RunRow, RunSpec, RunState, StepRow
from dspex_actors.journal.sameness import OPTIMISE, WORKFLOW
from dspex_actors.journal.steps import add_step, begin_anew, end_workflow, forsaken, open_workflow, reopen, set_limits
from dspex_actors.names import check_run_id, workflow_call
from supervisors.host import processes

#: While workflows run it is looked this often whether their programs live, in seconds.
LOOK_SECONDS = 1.0
#: Of the settings of an optimisation that its user has gone on with as another one: when, wall-clock seconds.
FORCED_AT = "forced_at"
#: What a holder has that is a server of the node.
NODES = "node"


def answer(journal: JournalBase, request: tuple[Any, ...], drop_dataset: Callable[[RunRow], None]) -> Any:
    """Answer one request.

    Args:
        journal: the journal.
        request: what stands above.
        drop_dataset: removes what was spooled for a run.
    """
    match request:
        case ("open", spec, holder, is_only_one, *force):
            check_run_id(spec.get("run_id"))
            # What a process wrote down as its own, and carries out no more, belongs to nobody.
            free, forced = holder if is_only_one else None, bool(force and force[0])
            row = open_workflow(
                journal, RunSpec(**spec), holder, lambda there: there != free and is_alive(there), force=forced
            )
            if forced and row.spec.kind == OPTIMISE:
                begin_anew(journal, row.run_id)
            return row.epoch
        case ("enlist", spec, force):
            check_run_id(spec.get("run_id"))
            known = journal.get_run(spec["run_id"])
            force = force and (known is None or known.state != "running")  # one that is under way is no other
            settings = {**spec["settings"], **_forced(known, force=force)}
            row = journal.create_run(RunSpec(**{**spec, "settings": settings}), state="paused", force=force)
            if force:  # its candidates are told again, and those of another one are none
                begin_anew(journal, row.spec.run_id)
            if row.state == "cancelled":  # it was forced, and is to go on
                row = journal.set_state(row.spec.run_id, "paused", "begun again")
            return row.state
        case ("reopen", run_id, holder):
            row = reopen(journal, run_id, holder, is_alive)
            take_parts(journal, row)
            return row.epoch
        case ("step", run_id, epoch, row):
            return add_step(journal, run_id, epoch, StepRow._make(row))
        case ("end", run_id, epoch, state, reason):
            end_workflow(journal, run_id, epoch, state, reason)
            ended = journal.get_run(run_id)
            if ended is not None and ended.spec.kind == OPTIMISE and ended.state == "finished":
                drop_dataset(ended)
            return None
        case ("limits", run_id, limits):
            return set_limits(journal, run_id, limits)
    raise ConfigError(f"workflows do not know the request {request!r:.200}")


def _forced(known: RunRow | None, *, force: bool) -> dict[str, float]:
    """Return until when runs were made that may be others: force holds for what was there, and for nothing later."""
    at = time.time() if force else None if known is None else known.spec.settings.get(FORCED_AT)
    return {} if at is None else {FORCED_AT: at}


def pause_forsaken(journal: JournalBase) -> bool:
    """Pause the workflows whose program has ended; say whether some are still under way.

    An optimisation that is the node's own has a coordinator, which goes on with it.
    """
    return bool(forsaken(journal, lambda holder: NODES in holder or is_alive(holder)))


def halt(journal: JournalBase, row: RunRow, state: RunState, reason: str) -> list[RunRow]:
    """Write down that a run ends or pauses, and with an optimisation the runs of its steps; return what was halted.

    All of it before an evaluator is ended, which takes seconds: none goes on meanwhile, or with another keeper.
    """
    if journal.is_far and row.state not in ("running", "finished"):
        journal.take_over(row, force=False)  # another node has left it, and may be gone
    halted = [journal.set_state(row.run_id, state, reason)]
    of_parts: RunState = "cancelled" if state == "cancelled" else "paused"
    why = f"its optimisation is {state}"
    return [*halted, *(journal.set_state(part, of_parts, why) for part in under_way(journal, row))]


def under_way(journal: JournalBase, row: RunRow) -> list[str]:
    """Return the runs of an optimisation that are running; none of any other run."""
    parts = journal.parts_of(row.run_id) if row.spec.kind == OPTIMISE else []
    return [part.run_id for part in parts if part.state == "running"]


def take_parts(journal: JournalBase, row: RunRow) -> None:
    """Have the runs of an optimisation be where that is; one that another node had under way begins when asked for."""
    for run_id in under_way(journal, row) if journal.is_far else ():
        _take_part(journal, run_id)


def _take_part(journal: JournalBase, run_id: str) -> None:
    row = journal.get_run(run_id)
    if row is None or journal.has(row) or row.state == "finished":
        return
    if journal.take_over(row, force=True).state == "running":
        journal.set_state(run_id, "paused", "its optimisation goes on at another node")


def check_part(journal: JournalBase, spec: dict[str, Any]) -> None:
    """Refuse a run of an optimisation that does not go on here: nothing more is paid for it. Else it is this node's.

    Raises:
        ConfigError: it was paused, cancelled or deleted, or goes on at another node.
    """
    if spec.get("parent_id") is None:
        return
    parent = journal.get_run(spec["parent_id"])
    state = "gone" if parent is None else parent.state
    if state not in ("running", "finished"):
        raise ConfigError(f"optimisation {spec['parent_id']} is {state}: nothing is started for it")
    if parent is None or not journal.is_far:
        return
    if not journal.has(parent):
        raise NotHere(f"optimisation {spec['parent_id']} goes on at another node: nothing is started for it here")
    _take_part(journal, spec["run_id"])


def this_process() -> dict[str, Any]:
    """Return what tells this process from others of the host."""
    return {"pid": os.getpid(), "born": processes.born(os.getpid())}


def is_alive(holder: dict[str, Any]) -> bool:
    """Whether a process lives."""
    return not processes.has_ended(holder["pid"], holder["born"])


async def delete_with_parts(
    journal: JournalBase,
    run_id: str,
    halt: Callable[[str, Any, str], Awaitable[Any]],
    delete: Callable[[str], Awaitable[None]],
) -> None:
    """Remove a run; of an optimisation first the runs of its steps, so that one that is interrupted can be repeated.

    Args:
        journal: the journal.
        run_id: the run.
        halt: ends a run.
        delete: removes one run.

    Raises:
        ConfigError: as `delete`.
    """
    row = journal.get_run(run_id)
    if row is not None and row.spec.kind == OPTIMISE and row.state != "running":
        for part in journal.parts_of(run_id):
            if part.state == "running":
                await halt(part.run_id, "cancelled", "its optimisation is deleted")
            await delete(part.run_id)
    await delete(run_id)


def refuse_resume(kind: str, run_id: str) -> None:
    """Refuse to have a workflow resumed by the node, which has not its steps."""
    if kind == WORKFLOW:
        raise ConfigError(
            f"run {run_id} is a workflow, whose steps are in its program: resume it there with {workflow_call(run_id)}"
        )
    if kind == OPTIMISE:
        raise ConfigError(f"run {run_id} is an optimisation: `dspex optimizations resume` goes on with it")
