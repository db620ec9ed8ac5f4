"""`dspex services`: who does what on the node, and how each is."""

from __future__ import annotations

import click
from rich.text import Text

from dspex_actors.cli.look import attached
from dspex_actors.cli.output import json_option, print_json, printable, show, table
from dspex_actors.cli.shell import DONE, FAILED
from dspex_actors.foundation.durations import duration_text
from dspex_actors.services.handle import OK, SLOW, NodeServices

_STYLES = {OK: "green", SLOW: "yellow"}


@click.command()
@click.argument("namespace", required=False)
@json_option
def services(namespace: str | None, as_json: bool) -> int:
    """List the services of the node, or those of one NAMESPACE, and ask each how it is.

    Exit status 1 when one of them does not answer, or says that it is not well.
    """
    with attached() as node:
        found = NodeServices(node).health(namespace)
    if as_json:
        print_json(
            [
                {
                    "namespace": one.namespace,
                    "name": one.name,
                    "state": one.state,
                    "latency": one.latency,
                    "why": one.why,
                    "pid": one.ref.pid,
                    "metadata": one.metadata,
                }
                for one in found
            ]
        )
    else:
        page = table("service", "state", ("answers in", {"justify": "right"}), ("pid", {"justify": "right"}), "what")
        for one in found:
            page.add_row(
                Text(printable(f"{one.namespace}/{one.name}"), style="bold"),
                Text(one.state, style=_STYLES.get(one.state, "red")),
                "–" if one.latency is None else duration_text(one.latency),
                str(one.ref.pid),
                Text(printable(one.why or _what(one.metadata))),
            )
        show(page)
    return DONE if all(one.state in _STYLES for one in found) else FAILED


def _what(metadata: dict[str, object]) -> str:
    told = [str(metadata[key]) for key in ("what", "model") if key in metadata]
    capabilities = metadata.get("capabilities")
    if isinstance(capabilities, list) and capabilities:
        told.append(", ".join(map(str, capabilities)))
    return "; ".join(told)
