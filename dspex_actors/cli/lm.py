"""`dspex lm`: language models as the node knows them. Each command is in a file of its own."""

from __future__ import annotations

import click

from dspex_actors.cli.shell import LazyGroup

_HERE = "dspex_actors.cli"


@click.group(
    cls=LazyGroup,
    lazy={
        "list": (f"{_HERE}.lm_list:list_lms", "those that the node has asked; --capabilities: what models can do"),
        "test": (f"{_HERE}.lm_test:test", "ask one for a word: key, address, price and speed in one look"),
        "limits": (f"{_HERE}.lm_limits:limits", "how fast each may be asked: told and learnt; --forget MODEL"),
        "stats": (f"{_HERE}.lm_stats:stats", "requests, errors, latency, tokens and cost of each"),
    },
)
def lm() -> None:
    """Look at language models: what they are asked, how they answer, what they can do."""
