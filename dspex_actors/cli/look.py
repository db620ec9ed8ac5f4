"""`dspex status`: what the node of this host is like now; and how a supervision tree is shown.

`dspex tree` is in cli/tree.py, `dspex top` in cli/top.py.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dspex_actors.cli import processes
from dspex_actors.cli.health import journal_line, journal_state
from dspex_actors.cli.output import (
    console,
    counted,
    grid,
    json_option,
    print_json,
    size_text,
    state_text,
    table,
)
from dspex_actors.cli.replicas import notes_here
from dspex_actors.cli.shell import DONE, FAILED
from dspex_actors.foundation.durations import duration_text
from dspex_actors.foundation.home import HOME, default_data_dir
from supervisors import Node
from supervisors.client.launch import is_stopping, node_runs
from supervisors.cluster.handle import where_else
from supervisors.errors import NodeDown

_ICONS = {"running": ("●", "green"), "stopped": ("○", "red"), "restarting": ("◌", "yellow")}


def attached() -> Node:
    """Connect to the node of this host.

    Raises:
        NodeDown: none runs; says what to do.
    """
    folder = default_data_dir().absolute()
    if (folder / "node.json").exists() and not node_runs(folder):
        raise NodeDown(
            f"the node in {folder} has died and left things behind: `dspex start` starts it anew{where_else(folder)}"
        )
    if is_stopping(folder):
        raise NodeDown(f"the node in {folder} is being stopped: `dspex start` waits for that, and starts it again")
    return Node.attach(folder, HOME)


@click.command()
@json_option
def status(as_json: bool) -> int:
    """Say whether the node is healthy. Exit status 0: it is; 1: degraded, or its journal is away; 2: no answer."""
    with attached() as node:
        found = node.status()
        found["notes"] = notes_here(node, found["name"])
        found["journal"] = journal = journal_state(node)
        tree = node.tree()
    if journal is not None and (line := journal_line(journal)) is not None:
        found["state"] = "degraded"
        found["notes"] = [*found["notes"], line]
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
        ("  up", duration_text(found["uptime"], 0)),
        ("  pid", str(found["pid"])),
        ("  version", found["version"]),
        ("  processes", str(found["processes"])),
        ("  restarts", Text(str(found["restarts"]), style="yellow" if found["restarts"] else "")),
    ]
    running = [str(row["id"]).removeprefix("run:") for row, _ in walk(tree) if str(row["id"]).startswith("run:")]
    if running:
        rows.append(("  runs", Text(", ".join(running), style="cyan")))
    out.print(grid(rows))
    for note in found["notes"]:
        out.print(Text(f"  {note}", style="yellow"))
    if not healthy:
        for row, _ in walk(tree):
            if row["state"] != "running" and not row.get("at_rest"):
                out.print(f"  [yellow]{row['id']} is {row['state']}[/]: see `dspex failures`")


def footer(sampler: Any, keys: str, width: int) -> str:
    """Return the last line of a live page: the keys, or that the node does not answer."""
    if sampler.trouble is None:
        return f"\x1b[2m{keys[:width]}\x1b[0m"
    age = duration_text(time.monotonic() - sampler.taken, 0)
    told = f"the node does not answer since {age}; this is what it was like  q quits"
    return f"\x1b[1;31m{told[:width]}\x1b[0m"


class Lights:
    """Remembers which children are other processes than a moment ago.

    Args:
        seconds: how long one stays lit.
    """

    def __init__(self, seconds: float = 5.0) -> None:
        """Know nothing yet: what is there at the first look has not changed."""
        self._seconds = seconds
        self._known: dict[tuple[str, ...], tuple[int | None, int]] | None = None
        self._since: dict[tuple[str, ...], float] = {}

    def see(self, root: dict[str, Any], now: float) -> set[int]:
        """Look at a tree; return the pids that have been (re)started in the last seconds."""
        seen = {path: (row["pid"], row["restarts"]) for path, row in paths(root)}
        known = seen if self._known is None else self._known
        for path, now_there in seen.items():
            if now_there[0] is not None and known.get(path) != now_there:
                self._since[path] = now
        self._known = seen
        self._since = {path: at for path, at in self._since.items() if now - at < self._seconds and path in seen}
        return {pid for path in self._since if (pid := seen[path][0]) is not None}


def paths(root: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Give every row of a tree with the ids that lead to it; children without an id go by their pid."""
    here = (*above, str(root["id"] or root["pid"]))
    yield here, root
    for child in root["children"]:
        yield from paths(child, here)


def measure(root: dict[str, Any]) -> None:
    """Give the rows of a tree what their processes use: `memory` in bytes, `cpu` in seconds."""
    for row, _ in walk(root):
        used = processes.usage(row["pid"])
        row["memory"] = used.memory if used else None
        row["cpu"] = used.cpu if used else None


def memory_title(pid: int | None) -> str:
    """Return what this system's memory figures are: PSS, which add up, or RSS, which count shared pages each time."""
    used = processes.usage(pid)
    return "PSS" if used is None or used.proportional else "RSS"


def walk(root: dict[str, Any], guides: tuple[bool, ...] = ()) -> Iterator[tuple[dict[str, Any], tuple[bool, ...]]]:
    """Give every row of a tree with its guides: for each level, whether it is the last of its parent."""
    yield root, guides
    for place, child in enumerate(root["children"], 1):
        yield from walk(child, (*guides, place == len(root["children"])))


def show_tree(out: Console, root: dict[str, Any], names: dict[int, str], lit: Collection[int] = ()) -> None:
    """Measure a tree's processes; print it with their figures in columns, and a line of totals under it.

    Args:
        out: where to.
        root: what `Node.tree` returned.
        names: pid → registered name.
        lit: pids of rows to light up.
    """
    measure(root)
    right: dict[str, Any] = {"justify": "right", "no_wrap": True}
    wide = out.width >= 100
    shown: Table = table(
        ("supervision tree", {"no_wrap": True, "overflow": "ellipsis"}),
        ("pid", right),
        ("state", {"no_wrap": True}),
        ("restarts", right),
        (memory_title(root["pid"]), right),
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
            duration_text(row["cpu"]),
        ]
        if wide:
            name = row["name"] or names.get(row["pid"] or 0) or ""
            cells.append(Text("" if name == row["id"] else name, style="dim"))
        shown.add_row(*cells, style="reverse yellow" if row["pid"] in lit else None)
    out.print(shown)
    workers = sum(row["type"] == "worker" for row, _ in rows)
    restarts_in_all = sum(row["restarts"] for row, _ in rows)
    out.print(
        f"\n[dim]{counted(len(rows) - workers, 'supervisor')}, {counted(workers, 'worker')}, "
        f"{counted(restarts_in_all, 'restart')}[/]"
    )


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


def data_folders(home: Path) -> list[Path]:
    """Return the data folders under DSPEX_HOME: the daemon's, then those of programs' own nodes, oldest first."""
    return [home, *sorted(path for path in home.glob("embedded/*") if path.is_dir())]
