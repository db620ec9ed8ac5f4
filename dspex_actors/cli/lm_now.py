"""What each language model of a node is doing now, for `dspex tree`: in flight, used of its limits, circuit, cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from dspex_actors.cli.lm_list import circuit_text, deployments
from dspex_actors.cli.lm_stats import dollars
from dspex_actors.cli.output import printable, table
from dspex_actors.names import WORKERS
from dspex_actors.observe.telemetry.face import ask
from dspex_actors.observe.telemetry.messages import Read
from supervisors import Node
from supervisors.errors import SupervisorsError

#: A worker has this long to say what it has in flight, in seconds.
ASK_SECONDS = 1.0


def add_lms(node: Node, rows: list[dict[str, Any]], *, fresh: bool = True) -> list[dict[str, Any]]:
    """Give the rows of a tree that are LMs a key `lm`: what that one is doing. Nobody is asked where there is none.

    Args:
        node: whose tree it is.
        rows: of the tree, all of them.
        fresh: have the cost of this moment; else it may be a second old.

    Returns:
        What was added: a dict each of model, deployment, in_flight (None: no worker said), waiting, limits, used (limit
        → share from 0 to 1), learnt, circuit (None: it has none), cost (USD; None: no price is known).
    """
    clients = {str(row["id"]): row for row in rows if str(row["id"]).startswith("client:")}
    if not clients:
        return []
    found, flying, paid = deployments(node), _in_flight(node), _paid(node, fresh=fresh)
    added = []
    for told in found:
        deployment = told["deployment"]
        if (row := clients.get(f"client:{deployment}")) is not None:
            row["lm"] = lm_of(told, None if flying is None else flying.get(deployment, 0), paid.get(deployment))
            added.append(row["lm"])
    return added


def lm_of(told: Mapping[str, Any], in_flight: int | None, cost: float | None) -> dict[str, Any]:
    """Return what one LM is doing, from what its client actor tells. Pure."""
    circuit = told.get("circuit")
    return {
        "model": told["model"],
        "deployment": told["deployment"],
        "in_flight": in_flight,
        "waiting": told["waiting"],
        "limits": told["limits"],
        "used": {
            name: round(min(1.0, max(0.0, 1.0 - bucket["free"] / bucket["limit"])), 4) if bucket["limit"] else 1.0
            for name, bucket in told["used"].items()
        },
        "learnt": told["learnt"],
        "circuit": circuit["state"] if isinstance(circuit, Mapping) else circuit,
        "cost": cost,
    }


def page(lms: list[dict[str, Any]]) -> Any:
    """Return them as a table."""
    right: dict[str, Any] = {"justify": "right", "no_wrap": True}
    shown = table(
        ("model", {"overflow": "fold"}), "deployment", ("in flight", right), ("waiting", right),
        ("used of limits", {"overflow": "fold"}), "circuit", ("cost so far", right),
    )  # fmt: skip
    for one in lms:
        used = ", ".join(f"{printable(name)} {share:.0%}" for name, share in one["used"].items())
        shown.add_row(
            Text(printable(str(one["model"])), style="bold"),
            Text(one["deployment"][:8], style="dim"),
            "?" if one["in_flight"] is None else f"{one['in_flight']:,}",
            f"{one['waiting']:,}",
            Text(used) if used else Text("no limit", style="dim"),
            circuit_text(one["circuit"]),
            dollars(one["cost"]),
        )
    return shown


def _in_flight(node: Node) -> dict[str, int] | None:
    """Return how many requests to each deployment are under way, as the workers say; None: none of them does."""
    found: dict[str, int] = {}
    has_said = False
    try:
        children = node.which_children(WORKERS)
    except SupervisorsError:
        return None  # the branch is being restarted
    for child in children:
        try:
            told = node.call(child.ref, "in flight", ASK_SECONDS) if child.ref is not None else None
        except SupervisorsError:
            continue
        for deployment, count in (told or {}).items():
            found[deployment] = found.get(deployment, 0) + count
        has_said = has_said or told is not None
    return found if has_said else None


def _paid(node: Node, *, fresh: bool) -> dict[str, float]:
    name = "lm.request.cost"
    series = ask(node, Read(name, fresh)).get(name, ())
    paid: dict[str, float] = {}
    for each in series:
        deployment = each["tags"].get("deployment")
        if each["count"] and deployment is not None:
            paid[deployment] = paid.get(deployment, 0.0) + each["sum"]
    return paid
