"""`dspex metrics`: what the node's processes have counted and measured."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dspex_actors.cli.look import attached, footer
from dspex_actors.cli.output import console, json_option, print_json, printable, table
from dspex_actors.cli.shell import DONE
from dspex_actors.foundation.durations import duration_text
from dspex_actors.observe.telemetry.face import ask
from dspex_actors.observe.telemetry.messages import Read
from supervisors import Node

#: The last words of names whose values are seconds.
_SECONDS = ("duration", "waited", "latency")
Metrics = dict[str, list[dict[str, Any]]]


@click.command()
@click.argument("prefix", default="")
@click.option("--watch", is_flag=True, help="Keep it on the screen until q.")
@click.option(
    "--interval", type=click.FloatRange(0.1), metavar="S", default=1.0, show_default=True, help="Seconds between looks."
)
@json_option
def metrics(prefix: str, watch: bool, interval: float, as_json: bool) -> int:
    """Show what the node has counted and measured since it started, or only names that begin with PREFIX.

    Quantiles are right to 0.5 %. The rate is of the last minute: what a counter grew by per second, how many values
    came per second of all others.
    """
    with attached() as node:
        if watch and not as_json:
            return _watch(node, prefix, interval)
        found = _read(node, prefix)
    if as_json:
        print_json(found)
    else:
        console().print(_page(found, prefix))
    return DONE


def _read(node: Node, prefix: str) -> Metrics:
    return ask(node, Read(prefix))


def _watch(node: Node, prefix: str, interval: float) -> int:
    from dspex_actors.cli.screen import Sampler, Screen

    sampler = Sampler(lambda: _read(node, prefix), interval)
    with Screen() as screen:
        while True:
            out = Console(highlight=False, force_terminal=True, width=screen.size[0])
            with out.capture() as captured:
                out.print(_page(sampler.latest, prefix))
            title, *body = captured.get().splitlines()
            screen.draw([title], body, ["", footer(sampler, "q quits  ↑↓ scroll", out.width)])
            if screen.key(interval) == "q":
                return DONE


def _page(found: Metrics, prefix: str) -> Table | Text:
    if not found:
        return Text(f"no metric begins with {prefix!r}" if prefix else "nothing has been counted or measured yet")
    right: dict[str, Any] = {"justify": "right", "no_wrap": True}
    figures = ("count", "sum", "rate", "mean", "p50", "p90", "p99", "max")
    page = table(("metric", {"overflow": "fold"}), *((name, right) for name in figures))
    for name, rows in found.items():
        for row in rows:
            tags = " ".join(f"{tag}={printable(value)}" for tag, value in row["tags"].items())
            label = Text(name, style="bold").append(f"  {tags}" if tags else "", style="dim not bold")
            page.add_row(label, *_figures(name, row))
    return page


def _figures(name: str, row: dict[str, Any]) -> list[str]:
    """Return a row's figures; a counter has no distribution, and of a gauge its last value counts."""
    seconds = name.rpartition(".")[2] in _SECONDS
    show = _seconds if seconds else _number
    rate = f"{_number(row['rate'])}/s" if row["rate"] else ""
    if row["kind"] == "counter":
        return ["", show(row["sum"]), rate, "", "", "", "", ""]
    if row["kind"] == "gauge":
        return ["", show(row["value"]), rate, "", "", "", "", show(row["max"])]
    return [
        f"{row['count']:,}",
        show(row["sum"]),
        rate,
        *(show(row[key]) for key in ("mean", "p50", "p90", "p99", "max")),
    ]


def _seconds(value: float) -> str:
    return f"{value * 1000:.2g} ms" if value < 0.01 else duration_text(value)


def _number(value: float) -> str:
    if isinstance(value, int) or (value.is_integer() and abs(value) < 1e15):
        return f"{int(value):,}"
    return f"{value:,.2f}" if 100 <= abs(value) < 1e15 else f"{value:.3g}"
