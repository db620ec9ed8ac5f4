"""What a program calls of the cluster: `Cluster` outside, `AsyncCluster` inside a GenServer; of a node alone too.

::

    for member in Cluster(node).members():
        print(member.name, member.state)

    here = await AsyncCluster(self).lookup("host-2", "http_worker_1")
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supervisors.cluster.membership import file
from supervisors.cluster.membership.messages import (
    FULL,
    MEMBERSHIP,
    Leave,
    Lookup,
    Member,
    Members,
    Order,
    Subscribe,
    Tell,
    Watch,
)
from supervisors.terms.errors import CallTimeout, NoProcess, NotAllowed, SpecError
from supervisors.terms.ports import Inside, Outside
from supervisors.terms.ref import Ref

#: How long an order to another node may take, in seconds.
ORDER_SECONDS = 10.0
#: So many nodes are named in a message.
MAX_NAMED = 5


class Cluster:
    """The cluster of a node, for a program outside. Thread-safe.

    Args:
        node: a node.
    """

    def __init__(self, node: Outside) -> None:
        """Ask nothing yet."""
        self._node = node

    def members(self) -> list[Member]:
        """Return all members by name, this node and those that are down among them; of a node alone itself."""
        try:
            found: list[Member] = self._node.call(MEMBERSHIP, Members())
        except NoProcess:
            return [_alone(self._node.info)]
        return found

    def lookup(self, node: str, name: str) -> Ref:
        """Return the process that is registered under a name on a node.

        Args:
            node: name or uid of a member.
            name: what is registered there.

        Raises:
            NoProcess: there is no such member, or nobody has the name there.
            NodeDown: the member is down.
        """
        try:
            found: Ref | None = self._node.call(MEMBERSHIP, Lookup(node, name), ORDER_SECONDS)
        except NoProcess:
            if self._node.whereis(MEMBERSHIP) is not None:
                raise
            _check_alone(node, _alone(self._node.info))
            found = self._node.whereis(name)
        if found is None:
            raise NoProcess(f"nobody is registered as {name!r:.100} on this node")
        return found

    def order(self, node: str, state: str) -> Member:
        """Have a member be draining, cordoned or alive again; return it as it is then.

        Args:
            node: name or uid of a member.
            state: draining, cordoned or alive.

        Raises:
            NoProcess: there is no such member.
            NodeDown: it is down.
            NotAllowed: this node is alone.
        """
        try:
            found: Member = self._node.call(MEMBERSHIP, Order(node, state), ORDER_SECONDS)
        except NoProcess:
            if self._node.whereis(MEMBERSHIP) is not None:
                raise
            raise NotAllowed(f"this node is alone: {node!r:.100} cannot be made {state}") from None
        return found

    def leave(self, node: str) -> None:
        """Have a member that is draining leave the cluster and stop.

        Raises:
            NoProcess: there is no such member.
            NodeDown: it is down.
            NotAllowed: it has something in work, or is not draining; ask again.
        """
        self._node.call(MEMBERSHIP, Leave(node), ORDER_SECONDS)

    def wait(self, since: int = -1, timeout: float = 60.0) -> tuple[int, list[Member]]:
        """Wait for news of the members.

        Args:
            since: the number that the last call has returned; -1: return at once.
            timeout: seconds.

        Returns:
            The number of the last news, and the members; as before where the time was up. It begins anew, at another
            number, when the membership is started anew.

        Raises:
            NoProcess: this node is alone.
        """
        try:
            number, members = self._node.call(MEMBERSHIP, Watch(since), timeout)
        except CallTimeout:
            return since, self.members()
        return number, members


class AsyncCluster:
    """The cluster of a node, inside a GenServer; every method but `tell` is awaited.

    Args:
        server: the server.
    """

    def __init__(self, server: Inside) -> None:
        """Ask nothing yet."""
        self._server = server

    async def members(self) -> list[Member]:
        """Return all members by name, this node and those that are down among them; of a node alone itself."""
        try:
            found: list[Member] = await self._server.call(MEMBERSHIP, Members())
        except NoProcess:
            return [_alone(self._node)]
        return found

    async def subscribe(self) -> list[Member]:
        """Get NodeUp, NodeDown and NodeChanged in handle_info from now on; return the members as now.

        A node alone has nobody to tell of others: ask again when `is_alone` is over.
        """
        try:
            found: list[Member] = await self._server.call(MEMBERSHIP, Subscribe(self._server.ref))
        except NoProcess:
            return [_alone(self._node)]
        return found

    async def is_alone(self) -> bool:
        """Whether this node belongs to no cluster."""
        return await self._server.whereis(MEMBERSHIP) is None

    async def lookup(self, node: str, name: str) -> Ref:
        """Return the process that is registered under a name on a node; as `Cluster.lookup`."""
        found: Ref | None
        try:
            found = await self._server.call(MEMBERSHIP, Lookup(node, name), ORDER_SECONDS)
        except NoProcess:
            if await self._server.whereis(MEMBERSHIP) is not None:
                raise
            _check_alone(node, _alone(self._node))
            found = await self._server.whereis(name)
        if found is None:
            raise NoProcess(f"nobody is registered as {name!r:.100} on this node")
        return found

    def tell(self, **facts: Any) -> None:
        """Say something of this node to all others: load, workers, work, notes. A node alone tells nobody."""
        self._server.cast(MEMBERSHIP, Tell(facts))

    @property
    def _node(self) -> Mapping[str, Any]:
        node: Mapping[str, Any] = self._server.node  # type: ignore[attr-defined]
        return node


@dataclass(frozen=True, slots=True)
class LastStart:
    """How the node of a data folder was started last; of one that runs, how it runs.

    Args:
        name, host, port, role, labels: that it had.
        in_cluster: whether it belongs to a cluster.
    """

    name: str
    host: str
    port: int
    role: str
    labels: dict[str, str]
    in_cluster: bool


def last_start(data_dir: Path) -> LastStart | None:
    """Return how the node of a data folder was started last, where its next start is to be the same.

    That is so where it is in a cluster, or was at another address than the usual one, 127.0.0.1; else None.

    Raises:
        SpecError: the folder's cluster.json cannot be used.
    """
    kept = file.load(data_dir)
    if not (kept.stays and kept.name):
        return None
    return LastStart(
        kept.name, kept.host or file.USUAL_HOST, kept.port, kept.role, dict(kept.labels), bool(kept.members)
    )


def own_uid(data_dir: Path) -> str:
    """Return the uid that others know the node of a data folder by; empty: it never was in a cluster.

    Raises:
        SpecError: the folder's cluster.json cannot be used.
    """
    return file.load(data_dir).uid if (data_dir / file.CLUSTER_FILE).exists() else ""


def others_of(data_dir: Path) -> list[Member]:
    """Return the other nodes of the cluster as the node of a data folder knew them last, also where it is gone.

    Whether they run now is not known. Those that do all work are first.
    """
    try:
        kept = file.load(data_dir)
    except SpecError:
        return []
    return sorted(kept.members, key=lambda member: (member.role != FULL, member.name))


def where_else(data_dir: Path) -> str:
    """Return, for a message that a node is gone, which other nodes its cluster has; nothing where it was alone."""
    others = others_of(data_dir)
    if not others:
        return ""
    names = ", ".join(f"{member.name} ({member.address})" for member in others[:MAX_NAMED])
    more = f" and {len(others) - MAX_NAMED} more" if len(others) > MAX_NAMED else ""
    return f"; other nodes of its cluster: {names}{more}"


def _alone(node: Mapping[str, Any]) -> Member:
    kept = file.load(Path(node["data_dir"]))
    return file.own_member(node, kept)


def _check_alone(node: str, me: Member) -> None:
    if node not in (me.name, me.uid):
        raise NoProcess(f"no node {node!r:.100} is in the cluster: this one, {me.name}, is alone")
