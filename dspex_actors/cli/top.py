"""`dspex top`: what each process of the node does now - messages, mailbox, CPU, memory - busiest first."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import click
from rich.console import Console, Group
from rich.text import Text

from dspex_actors.cli import processes
from dspex_actors.cli.look import Lights, attached, footer, paths
from dspex_actors.cli.output import console, counted, json_option, print_json, size_text, table
from dspex_actors.cli.shell import DONE, FAILED
from supervisors import Node, ProcessStats

#: Key → (field, what the footer calls it).
SORTS = {
    "c": ("cpu", "[c]pu"),
    "m": ("memory", "[m]emory"),
    "s": ("rate", "m[s]g/s"),
    "b": ("mailbox", "mail[b]ox"),
    "r": ("restarts", "[r]estarts"),
    "u": ("uptime", "[u]p"),
    "n": ("actor", "[n]ame"),
}
#: Columns that the figures of a row take; on a terminal that is not wider than this, with short titles.
FIGURES, SHORT_FIGURES, NARROW = 60, 51, 72
#: In one handler for longer than this is worth a word, in seconds.
BUSY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a node.

    Args:
        at: when, on the monotonic clock.
        tree: what `Node.tree` returned.
        stats: what the processes have counted.
        usage: pid → memory, CPU and uptime.
    """

    at: float
    tree: dict[str, Any]
    stats: dict[int, ProcessStats]
    usage: dict[int, processes.Usage]


@dataclass(frozen=True, slots=True)
class Row:
    """One actor.

    Args:
        actor: its registered name, or its id.
        supervisor: the id above it.
        type: worker or supervisor.
        state: running, stopped or restarting.
        pid: process id, or None.
        mailbox: messages that wait, or None where that is not known.
        rate: messages taken per second since the look before.
        messages: taken since its start.
        cpu: percent of one core since the look before.
        memory: bytes, PSS where the system tells it, else RSS.
        restarts: how often.
        uptime: seconds.
        busy: seconds in its present handler.
    """

    actor: str
    supervisor: str
    type: str
    state: str
    pid: int | None
    mailbox: int | None
    rate: float | None
    messages: int | None
    cpu: float | None
    memory: int | None
    restarts: int
    uptime: float | None
    busy: float


def look(node: Node) -> Sample:
    """Ask the node and the kernel."""
    at = time.monotonic()
    tree, stats = node.tree(), node.stats()
    pids = {row["pid"] for _, row in paths(tree) if row["pid"] is not None}
    usage = {pid: used for pid in pids if (used := processes.usage(pid)) is not None}
    return Sample(at, tree, stats, usage)


def rows(before: Sample, after: Sample) -> list[Row]:
    """Return what happened between two looks, one row per actor, in the tree's order."""
    seconds = max(after.at - before.at, 1e-6)
    found = []
    for path, row in paths(after.tree):
        pid = row["pid"]
        stats, used = after.stats.get(pid), after.usage.get(pid)
        old_stats, old_used = before.stats.get(pid), before.usage.get(pid)
        taken = None if stats is None else max(0, stats.messages - (old_stats.messages if old_stats else 0))
        spent = None if used is None else max(0.0, used.cpu - (old_used.cpu if old_used else 0.0))
        found.append(
            Row(
                actor=str(row["name"] or row["id"] or f"a child of {path[-2]}"),
                supervisor=path[-2] if len(path) > 1 else "",
                type=row["type"],
                state=row["state"],
                pid=pid,
                mailbox=stats.mailbox if stats else None,
                rate=None if taken is None else taken / seconds,
                messages=stats.messages if stats else None,
                cpu=None if spent is None else 100 * spent / seconds,
                memory=used.memory if used else None,
                restarts=row["restarts"],
                uptime=used.uptime if used else None,
                busy=stats.busy if stats else 0.0,
            )
        )
    return found


def ordered(found: list[Row], field: str, upward: bool = False) -> list[Row]:
    """Sort rows by a field: the most first (names from A), or the other way round; what is not known comes last."""
    known = [row for row in found if getattr(row, field) is not None]
    downward = (field != "actor") != upward
    known.sort(key=lambda row: getattr(row, field), reverse=downward)
    return known + [row for row in found if getattr(row, field) is None]


@click.command()
@click.option("--once", is_flag=True, help="Print one page and end; no terminal needed.")
@click.option(
    "--sort",
    type=click.Choice([field for field, _ in SORTS.values()]),
    default="cpu",
    show_default=True,
    help="Most of this first.",
)
@click.option(
    "--interval", type=click.FloatRange(0.1), metavar="S", default=1.0, show_default=True, help="Seconds between looks."
)
@json_option
def top(once: bool, sort: str, interval: float, as_json: bool) -> int:
    """Show what each process does: messages that wait and per second, CPU, memory, restarts.

    Keys: c m s b r u n choose the order (again: the other way round), arrows scroll, q quits. CPU is per cent of one
    core. PSS counts a page that n processes share as 1/n in each of them, so that the figures add up. `--once` and
    `--json` look twice, an interval apart, and print one page.
    """
    with attached() as node:
        if not once and not as_json:
            return _live(node, sort, interval)
        before = look(node)
        time.sleep(interval)
        after = look(node)
    found = ordered(rows(before, after), sort)
    if as_json:
        print_json([asdict(row) for row in found])
    else:
        out = console()
        out.print(page(after, found, set(), out.width))
    return DONE if all(row.state == "running" for row in found) else FAILED


def _live(node: Node, sort: str, interval: float) -> int:
    from dspex_actors.cli.screen import Sampler, Screen

    history = [look(node)]

    def again() -> list[Sample]:
        history[:] = [*history[-1:], look(node)]
        return list(history)

    time.sleep(min(interval, 0.3))
    sampler, lights, upward = Sampler(again, interval), Lights(), False
    with Screen() as screen:
        while True:
            before, after = sampler.latest
            lit = lights.see(after.tree, time.monotonic())
            out = Console(highlight=False, force_terminal=True, width=screen.size[0])
            with out.capture() as captured:
                out.print(page(after, ordered(rows(before, after), sort, upward), lit, out.width))
            summary, titles, *body = captured.get().splitlines()
            screen.draw([summary, titles], body, ["", footer(sampler, _keys(sort, upward), out.width)])
            key = screen.key(min(interval, 0.5))
            if key == "q":
                return DONE
            if key in SORTS:
                field = SORTS[key][0]
                sort, upward = field, not upward if field == sort else False


def _keys(sort: str, upward: bool) -> str:
    arrow = "▲" if upward != (sort == "actor") else "▼"
    return " ".join(text + (arrow if field == sort else "") for field, text in SORTS.values()) + "  [q]uit"


def page(sample: Sample, found: list[Row], lit: set[int], width: int) -> Group:
    """Return a page: one line about the node, then a row per actor; where it is narrow, names are cut, not figures."""
    kind = "PSS" if all(used.proportional for used in sample.usage.values()) else "RSS"
    narrow = width < NARROW
    right: dict[str, Any] = {"justify": "right", "no_wrap": True}
    shown = table(
        (
            "actor",
            {
                "no_wrap": True,
                "overflow": "ellipsis",
                "max_width": max(8, width - (SHORT_FIGURES if narrow else FIGURES)),
            },
        ),
        ("pid", right),
        ("mbox" if narrow else "mailbox", right),
        ("msg/s", right),
        ("cpu %", right),
        (kind, right),
        ("re" if narrow else "restarts", right),
        ("up", right),
    )
    for row in found:
        full = "bold yellow" if (row.mailbox or 0) >= 100 else ""
        shown.add_row(
            _name(row),
            _number(row.pid),
            Text(_number(row.mailbox), style=full),
            _number(row.rate, 0 if (row.rate or 0) >= 10 else 1),
            _number(row.cpu, 1),
            size_text(row.memory),
            Text(str(row.restarts), style="bold yellow" if row.restarts else "dim"),
            _short_span(row.uptime),
            style="reverse yellow" if row.pid in lit else None,
        )
    total = Text.assemble(
        (str(sample.tree["name"]), "bold"),
        f"  {len(found)} actors  {counted(sum(row.restarts for row in found), 'restart')}",
        f"  cpu {sum(row.cpu or 0 for row in found):.0f} %",
        f"  {kind} {size_text(sum(row.memory or 0 for row in found))}",
        f"  {sum(row.rate or 0 for row in found):.0f} msg/s",
    )
    total.no_wrap, total.overflow = True, "ellipsis"
    return Group(total, shown)


def _name(row: Row) -> Text:
    text = Text(row.actor, style="bold cyan" if row.type == "supervisor" else "")
    if row.state != "running":
        text.append(f" {row.state}", style="bold red")
    elif row.busy >= BUSY_SECONDS:
        text.append(f" busy {_short_span(row.busy)}", style="yellow")
    return text


def _number(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _short_span(seconds: float | None) -> str:
    """Return a span in one short word: 12s, 3m05, 2h10, 4d3h."""
    if seconds is None:
        return "–"
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}"
    return f"{whole // 86400}d{whole % 86400 // 3600}h"
