"""What belongs together as a tree: each event under the one that it came from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dspex_actors.foundation.events.event import Event
from dspex_actors.foundation.events.record import Record, to_dict, to_event

#: What is nested deeper than this hangs under the last one above: trees are printed and sent.
MAX_DEPTH = 100


class TraceNode:
    """An event, and those that came from it in the order of time; also by name: `node["event"]`.

    Args:
        record: the event as it is stored.
    """

    __slots__ = ("_event", "children", "record")

    def __init__(self, record: Record) -> None:
        """Begin without children."""
        self.record = record
        self.children: list[TraceNode] = []
        self._event: Event | None = None

    @property
    def event(self) -> Event:
        """The event."""
        if self._event is None:
            self._event = to_event(self.record)
        return self._event

    def __getitem__(self, name: str) -> Any:
        """Return `event` or `children`."""
        if name not in ("event", "children"):
            raise KeyError(name)
        return getattr(self, name)

    def __repr__(self) -> str:
        """Show what it is and how much is under it."""
        return f"TraceNode({self.record.type}, {len(self.children)} children)"

    def to_dict(self) -> dict[str, Any]:
        """Return the tree as plain data: `event` as it is exported, `children` likewise."""
        return {"event": to_dict(self.record), "children": [child.to_dict() for child in self.children]}


def tree_of(records: Iterable[Record]) -> TraceNode | None:
    """Return the tree of events that belong together; None where there are none.

    The root is the first that came from nothing, or from nothing that is here. Others whose parent is not here, and
    what goes in a circle, hang under it.

    Args:
        records: the events, in any order.
    """
    ordered = sorted(records, key=lambda record: (record.at, record.id))
    nodes = {record.id: TraceNode(record) for record in ordered}
    if not nodes:
        return None
    above = {name: _parent(node.record, nodes) for name, node in nodes.items()}
    root = min(nodes, key=lambda name: (above[name] is not None, nodes[name].record.parent_id is not None))
    _straighten(above, root)
    for name, node in nodes.items():
        if name != root:
            nodes[above[name] or root].children.append(node)
    return nodes[root]


def _straighten(above: dict[str, str | None], root: str) -> None:
    """Have everything lead to the root, by at most `MAX_DEPTH` steps."""
    above[root] = None
    depth = {root: 0}
    for name in above:
        way: list[str] = []
        at: str | None = name
        while at is not None and at not in depth:
            way.append(at)
            depth[at] = -1  # seen; what leads here once more is a circle
            at = above[at]
        if at is not None and depth[at] < 0:
            above[at], depth[at] = root, 1  # the circle is cut where it was entered
            way.remove(at)
        for one in reversed(way):
            parent = above[one]
            if parent is None:
                above[one] = parent = root
            elif depth[parent] == MAX_DEPTH:
                above[one] = parent = above[parent] or root
            depth[one] = depth[parent] + 1


def _parent(record: Record, nodes: dict[str, TraceNode]) -> str | None:
    return record.parent_id if record.parent_id in nodes and record.parent_id != record.id else None
