"""`dspex cost`: what was paid, and for what."""

from __future__ import annotations

import time
from typing import Any

import click
from rich.text import Text

from dspex_actors.cli.failures import Since
from dspex_actors.cli.output import console, json_option, print_json, printable, show, table
from dspex_actors.cli.shell import DONE
from dspex_actors.client.costs import BY, costs


@click.command()
@click.option(
    "--by", default="model", show_default=True, metavar="NAMES", help=f"By {', '.join(BY)}; several with commas."
)
@click.option("--since", type=Since(), metavar="WHEN", help="Only since then: 90m, 2h, 3d ago, or a time; by the hour.")
@json_option
def cost(by: str, since: float | None, as_json: bool) -> int:
    """Show what LM calls have cost, of all runs and single calls under DSPEX_HOME.

    Requests whose price is unknown are counted apart, and are not in the sum; so are answers that a cache gave.
    """
    found = costs(by, since)
    if as_json:
        print_json(found)
        return DONE
    if not found["rows"]:
        console().print("nothing was asked" + ("" if since is None else " since then"))
        return DONE
    right: dict[str, Any] = {"justify": "right", "no_wrap": True}
    figures = ("requests", "answered", "failed", "tokens in", "out", "cost")
    rare = [name for name in ("given_up", "unpriced", "cached", "saved") if found["total"][name]]
    names = found["by"]
    columns = [name.replace("_", " ") for name in (*figures, *rare)]
    page = table(*((name, {"overflow": "fold"}) for name in names), *((name, right) for name in columns))
    for row in found["rows"]:
        page.add_row(*(_name(row[name]) for name in names), *_figures(row, rare))
    if len(found["rows"]) > 1:
        page.add_row(Text("total", style="bold"), *[""] * (len(names) - 1), *_figures(found["total"], rare))
    show(page)
    if found["since"]:
        console().print(f"since {found['since']} ({_ago(since)})", style="dim")
    for note in found["notes"]:
        console().print(note, style="dim")
    return DONE


def _name(value: str | None) -> Text:
    return Text("–", style="dim") if value is None else Text(printable(value), style="bold")


def _figures(row: dict[str, Any], rare: list[str]) -> list[str]:
    usage = row["usage"]
    cached = usage["cache_read"]
    shown = [f"{row['requests']:,}", f"{row['answered']:,}", f"{row['failed']:,}"]
    shown += [
        f"{usage['input_total']:,}" + (f" ({cached:,} from cache)" if cached else ""),
        f"{usage['output_total']:,}",
        f"${row['cost']:,.4f}" if row["cost"] or not row["unpriced"] else "unknown",
    ]
    return shown + [f"${row[name]:,.4f}" if name == "saved" else f"{row[name]:,}" for name in rare]


def _ago(since: float | None) -> str:
    hours = 0.0 if since is None else (time.time() - since) / 3600
    return f"{hours:,.0f} h" if hours < 48 else f"{hours / 24:,.0f} d"
