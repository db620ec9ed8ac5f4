"""`dspex journal`: runs from one journal into another."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from dspex_actors.cli.output import console, json_option, print_json, printable, show, table
from dspex_actors.cli.shell import DONE, FAILED
from dspex_actors.errors import ConfigError
from dspex_actors.journal.copying import content_of, copy_run, source_at, target_at
from dspex_actors.journal.reader import JournalReader
from dspex_actors.journal.records import RunRow

run_option = click.option("--run", "run_id", metavar="RUN", help="Only this run.  [default: all]")
_RIGHT: dict[str, Any] = {"justify": "right", "no_wrap": True}


@click.group()
def journal() -> None:
    """Copy runs between journals, and compare them.

    A journal is the path of its file, a node's data folder, or postgresql://USER@HOST:PORT/DATABASE.
    """


@journal.command()
@click.argument("source")
@click.argument("target")
@run_option
@json_option
def copy(source: str, target: str, run_id: str | None, as_json: bool) -> int:
    """Copy the runs of SOURCE into TARGET; one that was broken off goes on.

    Runs that are running are left out: pause them first. What was paid stays in the books of SOURCE.
    """
    reader = source_at(source)
    rows = _runs(reader, source, run_id)
    with target_at(target) as other:
        done = [copy_run(reader, other, row) for row in reversed(rows)]
    left_out = [one.run_id for one in done if one.outcome == "running"]
    if as_json:
        print_json([asdict(one) for one in done])
    elif done:
        page = table("run", "outcome", ("results", _RIGHT), ("requests", _RIGHT))
        for one in done:
            page.add_row(printable(one.run_id), one.outcome, f"{one.results:,}", f"{one.attempts:,}")
        show(page)
    else:
        console().print("no runs there")
    if left_out and not as_json:
        console(err=True).print(f"not copied, since they are running: {', '.join(map(printable, left_out))}")
    return FAILED if left_out else DONE


@journal.command()
@click.argument("source")
@click.argument("target")
@run_option
@json_option
def verify(source: str, target: str, run_id: str | None, as_json: bool) -> int:
    """Say whether TARGET has the runs of SOURCE, row by row; status 1 if not."""
    reader, other = source_at(source), source_at(target)
    found: list[dict[str, Any]] = []
    for row in reversed(_runs(reader, source, run_id)):
        here, there = content_of(reader, row.run_id), content_of(other, row.run_id)
        outcome = "same" if here == there else "missing" if there is None else "differs"
        contents = {name: None if one is None else asdict(one) for name, one in (("source", here), ("target", there))}
        found.append({"run_id": row.run_id, "outcome": outcome, **contents})
    if as_json:
        print_json(found)
    elif found:
        page = table("run", "outcome", ("results", _RIGHT), ("requests", _RIGHT), "digest")
        for one in found:
            page.add_row(printable(one["run_id"]), one["outcome"], *_figures(one["source"], one["target"]))
        show(page)
    else:
        console().print("no runs there")
    return DONE if all(one["outcome"] == "same" for one in found) else FAILED


def _figures(here: Any, there: Any) -> list[str]:
    shown = []
    for name in ("results", "attempts", "digest"):
        one, other = (str(side[name]) if side else "–" for side in (here, there))
        shown.append(one if one == other else f"{one} / {other}")
    return shown


def _runs(reader: JournalReader, source: str, run_id: str | None) -> list[RunRow]:
    if run_id is None:
        return reader.list_runs(limit=-1)
    row = reader.get_run(run_id)
    if row is None:
        raise ConfigError(f"no run {run_id!r} in {source.rpartition('@')[2]}: `dspex runs` lists them")
    return [row]
