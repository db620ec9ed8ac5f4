"""The members of the cluster, as a program sees them: `system.nodes()` and `system.subscribe_nodes(handler)`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dspex_actors.errors import ConfigError
from supervisors import Node
from supervisors.cluster.handle import Cluster
from supervisors.cluster.membership.messages import Member
from supervisors.cluster.telling import Telling
from supervisors.errors import SupervisorsError

#: News are waited for so long at a time, and a node alone, or away, is asked again after so long, in seconds.
WAIT_SECONDS, AGAIN_SECONDS = 30.0, 1.0
_log = logging.getLogger(__name__)

Handler = Callable[["NodeEvent"], Any]


@dataclass(frozen=True, slots=True)
class NodeEvent:
    """What has happened to a node of the cluster.

    Args:
        kind: nodeup (it is there, or back), nodedown (it has died, cannot be reached, or has left), or nodechanged (it
            is suspect or no more, draining, cordoned, of another load).
        member: the node: `name`, `address`, `state`, `labels`, `load`, `workers`, `incarnation` and so on.
    """

    kind: str
    member: Member


def events_between(before: list[Member], after: list[Member]) -> list[NodeEvent]:
    """Return what has happened between two looks at the members."""
    known = {member.uid: member for member in before}
    events = []
    for member in after:
        old = known.pop(member.uid, None)
        was_up = old is not None and old.is_up
        if old is not None and was_up and member.is_up and old.incarnation == member.incarnation:
            if _shown(old) != _shown(member):
                events.append(NodeEvent("nodechanged", member))
            continue
        if old is not None and was_up:
            events.append(NodeEvent("nodedown", old if member.is_up else member))
        if member.is_up:
            events.append(NodeEvent("nodeup", member))
    return events + [NodeEvent("nodedown", member) for member in known.values() if member.is_up]


def _shown(member: Member) -> tuple[Any, ...]:
    notes, labels = tuple(member.notes), tuple(sorted(member.labels.items()))
    return member.state, member.role, labels, member.load, member.workers, member.work, notes, member.address


class NodeSubscription(Telling):
    """A function that is told of what happens to nodes; made by `system.subscribe_nodes`."""

    again_seconds = AGAIN_SECONDS

    def __init__(self, node: Node, handler: Handler) -> None:
        """Begin with the members as they are now."""
        super().__init__(handler, "the handler of nodes", _log, error=ConfigError)
        self._cluster, self._number = Cluster(node), -1
        self._members = self._cluster.members()
        self._start("dspex nodes")

    def __repr__(self) -> str:
        """Show whether it is told."""
        return f"<NodeSubscription, {'active' if self.active else 'ended'}>"

    def _news(self) -> list[tuple[str, NodeEvent]]:
        try:
            self._number, members = self._cluster.wait(self._number, WAIT_SECONDS)
        except SupervisorsError:  # the node is alone, or away
            self._number = -1
            raise
        before, self._members = self._members, members
        return [(event.kind, event) for event in events_between(before, members)]
