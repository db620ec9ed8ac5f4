"""What a node that only works has not: a journal, runs, evaluators. Programs need a full node."""

from __future__ import annotations

from dspex_actors.errors import ConfigError
from supervisors.host.node_config import WORKER


def check_full(role: str, name: str) -> None:
    """Refuse to work with a node that only works.

    Args:
        role: of the node.
        name: its name.

    Raises:
        ConfigError: it is a worker.
    """
    if role == WORKER:
        raise ConfigError(
            f"the node {name} only works (--role worker): it has no journal and starts no runs; do this on the host of "
            "a full node of its cluster (`dspex nodes` shows which are)"
        )
