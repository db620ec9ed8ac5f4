"""`dspex runs pause|cancel|delete`: ending runs, optimisations too, whether their node runs or not."""

from __future__ import annotations

import time
from typing import Literal

import click

from dspex_actors.cli import connection
from dspex_actors.cli.finding import RUNS, Sort, find
from dspex_actors.cli.output import json_option, print_json
from dspex_actors.cli.shell import DONE, say_note
from dspex_actors.client.elsewhere import have_done
from dspex_actors.errors import ConfigError
from dspex_actors.journal.index import Found
from dspex_actors.journal.records import RunRow
from dspex_actors.journal.sameness import OPTIMISE, WORKFLOW
from dspex_actors.journal.summary import run_summary
from dspex_actors.names import optimization_command, run_command, workflow_call

#: Of what pauses or cancels: the states in which there is nothing to do, and those in which it is refused.
_HALTS = {"pause": ({"paused"}, {"finished", "failed", "cancelled"}), "cancel": ({"cancelled"}, {"finished"})}


def halt(verb: Literal["pause", "cancel"], run_id: str, sort: Sort) -> Found:
    """Pause or cancel a run where that is not so already; return it as it was found.

    Raises:
        ConfigError: there is none, it is over, or it is another node's.
        RunInterrupted: its node does not answer.
    """
    found = find(run_id, sort)
    done, refused = _HALTS[verb]
    if found.row.state in refused:
        removes = " (`dspex runs delete` removes it)" if verb == "cancel" else ""
        raise ConfigError(f"{sort.name} {run_id} is {found.row.state}: there is nothing to {verb}{removes}")
    if found.row.state not in done:
        with connection.over(found.folder) as system:
            have_done(system, verb, run_id, f"by {sort.command} {verb}")
    return found


@click.command()
@click.argument("run_id", metavar="RUN")
@json_option
def pause(run_id: str, as_json: bool) -> int:
    """Pause a running run: what is in flight is given up, what was answered stays. `runs resume` goes on."""
    found = halt("pause", run_id, RUNS)
    ways = {WORKFLOW: workflow_call(run_id), OPTIMISE: optimization_command("resume", run_id)}
    going_on = ways.get(found.row.spec.kind) or run_command("resume", run_id)
    return _tell(run_id, as_json, f"resume with `{going_on}`")


@click.command()
@click.argument("run_id", metavar="RUN")
@json_option
def cancel(run_id: str, as_json: bool) -> int:
    """End a run for good: what was answered stays, and it goes on only with `runs resume --force-resume`."""
    found = halt("cancel", run_id, RUNS)
    if found.row.spec.kind == OPTIMISE:
        return _tell(run_id, as_json, f"its candidates so far: {optimization_command('show', run_id)}")
    return _tell(run_id, as_json, f"its results so far: {run_command('export', run_id)}")


@click.command()
@click.argument("run_id", metavar="RUN")
@json_option
def delete(run_id: str, as_json: bool) -> int:
    """Remove a run and its results for good, of an optimisation all its runs, too; one that is running has to be paused
    or cancelled first.
    """
    found = find(run_id)
    if found.row.state == "running":
        raise ConfigError(f"run {run_id} is running: pause or cancel it first")
    with connection.over(found.folder) as system:
        system.delete(run_id)
    if as_json:
        print_json({"run_id": run_id, "deleted": True, "results": found.row.done})
    else:
        say_note(f"run {run_id} and its {found.row.done:,} {_what(found.row)} are gone")
    return DONE


def _tell(run_id: str, as_json: bool, advice: str) -> int:
    found: Found = find(run_id)
    if as_json:
        print_json(run_summary(found.row, time.time()))
    else:
        say_note(f"run {run_id} is {found.row.state}, it has {found.row.done:,} {_what(found.row)}; {advice}")
    return DONE


def _what(row: RunRow) -> str:
    """Return what a run has: of a workflow, finished steps, of an optimisation candidates."""
    what = {WORKFLOW: "finished step", OPTIMISE: "candidate"}.get(row.spec.kind, "result")
    return what if row.done == 1 else f"{what}s"
