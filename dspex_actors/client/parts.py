"""What of a node a program reaches through its connection beside runs: each part is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dspex_actors.errors import ConfigError
from supervisors import Node

if TYPE_CHECKING:
    from dspex_actors.cache.face import NodeCache
    from dspex_actors.client.modules import Modules
    from dspex_actors.client.nodes import NodeEvent, NodeSubscription
    from dspex_actors.config.handle import NodeConfig
    from dspex_actors.observe.events.face import Events
    from dspex_actors.observe.telemetry.face import Telemetry
    from dspex_actors.services.handle import NodeServices
    from supervisors.cluster.consensus.handle import Consensus
    from supervisors.cluster.membership.messages import Member
    from supervisors.cluster.state.handle import DistributedState


class NodeParts:
    """The parts of a node as attributes of a connection."""

    node: Node
    lm: Any

    @property
    def data_dir(self) -> Path:
        """The node's data folder."""
        return Path(self.node.info["data_dir"])

    @cached_property
    def events(self) -> Events:
        """What happens on the node and in this program: `emit`, `query`, `trace_tree`, `subscribe`, `export`."""
        from dspex_actors.observe.events.face import Events

        return Events(self.node, self.data_dir)

    @cached_property
    def telemetry(self) -> Telemetry:
        """What is counted and measured here, and on the whole node: `counter`, `measure`, `metrics`, `attach`."""
        from dspex_actors.observe.telemetry.face import Telemetry

        return Telemetry(self.node)

    @cached_property
    def config(self) -> NodeConfig:
        """The node's configuration: `get`, `update`, `subscribe`, `explain`."""
        from dspex_actors.config.handle import NodeConfig

        return NodeConfig(self.node)

    @cached_property
    def cache(self) -> NodeCache:
        """What is cached: `stats`, `clear`, and values of one's own, `get_or_compute`."""
        from dspex_actors.cache.face import NodeCache

        return NodeCache(self.node, self.data_dir)

    @cached_property
    def services(self) -> NodeServices:
        """Who does what on the node: `register`, `lookup`, `find`, `health`."""
        from dspex_actors.services.handle import NodeServices

        return NodeServices(self.node)

    @cached_property
    def modules(self) -> Modules:
        """Programs that the node serves by name: `create`, `execute`, `update_module`, `roll_back`, `metrics`."""
        from dspex_actors.client.modules import Modules

        return Modules(self.node, lambda: self.lm)

    def nodes(self) -> list[Member]:
        """Return the members of the cluster by name, those that are down too; of a node alone itself.

        Returns:
            Members with `name`, `uid`, `address`, `state` (alive, suspect, down, draining, cordoned), `role`, `labels`,
            `workers`, `work`, `load`, `last_beat` (seconds ago), `incarnation`, `version`, `notes`.
        """
        from supervisors.cluster.handle import Cluster

        return Cluster(self.node).members()

    def subscribe_nodes(self, handler: Callable[[NodeEvent], Any]) -> NodeSubscription:
        """Have a function called with a `NodeEvent` for each node that comes, goes or changes from now on, in order.

        It is called in a thread of its own; one that is async, in the event loop in which this is called. What it
        raises is logged; after 10 failures in a row it is not called any more.

        Args:
            handler: gets a `NodeEvent`: `kind` (nodeup, nodedown, nodechanged) and `member`.

        Returns:
            A subscription with `cancel()` and `active`.

        Raises:
            ConfigError: the handler is no function.
        """
        from dspex_actors.client.nodes import NodeSubscription

        if not callable(handler):
            raise ConfigError(f"the handler is invalid: got {type(handler).__name__}, expected a function")
        subscription = NodeSubscription(self.node, handler)
        self.__dict__.setdefault("_node_subscriptions", []).append(subscription)
        return subscription

    @cached_property
    def consensus(self) -> Consensus:
        """Groups that decide together: `system.consensus.group(name, threshold=0.6)`."""
        from supervisors.cluster.consensus.handle import Consensus

        return Consensus(self.node)

    def state(self, name: str) -> DistributedState:
        """Return a small value that all nodes of the cluster share: `get`, `put` (compare and set), `watch`.

        Args:
            name: of the value, the same wherever it is used.

        Raises:
            SpecError: `name` is no text, an empty one, or a very long one.
        """
        from supervisors.cluster.state.handle import DistributedState

        return DistributedState(self.node, name)

    def cost(self, by: str | Iterable[str] = ("model",), since: float | str | None = None) -> dict[str, Any]:
        """Return what was paid, on this node and all others under DSPEX_HOME: as `dspex cost --json`.

        Args:
            by: what it is told by: model, provider, run, tag, user, day; also several, also as "model,run".
            since: seconds since 1970, or "2h", "1d", an ISO time; the hour that it is in counts as a whole. None: all.

        Returns:
            `by`, `since`, `rows`, `total`, `notes`; see `dspex_actors.client.costs.costs`.

        Raises:
            ConfigError: it cannot be told by that.
        """
        from dspex_actors.client.costs import costs

        return costs(by, since, self.data_dir)

    def close_parts(self) -> None:
        """End what the parts have going in this program."""
        used = vars(self)
        for subscription in used.get("_node_subscriptions", ()):
            subscription.cancel()
        for name in ("events", "telemetry", "config"):
            if name in used:
                used[name].close()
