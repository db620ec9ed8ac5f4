"""`dspex optimizations`: what was optimised, how it stands, and going on with it. Works while no node runs, too."""

from __future__ import annotations

import time

import click

from dspex_actors.cli import connection
from dspex_actors.cli.finding import OPTIMISATIONS, find, limit_option, tell_newest
from dspex_actors.cli.optimizations_look import (
    candidate_record,
    differences,
    show_differences,
    show_list,
    show_status,
    status_record,
)
from dspex_actors.cli.optimize import check_output, follow, handle_of, limit_options, output_option
from dspex_actors.cli.output import json_option, print_json
from dspex_actors.cli.runs_end import halt
from dspex_actors.cli.shell import DONE, FAILED, LazyGroup, say_note
from dspex_actors.client.optimisations import status_at
from dspex_actors.errors import ConfigError
from dspex_actors.journal.index import Found
from dspex_actors.journal.summary import run_summary
from dspex_actors.runs.optimisations import Found as Candidate
from dspex_actors.runs.optimisations import OptimizationStatus, best_of, found_in

_HERE = "dspex_actors.cli.optimizations"


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    lazy={
        "show": (f"{_HERE}:show_one", "its figures and its candidates"),
        "diff": (f"{_HERE}:diff", "instructions and demos of two candidates"),
        "resume": (f"{_HERE}:resume", "go on with it, wait, save the best program"),
        "pause": (f"{_HERE}:pause", "give up what is in flight; resume goes on"),
        "cancel": (f"{_HERE}:cancel", "end it for good"),
    },
)
@limit_option
@json_option
@click.pass_context
def optimizations(ctx: click.Context, limit: int, as_json: bool) -> int:
    """List optimisations, newest first; or show, compare, resume or end one."""
    if ctx.invoked_subcommand is not None:
        return DONE
    return tell_newest(OPTIMISATIONS, limit, as_json, lambda one: status_record(_status(one)), _show_list)


def _show_list(found: list[Found]) -> None:
    show_list([_status(one) for one in found])


def _status(one: Found) -> OptimizationStatus:
    return status_at(one.reader, one.row, time.time())


def _candidates(one: Found) -> tuple[list[Candidate], Candidate | None]:
    """Return the candidates of an optimisation, and its result."""
    return found_in(one.reader.steps(one.row.run_id))


@click.command("show")
@click.argument("run_id", metavar="[ID]", required=False)
@json_option
def show_one(run_id: str | None, as_json: bool) -> int:
    """Show an optimisation: its figures, and its candidates, the best first. Without an id the newest."""
    return show_found(find(run_id, OPTIMISATIONS), as_json)


def show_found(one: Found, as_json: bool) -> int:
    """Show an optimisation; return the exit status."""
    status, (candidates, _) = _status(one), _candidates(one)
    if as_json:
        parts = [part._asdict() for part in one.reader.parts_of(one.row.run_id)]
        print_json(run_summary(one.row, time.time()) | status_record(status, candidates) | {"parts": parts})
    else:
        show_status(status, candidates)
    return FAILED if status.state == "failed" else DONE


@click.command()
@click.argument("run_id", metavar="ID")
@click.argument("first")
@click.argument("second", default="best")
@json_option
def diff(run_id: str, first: str, second: str, as_json: bool) -> int:
    """Compare two candidates by their numbers in `show`, or "best": instructions, fields, demos."""
    candidates, result = _candidates(find(run_id, OPTIMISATIONS))
    a, b = (_candidate(candidates, result, text) for text in (first, second))
    found = differences(a.state, b.state)
    if as_json:
        print_json({"first": candidate_record(a), "second": candidate_record(b), "differences": found})
    else:
        show_differences(a, b, found)
    return DONE


def _candidate(candidates: list[Candidate], result: Candidate | None, text: str) -> Candidate:
    if text == "best":
        best = best_of(candidates, result)
        if best is not None:
            return best
    for one in candidates:
        if text in (str(one.number), one.name):
            return one
    there = f"1 to {len(candidates)}, or best" if candidates else "none: it has no candidates yet"
    raise ConfigError(f"candidate is invalid: got {text!r:.80}, expected {there}")


@click.command()
@click.argument("run_id", metavar="[ID]", required=False)
@limit_options
@output_option
@click.option("--quiet", is_flag=True, help="No progress line.")
@json_option
def resume(
    run_id: str | None,
    budget: float | None,
    max_calls: int | None,
    max_seconds: float | None,
    output: str | None,
    quiet: bool,
    as_json: bool,
) -> int:
    """Go on with an optimisation: what is finished is not done again. Waits, as `dspex optimize` does.

    Limits that are given hold from now on, what was spent included; the others stay as they were.
    """
    one = find(run_id, OPTIMISATIONS)
    check_output(output, one.row.spec.settings.get("optimizer", ""))
    given = {"usd": budget, "calls": max_calls, "seconds": max_seconds}
    settings = one.row.spec.settings
    there = {"usd": "budget", "calls": "max_calls", "seconds": "max_seconds"}
    limits = {name: settings.get(there[name]) if value is None else value for name, value in given.items()}
    with connection.over(one.folder) as system:
        handle = handle_of(system, one.row.run_id)
        handle.resume(budget=None if all(value is None for value in given.values()) else limits)
        return follow(handle, output, quiet, as_json)


@click.command()
@click.argument("run_id", metavar="ID")
@json_option
def pause(run_id: str, as_json: bool) -> int:
    """Pause an optimisation: what is in flight is given up, what was answered stays."""
    halt("pause", run_id, OPTIMISATIONS)
    return _tell(run_id, as_json, f"go on with `dspex optimizations resume {run_id}`")


@click.command()
@click.argument("run_id", metavar="ID")
@json_option
def cancel(run_id: str, as_json: bool) -> int:
    """End an optimisation for good; its candidates stay."""
    halt("cancel", run_id, OPTIMISATIONS)
    return _tell(run_id, as_json, f"its candidates: `dspex optimizations show {run_id}`")


def _tell(run_id: str, as_json: bool, advice: str) -> int:
    one = find(run_id, OPTIMISATIONS)
    status = _status(one)
    if as_json:
        print_json(status_record(status))
    else:
        say_note(f"optimisation {run_id} is {status.state}, it has {status.candidates} candidates; {advice}")
    return DONE
