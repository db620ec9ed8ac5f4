"""`dspex nodes`, `drain`, `cordon` and `uncordon`: the members of the cluster."""

from __future__ import annotations

import time
from typing import Any

import click
from rich.text import Text

from dspex_actors.cli.look import attached
from dspex_actors.cli.output import console, json_option, print_json, show, state_text, table
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


def _show(found: list[Member]) -> None:
    right = {"justify": "right"}
    # Names and addresses are copied from here into commands: a narrow terminal must not cut them.
    named = {"min_width": max((len(member.name) for member in found), default=0)}
    whole = {"min_width": max((len(member.address) for member in found), default=0)}
    shown = table(
        ("name", named),
        "state",
        "role",
        ("address", whole),
        ("workers", right),
        ("load", right),
        "labels",
        ("last beat", right),
        "version",
    )
    for member in found:
        shown.add_row(
            Text(member.name, style="bold"),
            state_text(member.state),
            member.role,
            member.address,
            str(member.workers) if member.workers else "–",
            f"{member.load:.2f}",
            Text(" ".join(f"{key}={value}" for key, value in sorted(member.labels.items()))),
            f"{duration_text(member.last_beat, 0)} ago" if member.last_beat else "now",
            member.version,
        )
    show(shown)
    for member in found:
        for note in member.notes:
            console().print(Text(f"  {member.name}: {note}", style="yellow"))


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
        cluster = Cluster(node)
        member = cluster.order(name, DRAINING)
        while (why := _still_there(cluster, member)) is not None:
            if timeout is not None and time.monotonic() - began > timeout:
                raise click.ClickException(f"not within {timeout:g} s: {why}; it goes on draining")
            time.sleep(LOOK_SECONDS)
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
