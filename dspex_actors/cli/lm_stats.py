"""`dspex lm stats`: what requests to each language model came to since the node started."""

from __future__ import annotations

from typing import Any

import click
from rich.text import Text

from dspex_actors.cli.lm_figures import by_model
from dspex_actors.cli.look import attached
from dspex_actors.cli.output import json_option, print_json, printable, show, table
from dspex_actors.cli.shell import DONE
from dspex_actors.foundation.durations import duration_text
from dspex_actors.observe.telemetry.face import ask
from dspex_actors.observe.telemetry.messages import Read


@click.command()
@click.argument("model", default="")
@json_option
def stats(model: str, as_json: bool) -> int:
    """Show requests, errors, latency, tokens and cost of each model, or of those that begin with MODEL.

    Requests are counted, not calls: a call that is tried again is more than one. What a cache answered is none.
    """
    with attached() as node:
        found = {**ask(node, Read("lm.request.")), **ask(node, Read("rate_limiter."))}
    rows = [row for row in by_model(found) if row["model"].startswith(model)]
    if as_json:
        print_json(rows)
    elif not rows:
        show(Text(f"no model that begins with {model!r} was asked" if model else "no model has been asked yet"))
    else:
        show(_page(rows))
    return DONE


def _page(rows: list[dict[str, Any]]) -> Any:
    right: dict[str, Any] = {"justify": "right", "no_wrap": True}
    given_up = any(row["given_up"] for row in rows)
    figures = (
        "requests",
        "errors",
        *(["given up"] if given_up else []),
        "p50",
        "p99",
        "first piece",
        "waited p90",
        "tokens in",
        "out",
        "cost",
    )
    page = table(("model", {"overflow": "fold"}), *((name, right) for name in figures))
    for row in rows:
        failed = sum(row["errors"].values())
        page.add_row(
            Text(printable(row["model"]), style="bold"),
            f"{row['requests']:,}",
            Text(f"{failed:,}", style="red" if failed else "dim"),
            *([f"{row['given_up']:,}"] if given_up else []),
            seconds(row["latency"], "p50"),
            seconds(row["latency"], "p99"),
            seconds(row["first_piece"], "p50"),
            seconds(row["waited"], "p90"),
            f"{row['input_tokens']:,}",
            f"{row['output_tokens']:,}",
            dollars(row["cost"]),
        )
        if failed:
            told = ", ".join(f"{printable(name)} {count:,}" for name, count in sorted(row["errors"].items()))
            page.add_row(Text(f"  {told}", style="dim"))
    return page


def seconds(quantiles: dict[str, float] | None, which: str) -> str:
    """Return a quantile as people say it; nothing where none was measured."""
    if quantiles is None:
        return ""
    value = quantiles[which]
    return f"{value * 1000:.0f} ms" if value < 1 else duration_text(value)


def dollars(cost: float | None) -> str:
    """Return a cost in USD, or that nobody knows it."""
    return "?" if cost is None else f"${cost:,.2f}" if cost >= 1 or cost == 0 else f"${cost:.2g}"
