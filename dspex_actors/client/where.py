"""Which nodes of a cluster may work for a run: `requires` and `nodes`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dspex_actors.errors import ConfigError
from supervisors import Node
from supervisors.cluster.handle import Cluster

_MANY = 20


def check_where(node: Node, requires: Any, nodes: Any) -> dict[str, Any]:
    """Return the settings of a run for where it is done; none where all nodes may work for it.

    Args:
        node: who is asked for the nodes that there are.
        requires: labels that a node must have, name → text.
        nodes: names of nodes.

    Raises:
        ConfigError: one of them is something else, or no node is there that fits.
    """
    if requires is None and nodes is None:
        return {}
    settings: dict[str, Any] = {}
    if requires is not None:
        if not isinstance(requires, Mapping) or not all(
            isinstance(part, str) for each in requires.items() for part in each
        ):
            raise ConfigError(
                f"requires is invalid: got {requires!r:.100}, expected names and texts, as {{'gpu': '1'}}"
            )
        settings["requires"] = dict(requires)
    members = Cluster(node).members()
    if nodes is not None:
        names = [member.name for member in members]
        if isinstance(nodes, str) or not isinstance(nodes, Sequence) or not nodes:
            raise ConfigError(f"nodes is invalid: got {nodes!r:.100}, expected a list of names of nodes")
        strangers = [name for name in nodes if name not in names]
        if strangers:
            raise ConfigError(f"nodes is invalid: got {strangers[0]!r:.100}, expected names of {_some(names)}")
        settings["nodes"] = list(nodes)
    fit = [member for member in members if nodes is None or member.name in nodes]
    if requires and not any(member.is_up and member.fits(dict(requires)) for member in fit):
        there = sorted({f"{name}={text}" for member in fit for name, text in member.labels.items()})
        wanted = ", ".join(f"{name}={text}" for name, text in requires.items())
        raise ConfigError(
            f"requires is invalid: got {wanted}, expected labels that a node has ({_some(there) or 'none has any'}): "
            "dspex start --label NAME=TEXT"
        )
    return settings


def _some(names: list[str]) -> str:
    return ", ".join(names[:_MANY]) + (" and more" if len(names) > _MANY else "")
