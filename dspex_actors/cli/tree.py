"""`dspex tree`: the supervision tree, and what the LMs of the node are doing; `--watch` keeps it on the screen."""

from __future__ import annotations

import time
from typing import Any

import click
from rich.console import Console

from dspex_actors.cli.look import Lights, attached, footer, measure, show_tree, walk
from dspex_actors.cli.output import console, json_option, print_json
from dspex_actors.cli.shell import DONE, FAILED
from supervisors import Node

#: The ids of LMs' owners begin so.
CLIENT = "client:"


@click.command()
@click.option("--watch", is_flag=True, help="Keep it on the screen until q; what was restarted lights up.")
@click.option(
    "--interval", type=click.FloatRange(0.1), metavar="S", default=0.5, show_default=True, help="Seconds between looks."
)
@json_option
def tree(watch: bool, interval: float, as_json: bool) -> int:
    """Show the supervision tree: who supervises whom, as which process, restarted how often.

    Under it, and with --json in the row of each as `lm`: what the language models are doing that are asked now.
    Requests in flight, the share of each limit that is used, the circuit, and what it has cost since the node started.
    """
    if watch and not as_json:
        with attached() as node:
            return _watch(node, interval)
    with attached() as node:
        found, names, lms = _look(node, fresh=True)
    if as_json:
        print_json(found)
    else:
        out = console()
        show_tree(out, found, names)
        show_lms(out, lms)
    return DONE if all(row["state"] == "running" for row, _ in walk(found)) else FAILED


def _look(node: Node, *, fresh: bool = False) -> tuple[dict[str, Any], dict[int, str], list[dict[str, Any]]]:
    found = node.tree()
    measure(found)
    rows, lms = [row for row, _ in walk(found)], []
    if any(str(row["id"]).startswith(CLIENT) for row in rows):
        from dspex_actors.cli.lm_now import add_lms

        lms = add_lms(node, rows, fresh=fresh)
    return found, {ref.pid: name for name, ref in node.names().items()}, lms


def show_lms(out: Console, lms: list[dict[str, Any]]) -> None:
    """Print what language models are doing, if there are any."""
    if lms:
        from dspex_actors.cli.lm_now import page

        out.print()
        out.print(page(lms))


def _watch(node: Node, interval: float) -> int:
    from dspex_actors.cli.screen import Sampler, Screen

    sampler, lights = Sampler(lambda: _look(node), interval), Lights()
    with Screen() as screen:
        while True:
            found, names, lms = sampler.latest
            out = Console(highlight=False, force_terminal=True, width=screen.size[0])
            with out.capture() as captured:
                show_tree(out, found, names, lights.see(found, time.monotonic()))
                show_lms(out, lms)
            title, *body = captured.get().splitlines()
            screen.draw([title], body, ["", footer(sampler, "q quits  ↑↓ scroll", out.width)])
            if screen.key(interval) == "q":
                return DONE
