"""`dspex runs`: what was run, what became of it, and going on with it. Works while no node runs, too."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from dspex_actors.cli import connection
from dspex_actors.cli.evaluate import show_result
from dspex_actors.cli.output import (
    REPORT_WIDTH,
    RUN_STYLES,
    clock_text,
    console,
    iso_seconds,
    json_option,
    print_json,
    show,
    table,
)
from dspex_actors.cli.shell import DONE, FAILED, INTERRUPTED, MISUSED, LazyGroup, say_error, say_note
from dspex_actors.client.report import report
from dspex_actors.errors import ConfigError, RunFailed
from dspex_actors.foundation.durations import duration_text
from dspex_actors.journal.errors import JournalCorrupt
from dspex_actors.journal.index import node_runs
from dspex_actors.journal.reader import JournalReader, find_journals
from dspex_actors.journal.records import RunRow
from dspex_actors.journal.summary import export_lines, run_summary
from supervisors.client.node import default_data_dir

_WATCH_SECONDS = 0.25
_HERE = "dspex_actors.cli.runs"
GONE = "its node was stopped or killed"


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    lazy={
        "show": (f"{_HERE}:show_run", "its figures, its errors by type, what to do next"),
        "resume": (f"{_HERE}:resume", "ask what has no result yet, wait, and report"),
        "export": (f"{_HERE}:export", "its results as JSON lines"),
    },
)
@click.option("--limit", type=click.IntRange(1), metavar="N", default=20, show_default=True, help="The newest so many.")
@json_option
@click.pass_context
def runs(ctx: click.Context, limit: int, as_json: bool) -> int:
    """List past and running runs, newest first; or show, resume or export one.

    RUN may be left out: it is the newest one then.
    """
    if ctx.invoked_subcommand is not None:
        return DONE
    found, broken = _every_run(limit)
    if as_json:
        print_json([run_summary(row, time.time()) | {"journal": str(reader.path)} for reader, row in found])
    elif found:
        _show_list([row for _, row in found])
    elif not broken:
        console().print("no runs yet: `dspex evaluate PROGRAM DATA --metric M` makes one")
    for error in broken:
        say_error(error.message)
    return MISUSED if broken else DONE


def _every_run(limit: int) -> tuple[list[tuple[JournalReader, RunRow]], list[JournalCorrupt]]:
    """Return the newest runs of all journals, and what is wrong with journals that cannot be read."""
    found: list[tuple[JournalReader, RunRow]] = []
    broken = []
    for path in find_journals(default_data_dir().absolute()):
        reader = JournalReader(path)
        try:
            found += [(reader, as_it_is(reader, row)) for row in reader.list_runs(limit=limit)]
        except JournalCorrupt as error:
            broken.append(error)
    found.sort(key=lambda pair: pair[1].created_at, reverse=True)
    return found[:limit], broken


def as_it_is(reader: JournalReader, row: RunRow) -> RunRow:
    """Return a run as paused where the journal says running, but nobody is left to run it."""
    if row.state != "running" or node_runs(reader.path.parent):
        return row
    return replace(row, state="paused", reason=GONE, running_since=None)


def _show_list(rows: list[RunRow]) -> None:
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
    for row in rows:
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


def find(run_id: str | None) -> tuple[JournalReader, RunRow]:
    """Return a run and the journal that has it; without an id the newest one.

    Raises:
        ConfigError: there is none.
        JournalCorrupt: it is not found, and a journal cannot be read.
    """
    broken: JournalCorrupt | None = None
    if run_id is None:
        found, unreadable = _every_run(1)
        if found:
            return found[0]
        if unreadable:
            raise unreadable[0]
        raise ConfigError("no runs yet: `dspex evaluate PROGRAM DATA --metric M` makes one")
    home = default_data_dir().absolute()
    for path in find_journals(home):
        reader = JournalReader(path)
        try:
            row = reader.get_run(run_id)
        except JournalCorrupt as error:
            broken = error
            continue
        if row is not None:
            return reader, as_it_is(reader, row)
    if broken is not None:
        raise broken
    raise ConfigError(f"no run {run_id!r} under {home}: `dspex runs` lists them")


@click.command("show")
@click.argument("run_id", metavar="[RUN]", required=False)
@click.option("--watch", is_flag=True, help="Follow it until it ends.")
@json_option
def show_run(run_id: str | None, watch: bool, as_json: bool) -> int:
    """Show a run: its figures, its errors by type, and what to do next."""
    reader, row = find(run_id)
    if watch and row.state == "running":
        row = _follow(reader, row)
    if as_json:
        print_json(run_summary(row, time.time()))
    else:
        show(report(reader, row, time.time()), REPORT_WIDTH)
    return FAILED if row.failed or row.state == "failed" else DONE


def _follow(reader: JournalReader, row: RunRow) -> RunRow:
    from dspex_actors.client.progress import RunProgress

    with RunProgress(row.run_id) as bar:
        while row.state == "running":
            bar.update(run_summary(row), {})
            time.sleep(_WATCH_SECONDS)
            row = as_it_is(reader, reader.get_run(row.run_id) or row)
        bar.update(run_summary(row), {})
    return row


@click.command()
@click.argument("run_id", metavar="[RUN]", required=False)
@click.option("--quiet", is_flag=True, help="No progress bar.")
@json_option
def resume(run_id: str | None, quiet: bool, as_json: bool) -> int:
    """Go on with a run: only what has no result is asked again. Waits, and reports as evaluate does."""
    reader, row = find(run_id)
    with connection.over(reader.path.parent) as system:
        try:
            result = system.resume(row.run_id, display_progress=not quiet)
        except KeyboardInterrupt:
            say_note(f"run {row.run_id} is paused; resume with `dspex runs resume {row.run_id}`")
            return INTERRUPTED
        except RunFailed:
            show_result(system.journal, row.run_id, as_json)
            raise
        show_result(system.journal, row.run_id, as_json)
    return DONE if result.failed == 0 else FAILED


@click.command()
@click.argument("run_id", metavar="[RUN]", required=False)
@click.option("--output", "output", metavar="F", type=click.Path(dir_okay=False), help="Write to a file, in one step.")
def export(run_id: str | None, output: str | None) -> int:
    """Write a run's results as JSON lines, in input order; to standard output, or to a file."""
    reader, row = find(run_id)
    if output is None or output == "-":
        for line in export_lines(reader, row.run_id):
            sys.stdout.write(line + "\n")
        sys.stdout.flush()
        return DONE
    count = _write(Path(output), export_lines(reader, row.run_id))
    say_note(f"{count:,} results of {row.run_id} are in {output}")
    return DONE


def _write(path: Path, lines: Iterator[str]) -> int:
    """Write lines to a file that is there whole or not at all."""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise ConfigError(f"cannot write to {path.parent}: {error.strerror or error}") from None
    count = 0
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            for line in lines:
                file.write(line + "\n")
                count += 1
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return count
