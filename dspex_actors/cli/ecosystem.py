"""`dspex ecosystem`: the ecosystems of this host's node, and what their members do."""

from __future__ import annotations

from typing import Any

import click
from rich.text import Text

from dspex_actors.cli.look import attached
from dspex_actors.cli.output import counted, json_option, print_json, show, state_text, table
from dspex_actors.cli.shell import DONE, FAILED, LazyGroup
from dspex_actors.ecosystem.handle import EcosystemHandle, list_ecosystems, member_rows
from dspex_actors.ecosystem.inference.handle import InferenceEcosystem, find_any
from dspex_actors.ecosystem.naming import Place
from dspex_actors.foundation.durations import duration_text
from supervisors import ChildInfo, Node
from supervisors.errors import NoProcess

_HERE = "dspex_actors.cli.ecosystem"


@click.group(
    cls=LazyGroup,
    lazy={
        "list": (f"{_HERE}:list_all", "which there are"),
        "show": (f"{_HERE}:show_one", "the members of one, and what an inference ecosystem has counted"),
    },
)
def ecosystem() -> None:
    """See the ecosystems of this host's node: actors that serve one thing together."""


@click.command("list")
@json_option
def list_all(as_json: bool) -> int:
    """List the ecosystems. Exit status 1: a member of one does not run."""
    with attached() as node:
        found = [_about(node, place.kind, place.id) for place in list_ecosystems(node)]
    if as_json:
        print_json(found)
    elif not found:
        click.echo("no ecosystem runs: system.ecosystem(program) and system.spawn_ecosystem(...) start one")
    else:
        rows = table("kind", "id", "members", ("restarts", {"justify": "right"}))
        for one in found:
            away = [row["role"] for row in one["members"] if row["state"] != "running"]
            members = Text(counted(len(one["members"]), "member"))
            members.append(f", away: {', '.join(away)}" if away else "", style="yellow")
            rows.add_row(one["kind"], Text(one["id"], style="bold"), members, str(_restarts(one)))
        show(rows)
    return _status(found)


@click.command("show")
@click.argument("kind")
@click.argument("id_", metavar="[ID]", required=False)
@json_option
def show_one(kind: str, id_: str | None, as_json: bool) -> int:
    """Show the members of the ecosystem KIND ID, or KIND:ID. Exit status 1: one does not run."""
    if id_ is None:  # as messages and names write it
        kind, _, id_ = kind.partition(":")
    with attached() as node:
        handle = find_any(node, (kind, id_))
        found = _about(node, kind, id_) | {"stats": _stats(handle)}
    if as_json:
        print_json(found)
        return _status([found])
    rows = table("role", "state", ("pid", {"justify": "right"}), ("restarts", {"justify": "right"}), "counted")
    for row in found["members"]:
        stats = (found["stats"] or {}).get(row["role"])
        rows.add_row(
            Text(row["role"], style="bold"),
            state_text(row["state"]),
            str(row["pid"] or "–"),
            str(row["restarts"]),
            "" if stats is None else ", ".join(_words(stats)),
        )
    show(rows)
    return _status([found])


def _about(node: Node, kind: str, id_: str) -> dict[str, Any]:
    try:
        members = [_member(row) for row in member_rows(node, Place(kind, id_))]
    except NoProcess:  # it has ended meanwhile
        members = []
    return {"kind": kind, "id": id_, "members": members}


def _member(row: ChildInfo) -> dict[str, Any]:
    return {"role": row.id, "state": row.state, "pid": row.pid, "restarts": row.restarts}


def _stats(handle: EcosystemHandle) -> dict[str, Any] | None:
    return handle.stats() if isinstance(handle, InferenceEcosystem) else None


def _restarts(one: dict[str, Any]) -> int:
    return sum(row["restarts"] for row in one["members"])


def _status(found: list[dict[str, Any]]) -> int:
    return DONE if all(row["state"] == "running" for one in found for row in one["members"]) else FAILED


def _words(stats: dict[str, Any]) -> list[str]:
    """Return counts as people read them: what is not zero. A name with a dot is a metric, as alerts have it."""
    return [
        f"{name if '.' in name else name.replace('_', ' ')} {_figure(name, value)}"
        for name, value in stats.items()
        if isinstance(value, int | float) and value
    ]


def _figure(name: str, value: float) -> str:
    if name.startswith("latency."):
        return duration_text(value)
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}"
