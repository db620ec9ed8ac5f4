"""`dspex runs`: what was run, what became of it, and going on with it. Works while no node runs, too."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from dspex_actors.cli import connection
from dspex_actors.cli.evaluate import budget_option, force_option, show_interrupted, show_result
from dspex_actors.cli.finding import RUNS, find, limit_option, tell_newest
from dspex_actors.cli.output import (
    REPORT_WIDTH,
    RUN_STYLES,
    clock_text,
    console,
    iso_seconds,
    json_option,
    print_data,
    print_json,
    show,
    table,
)
from dspex_actors.cli.shell import DONE, FAILED, INTERRUPTED, LazyGroup, say_note
from dspex_actors.client.report import report
from dspex_actors.errors import RunFailed, RunInterrupted
from dspex_actors.foundation.durations import duration_text
from dspex_actors.foundation.files import replaced
from dspex_actors.journal.index import Found, as_it_is
from dspex_actors.journal.reader import JournalReader
from dspex_actors.journal.records import RunRow
from dspex_actors.journal.sameness import OPTIMISE, WORKFLOW
from dspex_actors.journal.scores import named_scores, score_interval
from dspex_actors.journal.summary import export_lines, run_summary, step_record
from dspex_actors.names import run_command

_WATCH_SECONDS = 0.25
_HERE = "dspex_actors.cli.runs"


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    lazy={
        "show": (f"{_HERE}:show_run", "its figures, its errors by type, what to do next"),
        "resume": (f"{_HERE}:resume", "ask what has no result yet, wait, and report"),
        "export": (f"{_HERE}:export", "its results as JSON lines"),
        "diff": (f"{_HERE}_diff:diff", "what is another outcome in another run"),
        "pause": (f"{_HERE}_end:pause", "give up what is in flight; resume goes on"),
        "cancel": (f"{_HERE}_end:cancel", "end it for good"),
        "delete": (f"{_HERE}_end:delete", "remove it and its results"),
    },
)
@limit_option
@json_option
@click.pass_context
def runs(ctx: click.Context, limit: int, as_json: bool) -> int:
    """List past and running runs, newest first; or show, resume, export, compare or end one.

    Of show, resume and export RUN may be left out: it is the newest one then.
    """
    if ctx.invoked_subcommand is not None:
        return DONE
    return tell_newest(RUNS, limit, as_json, lambda one: run_summary(one.row, time.time()), _show_list)


def _show_list(found: list[Found]) -> None:
    right: dict[str, Any] = {"justify": "right", "no_wrap": True}
    shown = table(
        ("run", {"no_wrap": True}),
        ("state", {"no_wrap": True}),
        ("done", right),
        ("failed", right),
        ("score", right),
        ("time", right),
        ("started", {"no_wrap": True}),
        ("metric", {"overflow": "ellipsis"}),
    )
    for _, row in found:
        figures = run_summary(row, time.time())
        of = "" if figures["total"] in (None, row.done) else f"/{figures['total']:,}"
        score = figures["score"]
        shown.add_row(
            Text(row.run_id, style="bold"),
            Text(row.state, style=RUN_STYLES[row.state]),
            f"{row.done:,}{of}",
            Text(f"{row.failed:,}", style="red" if row.failed else "dim"),
            "–" if score is None else f"{score:.2f}",
            duration_text(figures["duration"]),
            clock_text(iso_seconds(figures["started_at"])),
            Text(row.spec.metric_name or "–", style="dim"),
        )
    show(shown)


@click.command("show")
@click.argument("run_id", metavar="[RUN]", required=False)
@click.option("--watch", is_flag=True, help="Follow it until it ends.")
@json_option
def show_run(run_id: str | None, watch: bool, as_json: bool) -> int:
    """Show a run: its figures, its errors by type, and what to do next; of a workflow its finished steps, of an
    optimisation its candidates.
    """
    found = find(run_id)
    reader, row = found
    if watch and row.state == "running":
        row = _follow(reader, row)
    if row.spec.kind == OPTIMISE:
        from dspex_actors.cli.optimizations import show_found

        return show_found(found._replace(row=row), as_json)
    if as_json:
        steps = {"steps": list(map(step_record, reader.steps(row.run_id)))} if row.spec.kind == WORKFLOW else {}
        waits = {"waits_for": _waits_for(reader.path.parent, row.run_id)} if row.state == "running" else {}
        print_json(run_summary(row, time.time()) | steps | waits | in_parts(reader, row))
    else:
        show(report(reader, row, time.time()), REPORT_WIDTH)
        if row.state == "running" and (why := _waits_for(reader.path.parent, row.run_id)):
            console().print(Text(f"waiting: {why}", style="yellow"))
    return FAILED if row.failed or row.state == "failed" else DONE


def in_parts(reader: JournalReader, row: RunRow) -> dict[str, Any]:
    """Return the figures of a run by node, those of second starts, what its score lies between, and scores by name."""
    return {
        "by_node": reader.by_node(row.run_id),
        "hedged": reader.hedged(row.run_id),
        "interval": score_interval(reader, row),
        "scores": named_scores(reader, row),
    }


def _waits_for(folder: Path, run_id: str) -> str | None:
    """Return why a run stands still; None: it goes on, or its node cannot tell."""
    from dspex_actors.foundation.home import HOME
    from dspex_actors.names import RUNS
    from supervisors import Node
    from supervisors.errors import SupervisorsError

    try:
        with Node.attach(folder, HOME) as node:
            kind, value = node.call(RUNS, ("progress", run_id), 5.0)
    except SupervisorsError:
        return None
    return value["note"].get("trouble") if kind == "ok" else None


def _follow(reader: JournalReader, row: RunRow) -> RunRow:
    from dspex_actors.client.progress import RunProgress

    with RunProgress(row.run_id) as bar:
        while row.state == "running":
            bar.update(run_summary(row), {})
            time.sleep(_WATCH_SECONDS)
            row = as_it_is(reader.get_run(row.run_id) or row, reader.path.parent)
        bar.update(run_summary(row), {})
    return row


@click.command()
@click.argument("run_id", metavar="[RUN]", required=False)
@click.option("--quiet", is_flag=True, help="No progress bar.")
@budget_option
@force_option
@json_option
def resume(run_id: str | None, quiet: bool, budget: float | None, force_resume: bool, as_json: bool) -> int:
    """Go on with a run: only what has no result is asked again. Waits, and reports as evaluate does."""
    reader, row = find(run_id)
    with connection.over(reader.path.parent) as system:
        try:
            result = system.resume(row.run_id, display_progress=not quiet, force_resume=force_resume, budget=budget)
        except KeyboardInterrupt:
            say_note(f"run {row.run_id} is paused; resume with `{run_command('resume', row.run_id)}`")
            show_interrupted(reader, row.run_id, as_json)
            return INTERRUPTED
        except RunInterrupted:
            show_interrupted(reader, row.run_id, as_json)
            raise
        except RunFailed:
            show_result(system.journal, row.run_id, as_json)
            raise
        show_result(system.journal, row.run_id, as_json)
    return DONE if result.failed == 0 else FAILED


@click.command()
@click.argument("run_id", metavar="[RUN]", required=False)
@click.option("--output", "output", metavar="F", type=click.Path(dir_okay=False), help="Write to a file, in one step.")
def export(run_id: str | None, output: str | None) -> int:
    """Write a run's results, or a workflow's steps, as JSON lines; to standard output, or to a file."""
    reader, row = find(run_id)
    if output is None or output == "-":
        for line in export_lines(reader, row.run_id):
            print_data(line)
        sys.stdout.flush()
        return DONE
    count = _write(Path(output), export_lines(reader, row.run_id))
    say_note(f"{count:,} {'steps' if row.spec.kind == WORKFLOW else 'results'} of {row.run_id} are in {output}")
    return DONE


def _write(path: Path, lines: Iterator[str]) -> int:
    """Write lines to a file that is there whole or not at all; return how many."""
    count = 0
    with replaced(path) as file:
        for line in lines:
            file.write(line + "\n")
            count += 1
    return count
