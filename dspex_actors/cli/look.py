"""`dspex status`, `nodes` and `tree`: what the node of this host is like now."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dspex_actors.cli import processes
from dspex_actors.cli.output import (
    console,
    grid,
    json_option,
    print_json,
    show,
    size_text,
    span_text,
    state_text,
    table,
)
from dspex_actors.cli.shell import DONE, FAILED
from supervisors.errors import NodeDown
from supervisors.node import Node, default_data_dir

_ICONS = {"running": ("●", "green"), "stopped": ("○", "red"), "restarting": ("◌", "yellow")}


def attached() -> Node:
    """Connect to the node of this host.

    Raises:
        NodeDown: none runs; says what to do.
    """
    folder = default_data_dir().absolute()
    if (folder / "node.json").exists() and not processes.is_alive(folder):
        raise NodeDown(f"the node in {folder} has died and left things behind: `dspex start` starts it anew")
    return Node.attach(folder)


@click.command()
@json_option
def status(as_json: bool) -> int:
    """Say whether the node is healthy. Exit status 0: it is; 1: degraded; 2: it does not answer."""
    with attached() as node:
        found = node.status()
        tree = node.tree()
    if as_json:
        print_json(found)
    else:
        _show_status(found, tree)
    return DONE if found["state"] == "healthy" else FAILED


def _show_status(found: dict[str, Any], tree: dict[str, Any]) -> None:
    healthy = found["state"] == "healthy"
    colour = "green" if healthy else "yellow"
    out = console()
    out.print(f"[bold {colour}]●[/] [bold]{found['name']}[/] [{colour}]{found['state']}[/]")
    rows: list[tuple[str, Any]] = [
        ("  address", found["address"]),
        ("  data folder", found["data_dir"]),
        ("  up", span_text(found["uptime"])),
        ("  pid", str(found["pid"])),
        ("  version", found["version"]),
        ("  processes", str(found["processes"])),
        ("  restarts", Text(str(found["restarts"]), style="yellow" if found["restarts"] else "")),
    ]
    running = [str(row["id"]).removeprefix("run:") for row, _ in walk(tree) if str(row["id"]).startswith("run:")]
    if running:
        rows.append(("  runs", Text(", ".join(running), style="cyan")))
    out.print(grid(rows))
    if not healthy:
        for row, _ in walk(tree):
            if row["state"] != "running":
                out.print(f"  [yellow]{row['id']} is {row['state']}[/]: see `dspex failures`")


@click.command()
@json_option
def nodes(as_json: bool) -> int:
    """List the members of the cluster and when each was last heard of."""
    with attached() as node:
        asked = time.monotonic()
        found = node.status()
        age = time.monotonic() - asked
    row = {key: found[key] for key in ("name", "state", "address", "pid", "uptime", "version")} | {
        "last_beat": round(age, 4)
    }
    if as_json:
        print_json([row])
    else:
        shown = table(
            "name", "state", "address", ("last beat", {"justify": "right"}), ("up", {"justify": "right"}), "version"
        )
        shown.add_row(
            Text(row["name"], style="bold"),
            state_text(row["state"]),
            row["address"],
            f"{span_text(age)} ago",
            span_text(row["uptime"]),
            row["version"],
        )
        show(shown)
    return DONE if found["state"] == "healthy" else FAILED


@click.command()
@json_option
def tree(as_json: bool) -> int:
    """Show the supervision tree: who supervises whom, as which process, restarted how often."""
    with attached() as node:
        found = node.tree()
        names = {ref.pid: name for name, ref in node.names().items()}
    if as_json:
        _measure(found)
        print_json(found)
    else:
        show_tree(console(), found, names)
    return DONE if all(row["state"] == "running" for row, _ in walk(found)) else FAILED


def _measure(root: dict[str, Any]) -> None:
    for row, _ in walk(root):
        used = processes.usage(row["pid"])
        row["memory"] = used.memory if used else None
        row["cpu"] = used.cpu if used else None


def walk(root: dict[str, Any], guides: tuple[bool, ...] = ()) -> Iterator[tuple[dict[str, Any], tuple[bool, ...]]]:
    """Give every row of a tree with its guides: for each level, whether it is the last of its parent."""
    yield root, guides
    for place, child in enumerate(root["children"], 1):
        yield from walk(child, (*guides, place == len(root["children"])))


def show_tree(out: Console, root: dict[str, Any], names: dict[int, str]) -> None:
    """Measure a tree's processes; print it with their figures in columns, and a line of totals under it."""
    _measure(root)
    right: dict[str, Any] = {"justify": "right", "no_wrap": True}
    wide = out.width >= 100
    shown: Table = table(
        ("supervision tree", {"no_wrap": True, "overflow": "ellipsis"}),
        ("pid", right),
        ("state", {"no_wrap": True}),
        ("restarts", right),
        ("memory", right),
        ("cpu", right),
        *([("name", {"no_wrap": True})] if wide else []),
    )
    rows = list(walk(root))
    for row, guides in rows:
        restarts = Text(str(row["restarts"]), style="bold yellow" if row["restarts"] else "dim")
        cells: list[Any] = [
            _label(row, guides, root),
            str(row["pid"] or "–"),
            state_text(row["state"]),
            restarts,
            size_text(row["memory"]),
            _cpu(row["cpu"]),
        ]
        if wide:
            name = row["name"] or names.get(row["pid"] or 0) or ""
            cells.append(Text("" if name == row["id"] else name, style="dim"))
        shown.add_row(*cells)
    out.print(shown)
    workers = sum(row["type"] == "worker" for row, _ in rows)
    restarts_in_all = sum(row["restarts"] for row, _ in rows)
    out.print(f"\n[dim]{len(rows) - workers} supervisors, {workers} workers, {restarts_in_all} restarts[/]")


def _label(row: dict[str, Any], guides: tuple[bool, ...], root: dict[str, Any]) -> Text:
    text = Text()
    for last in guides[:-1]:
        text.append("   " if last else "│  ", style="dim")
    if guides:
        text.append("└─ " if guides[-1] else "├─ ", style="dim")
    icon, colour = _ICONS.get(row["state"], ("?", "red"))
    supervisor = row["type"] == "supervisor"
    text.append("◆ " if supervisor and row["state"] == "running" else f"{icon} ", style=colour)
    name = row["name"] if row is root else row["id"] or row["name"] or "(a child)"
    text.append(str(name), style="bold cyan" if supervisor else "")
    return text


def _cpu(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{seconds:.2f} s" if seconds < 60 else span_text(seconds)


def data_folders(home: Path) -> list[Path]:
    """Return the data folders under DSPEX_HOME: the daemon's, then those of programs' own nodes, oldest first."""
    return [home, *sorted(path for path in home.glob("embedded/*") if path.is_dir())]
