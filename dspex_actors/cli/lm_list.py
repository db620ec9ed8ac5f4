"""`dspex lm list`: which language models the node asks now, and what models can do."""

from __future__ import annotations

from typing import Any

import click
from rich.text import Text

from dspex_actors.cli.look import attached
from dspex_actors.cli.output import json_option, print_json, printable, show, table
from dspex_actors.cli.shell import DONE
from dspex_actors.lm.capabilities import capabilities_of
from dspex_actors.names import CLIENTS
from supervisors import Node
from supervisors.errors import SupervisorsError

#: What the client actor of a deployment has this long to tell, in seconds.
ASK_SECONDS = 2.0


@click.command("list")
@click.option("--capabilities", is_flag=True, help="What each can do, as far as it is known.")
@click.argument("models", nargs=-1)
@json_option
def list_lms(models: tuple[str, ...], capabilities: bool, as_json: bool) -> int:
    """List the models that the node has asked lately: workers that are connected, limits, circuit, requests.

    With --capabilities, what each can do; also of MODELS that nobody has asked, which needs no node.
    """
    if models and not capabilities:
        raise click.UsageError("MODELS are for --capabilities: `dspex lm list --capabilities openai/gpt-4o`")
    if models:
        rows = [{"model": model} for model in models]
    else:
        with attached() as node:
            rows = deployments(node)
    if capabilities:
        rows = [{"model": model, **_able(model)} for model in dict.fromkeys(row["model"] for row in rows)]
    if as_json:
        print_json(rows)
    elif not rows:
        show(Text("no model is asked now: one is listed from its first call until a minute after its last"))
    else:
        show(_abilities(rows) if capabilities else _page(rows))
    return DONE


def deployments(node: Node) -> list[dict[str, Any]]:
    """Return what the client actor of each deployment that is asked now tells of it."""
    rows: list[dict[str, Any]] = []
    if node.whereis(CLIENTS) is None:
        return []  # no LM was asked since the node started
    for child in node.which_children(CLIENTS):
        if child.name is None or not str(child.name).startswith("client:"):
            continue
        try:
            told = node.call(child.name, "stats", ASK_SECONDS)
        except SupervisorsError:
            continue  # it has just ended, or is being restarted
        rows.append({"deployment": str(child.name).removeprefix("client:"), **told})
    return sorted(rows, key=lambda row: str(row["model"]))


def _page(rows: list[dict[str, Any]]) -> Any:
    right: dict[str, Any] = {"justify": "right", "no_wrap": True}
    page = table(
        ("model", {"overflow": "fold"}), "deployment", "limits", "circuit", ("workers", right), ("answered", right)
    )
    for row in rows:
        limits = ", ".join(f"{name} {value:,g}" for name, value in row["limits"].items() if value is not None)
        shown = Text(limits) if limits else Text("none told", style="dim")
        if limits and row.get("waits_for"):  # in a cluster: nobody gives turns now
            shown = Text(f"{limits}: waits, {printable(str(row['waits_for']))}", style="yellow")
        page.add_row(
            Text(printable(str(row["model"])), style="bold"),
            Text(row["deployment"][:8], style="dim"),
            shown,
            circuit_text(row.get("circuit")),
            str(row["workers"]),
            f"{int(row.get('answered', 0)):,}",
        )
    return page


def circuit_text(told: Any) -> Text:
    """Return the state of a circuit in its colour."""
    state = told.get("state") if isinstance(told, dict) else told
    styles = {"closed": "green", "open": "red", "half_open": "yellow"}
    return Text(str(state), style=styles.get(str(state), "")) if state else Text("–", style="dim")


def _able(model: str) -> dict[str, Any]:
    provider, _, name = model.partition("/")
    return capabilities_of(provider, name).to_dict()


def _abilities(rows: list[dict[str, Any]]) -> Any:
    page = table(("model", {"overflow": "fold"}), "can", ("takes", {"overflow": "fold"}))
    for row in rows:
        can = [name.replace("_", " ") for name, value in row.items() if value is True]
        page.add_row(
            Text(printable(row["model"]), style="bold"),
            ", ".join(can) or Text("nothing beside text is known", style="dim"),
            Text(", ".join(row["params"]), style="dim"),
        )
    return page
