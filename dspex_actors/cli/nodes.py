"""`dspex nodes`, `drain`, `cordon` and `uncordon`: the members of the cluster."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
from rich.cells import cell_len
from rich.text import Text

from dspex_actors.cli.look import attached
from dspex_actors.cli.node import STOP_SECONDS
from dspex_actors.cli.output import console, json_option, print_json, show, state_text, table
from dspex_actors.cli.processes import wait_until_gone
from dspex_actors.cli.shell import DONE, FAILED
from dspex_actors.foundation.durations import duration_text
from supervisors.cluster.handle import Cluster
from supervisors.cluster.membership.messages import ALIVE, CORDONED, DOWN, DRAINING, SUSPECT, Member
from supervisors.errors import CallTimeout, NodeDown, NoProcess, NotAllowed

#: A node that is being drained is looked at this often, in seconds.
LOOK_SECONDS = 0.25


@click.command()
@json_option
def nodes(as_json: bool) -> int:
    """List the members of the cluster. Exit status 0: all are up; 1: one is suspect or down."""
    with attached() as node:
        found = Cluster(node).members()
    if as_json:
        print_json([row_of(member) for member in found])
    else:
        _show(found)
    return FAILED if any(member.state in (SUSPECT, DOWN) for member in found) else DONE


def row_of(member: Member) -> dict[str, Any]:
    """Return a member as `--json` has it."""
    return {
        "name": member.name,
        "address": member.address,
        "state": member.state,
        "role": member.role,
        "labels": dict(member.labels),
        "workers": member.workers,
        "work": member.work,
        "load": member.load,
        "last_beat": round(member.last_beat, 3),
        "incarnation": member.incarnation,
        "version": member.version,
        "uid": member.uid,
        "notes": list(member.notes),
    }


#: What `dspex nodes` shows of each; and what goes first where the terminal is too narrow for all of it.
_COLUMNS = ("name", "state", "role", "address", "workers", "load", "labels", "last beat", "version")
_LEAST = ("version", "load", "workers", "last beat", "role", "labels")
_NUMBERS = ("workers", "load", "last beat")


def _show(found: list[Member]) -> None:
    rows = [_cells(member) for member in found]
    columns = list(_COLUMNS)
    for least in _LEAST:
        if _width(columns, rows) <= console().width:
            break
        columns.remove(least)
    # Names and addresses are copied from here into commands: no terminal is so narrow that they are cut.
    shown = table(*((name, _look_of(name, rows)) for name in columns))
    for row in rows:
        shown.add_row(*(row[name] for name in columns))
    show(shown)
    for member in found:
        for note in member.notes:
            console().print(Text(f"  {member.name}: {note}", style="yellow"))


def _width(columns: list[str], rows: list[dict[str, Text]]) -> int:
    """Return how many columns of the terminal these take, with two between each."""
    return sum(2 + max(cell_len(name), *(row[name].cell_len for row in rows)) for name in columns)


def _look_of(name: str, rows: list[dict[str, Text]]) -> dict[str, Any]:
    least = max(row[name].cell_len for row in rows) if name in ("name", "address") else None
    return {"justify": "right" if name in _NUMBERS else "left", "min_width": least}


def _cells(member: Member) -> dict[str, Text]:
    return {
        "name": Text(member.name, style="bold"),
        "state": state_text(member.state),
        "role": Text(member.role),
        "address": Text(member.address),
        "workers": Text(str(member.workers) if member.workers else "–"),
        "load": Text(f"{member.load:.2f}"),
        "labels": Text(" ".join(f"{key}={value}" for key, value in sorted(member.labels.items()))),
        "last beat": Text(f"{duration_text(member.last_beat, 0)} ago" if member.last_beat else "now"),
        "version": Text(member.version),
    }


@click.command()
@click.argument("name", metavar="NODE")
@json_option
def cordon(name: str, as_json: bool) -> int:
    """Give a node no new work; what it has goes on."""
    return _order(name, CORDONED, as_json)


@click.command()
@click.argument("name", metavar="NODE")
@json_option
def uncordon(name: str, as_json: bool) -> int:
    """Give a node work again that was cordoned, or is being drained."""
    return _order(name, ALIVE, as_json)


def _order(name: str, state: str, as_json: bool) -> int:
    with attached() as node:
        member = Cluster(node).order(name, state)
    if as_json:
        print_json(row_of(member))
    else:
        console().print(f"The node {member.name} is {member.state}.")
    return DONE


@click.command()
@click.argument("name", metavar="NODE")
@click.option("--timeout", type=click.FloatRange(0), metavar="S", help="Give up after so many seconds.")
@json_option
def drain(name: str, timeout: float | None, as_json: bool) -> int:
    """Have a node finish what it has, hand over what is left, leave the cluster and stop.

    Exit status 2 where the time is up: it goes on draining, and `dspex uncordon` takes that back.
    """
    began = time.monotonic()
    with attached() as node:
        cluster, here = Cluster(node), node.info
        member = cluster.order(name, DRAINING)
        while (why := _still_there(cluster, member)) is not None:
            if timeout is not None and time.monotonic() - began > timeout:
                raise click.ClickException(f"not within {timeout:g} s: {why}; it goes on draining")
            time.sleep(LOOK_SECONDS)
    if member.name == here["name"]:  # whoever drains the node that is here does something with this host then
        wait_until_gone(Path(here["data_dir"]), here["pid"], STOP_SECONDS)
    seconds = round(time.monotonic() - began, 2)
    if as_json:
        print_json(row_of(member) | {"state": "left", "seconds": seconds})
    else:
        console().print(f"[bold]○ The node {member.name} has left the cluster and stops.[/] [dim]{seconds:.1f} s[/]")
    return DONE


def _still_there(cluster: Cluster, member: Member) -> str | None:
    """Ask a node to leave; return why it does not yet, or None where it does or is gone."""
    try:
        cluster.leave(member.uid)
    except (NotAllowed, CallTimeout) as error:
        return str(error)
    except (NodeDown, NoProcess):
        return None  # it is gone by now
    return None
