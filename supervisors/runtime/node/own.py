"""What a node itself consists of, by its role: what is loaded before the first fork, and the root's first children."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from supervisors.cluster.branch import branches
from supervisors.host.node_config import WORKER
from supervisors.terms.spec import ChildSpec

#: What every node has loaded before its first fork: hosts of servers, the transport, and what Python loads at the first
#: look-up of a host.
_HOSTS = (
    "encodings.idna",
    "supervisors.runtime.thespian.supervisor",
    "supervisors.runtime.thespian.system",
    "supervisors.runtime.thespian.patches",
    "multiprocessing.popen_fork",
)
#: The same, of a full node: also its own servers, and what servers import of this package.
PRELOADED = (
    *_HOSTS,
    "supervisors.runtime.node.door",
    "supervisors.runtime.node.registry",
    "supervisors.application.controller",
    "supervisors.application.handle",
    "supervisors.client.node",
    "supervisors.cluster.leases.server",
    "supervisors.groups.server",
    "supervisors.partition.handle",
    "supervisors.pool.handle",
    "supervisors.pool.server",
    "supervisors.registry.handle",
    "supervisors.registry.server",
    "supervisors.tasks.inside",
    "supervisors.tasks.outside",
    "supervisors.tasks.server",
)
#: The same, of a node that only works: a server that needs more loads it for itself.
PRELOADED_BY_WORKER = (*_HOSTS, "supervisors.runtime.node.front")
#: What a restart of the root's children costs little, they may do often; then the daemon starts the whole node anew. In
#: a node that only works there is no branch between the root and what users run.
INTENSITY, INTENSITY_OF_WORKER = 20, 50


def preloaded(role: str) -> tuple[str, ...]:
    """Return the modules that a node of this role loads before its first fork."""
    return PRELOADED_BY_WORKER if role == WORKER else PRELOADED


def intensity(role: str) -> int:
    """Return how often children of the root may fall within its period."""
    return INTENSITY_OF_WORKER if role == WORKER else INTENSITY


def own_children(
    node: Mapping[str, Any], listening: int, join: str | None, app: Sequence[ChildSpec]
) -> list[ChildSpec]:
    """Return the children of the root, in start order.

    Args:
        node: what the daemon says of the node.
        listening: descriptor of the door's socket.
        join: "host:port" of a node whose cluster is joined; None: that which it belongs to, if any.
        app: the children that the application wants. Those of a node that only works are started when another node, or
            a program, looks for their names.
    """
    from supervisors.runtime.thespian.supervisor import REGISTRY_ID

    if node["role"] == WORKER:
        from supervisors.runtime.node.front import front_spec

        return [front_spec(REGISTRY_ID, node, listening, join, app)]
    from supervisors.runtime.node.door import Door
    from supervisors.runtime.node.registry import NodeRegistry

    return [
        ChildSpec(REGISTRY_ID, NodeRegistry, shutdown=1.0),
        ChildSpec("door", Door, args=(listening, node["address"]), shutdown=1.0),
        *branches(node, join),
        *app,
    ]
