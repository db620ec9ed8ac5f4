"""`dspex modules`: the programs that this host's node serves by name, their versions, and the way back."""

from __future__ import annotations

from typing import Any

import click
from rich.text import Text

from dspex_actors.cli.look import attached
from dspex_actors.cli.output import clock_text, counted, json_option, print_json, printable, show, table
from dspex_actors.cli.shell import DONE, LazyGroup
from dspex_actors.client.modules import Modules
from dspex_actors.foundation.durations import duration_text
from supervisors import Node

_HERE = "dspex_actors.cli.modules"


@click.group(
    cls=LazyGroup,
    lazy={
        "list": (f"{_HERE}:list_all", "which there are"),
        "show": (f"{_HERE}:show_one", "the versions of one, and what was counted of each"),
        "roll-back": (f"{_HERE}:roll_back", "let an earlier version answer"),
    },
)
def modules() -> None:
    """See the modules of this host's node: programs that it serves by name."""


def _of(node: Node) -> Modules:
    return Modules(node, lambda: None)


@click.command("list")
@json_option
def list_all(as_json: bool) -> int:
    """List the modules."""
    with attached() as node:
        found = _of(node).list()
    if as_json:
        print_json(found)
    elif not found:
        click.echo("no module is served: system.modules.create(program) makes one")
    else:
        page = table("module", ("version", {"justify": "right"}), ("calls", {"justify": "right"}), "inputs", "what")
        for one in found:
            page.add_row(
                Text(printable(one["id"]), style="bold"),
                f"{one['version']} of {one['versions']}",
                f"{one['calls']:,}",
                Text(printable(", ".join(one["inputs"]))),
                Text(printable(one["description"])),
            )
        show(page)
    return DONE


@click.command("show")
@click.argument("module")
@json_option
def show_one(module: str, as_json: bool) -> int:
    """Show the versions of MODULE, and what was counted of each."""
    with attached() as node:
        there = _of(node)
        versions, counted_ = there.versions(module), there.metrics(module)
    rows = [row | counted_["versions"][row["version"]] for row in versions]
    if as_json:
        print_json({**counted_, "versions": rows})
        return DONE
    page = table(
        "version", "made", *((name, {"justify": "right"}) for name in ("calls", "failed", "p50", "USD")), "note"
    )
    for row in rows:
        page.add_row(*_cells(row))
    show(page)
    click.echo(f"{counted(counted_['calls'], 'call')}, {counted_['under_way']} under way")
    return DONE


def _cells(row: dict[str, Any]) -> list[Text | str]:
    number = Text(str(row["version"]), style="bold" if row["current"] else "")
    number.append(" (answers)" if row["current"] else "")
    cost = row["cost"]
    return [
        number,
        clock_text(row["at"]),
        f"{row['calls']:,}",
        Text(f"{row['failed']:,}", style="red" if row["failed"] else ""),
        duration_text(row["latency"]["p50"]),
        "unknown" if cost is None else f"{cost:.4f}",
        Text(printable(row["note"])),
    ]


@click.command("roll-back")
@click.argument("module")
@click.argument("version", type=int, required=False)
@json_option
def roll_back(module: str, version: int | None, as_json: bool) -> int:
    """Let an earlier VERSION of MODULE answer; without one, the version that the current one has followed."""
    with attached() as node:
        number = _of(node).roll_back(module, version)
    if as_json:
        print_json({"id": module, "version": number})
    else:
        click.echo(f"version {number} of {printable(module)} answers now")
    return DONE
