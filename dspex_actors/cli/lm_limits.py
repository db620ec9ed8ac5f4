"""`dspex lm limits`: how fast each language model may be asked, as it was told and as it was learnt."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import click
from rich.text import Text

from dspex_actors.cli.lm_list import deployments
from dspex_actors.cli.look import attached
from dspex_actors.cli.output import json_option, print_json, printable, show, table
from dspex_actors.cli.shell import DONE, FAILED
from dspex_actors.foundation.durations import duration_text
from dspex_actors.foundation.home import default_data_dir
from dspex_actors.lm.control.memory import all_learnt
from dspex_actors.lm.control.messages import ForgetLearnt
from supervisors.errors import NodeDown, SupervisorsError

#: Names of buckets that are no limits which somebody has told.
_LEARNT = "learnt"


@click.command()
@click.option("--forget", metavar="MODEL", help="Forget what was learnt of MODEL, as 'openai/gpt-4o', or of 'all'.")
@json_option
def limits(forget: str | None, as_json: bool) -> int:
    """Show the limits of each model: those told, how much of them is free now, and the rate that was learnt.

    What was learnt is remembered, and is shown without a node, too. Exit status 1: there is nothing to --forget.
    """
    rows = _rows()
    if forget is not None:
        rows = [row for row in rows if row["learnt"] and forget in (row["model"], "all")]
        _forget(rows)
    if as_json:
        print_json(rows)
    elif forget is not None:
        names = ", ".join(sorted({str(row["model"]) for row in rows}))
        show(Text(f"forgotten: what was learnt of {names}" if rows else f"nothing was learnt of {forget!r}"))
    elif not rows:
        show(Text("no limits: none is told by an LM that is asked now, and none was learnt"))
    else:
        show(_page(rows))
    return DONE if rows or forget is None else FAILED


def _rows() -> list[dict[str, Any]]:
    """Return a row for each deployment that is asked now, or of which something was learnt."""
    found: dict[str, dict[str, Any]] = {}
    for file, learnt in all_learnt(default_data_dir(), time.time()):
        key = file.name.partition(".")[0][:16]
        row = {"model": learnt.pop("model"), "deployment": key, "told": {}, "used": {}, "waiting": 0}
        found[key] = {**row, "learnt": learnt}
    with contextlib.suppress(NodeDown), attached() as node:
        for told in deployments(node):
            key = told["deployment"]
            row = found.setdefault(key, {"model": told["model"], "deployment": key, "learnt": None})
            row |= {"told": told["limits"], "used": told["used"], "waiting": told["waiting"]}
            if told["learnt"] is not None:
                row["learnt"] = {"limit": None, "at": time.time(), **(row["learnt"] or {}), "rate": told["learnt"]}
    rows = [row for row in found.values() if row["learnt"] or row["told"] or row["used"]]
    return sorted(rows, key=lambda row: (str(row["model"]), row["deployment"]))


def _forget(rows: list[dict[str, Any]]) -> None:
    keys = {row["deployment"] for row in rows}
    for file, _ in all_learnt(default_data_dir(), time.time()):
        if file.name.partition(".")[0][:16] in keys:
            file.unlink(missing_ok=True)
    with contextlib.suppress(NodeDown, SupervisorsError), attached() as node:
        for key in keys:
            node.cast(f"client:{key}", ForgetLearnt(key))


def _page(rows: list[dict[str, Any]]) -> Any:
    right: dict[str, Any] = {"justify": "right", "no_wrap": True}
    page = table(("model", {"overflow": "fold"}), "deployment", "told", "free now", "learnt", ("waiting", right))
    for row in rows:
        learnt = row["learnt"]
        told = ", ".join(f"{name} {value:,g}" for name, value in row["told"].items())
        free = ", ".join(
            f"{printable(name)} {bucket['free']:,.0f}" for name, bucket in row["used"].items() if name != _LEARNT
        )
        page.add_row(
            Text(printable(str(row["model"])), style="bold"),
            row["deployment"],
            Text(told or "–"),
            Text(free or "–"),
            Text(_learnt(learnt) if learnt else "–"),
            f"{row['waiting']:,}",
        )
    return page


def _learnt(learnt: dict[str, Any]) -> str:
    rate = learnt["rate"]
    text = f"{rate:,.3g} a second" if rate >= 1 else f"{60 * rate:,.3g} a minute"
    ago = time.time() - float(learnt["at"])
    return text if ago < 60 else f"{text}, {duration_text(ago)} ago"
