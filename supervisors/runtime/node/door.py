"""The door of a node: the server that programs outside connect to.

The daemon opens the listening socket before anything else and keeps it while the door is restarted: clients that come
meanwhile wait in its queue. Frames are sealed with the cluster key (wire/frames.py), and wire/door_protocol.py lists
what is in them. A connection (connection.py) takes the requests, and calls the operations that are here.
"""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from supervisors.cluster.branch import let_join
from supervisors.host import meters, processes
from supervisors.host.reports import read_reports
from supervisors.runtime.node.connection import Connection, Operation
from supervisors.runtime.process.process import Process
from supervisors.system_server import SystemServer
from supervisors.terms.errors import NoProcess, ServerExited, SupervisorsError
from supervisors.terms.reason import ExitReason
from supervisors.terms.ref import Ref
from supervisors.terms.via import Via
from supervisors.terms.views import Report
from supervisors.wire import door_protocol as protocol
from supervisors.wire import values as wire
from supervisors.wire.clock import Clock
from supervisors.wire.frames import FrameCodec, FrameReader, Opener
from supervisors.wire.keys import own_key

#: At most so many connections that have not shown the key; a further one closes the oldest.
MAX_UNAUTHENTICATED = 64

#: A supervisor that does not answer within so many seconds is shown as unresponsive.
BRANCH_SECONDS = 2.0


class Door(SystemServer):
    """The server of the connections from outside."""

    WHAT = "the node's door"

    async def init(self, fd: int, address: str) -> None:
        """Serve the socket that the daemon has opened.

        Args:
            fd: the descriptor of the listening socket.
            address: its "ip:port".
        """
        self._clock = Clock(self.node["clock"])
        self._codec = FrameCodec(own_key(Path(self.node["data_dir"])), self._clock)
        self.address = address
        # One opener serves all connections: a frame is taken once, whichever connection it comes on.
        self._opener = Opener(self._codec, address)
        self._strangers: dict[Connection, None] = {}
        self.process.acknowledge_late()
        listening = socket.socket(fileno=os.dup(fd))
        listening.setblocking(False)
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Connection(self), sock=listening, backlog=512
        )
        self.operations: dict[str, Operation] = {
            protocol.WHEREIS: self._op_whereis,
            protocol.TREE: self._op_tree,
            protocol.STATUS: self._op_status,
            protocol.REPORTS: self._op_reports,
            protocol.NAMES: self._op_names,
            protocol.STATS: self._op_stats,
            protocol.JOIN: self._op_join,
        }

    async def terminate(self, reason: ExitReason) -> None:
        """Stop listening."""
        self._server.close()

    # --- connections ------------------------------------------------------------------------------------------------

    @property
    def process(self) -> Process:
        """The process of this server, for its connections."""
        return cast("Process", self._supervisors_engine)

    def about(self) -> dict[str, Any]:
        """Return what a client is told of the node."""
        return {**self.node, "root": asdict(self._root)}

    def new_reader(self) -> FrameReader:
        """Return a reader for frames sealed for this door."""
        return FrameReader(self._opener, greeted=True)

    def seal(self, value: Any, dest: str) -> bytes:
        """Seal a value for a client."""
        return self._codec.seal(wire.pack(value), dest)

    def stranger(self, connection: Connection) -> None:
        """Count a connection that has not shown the key."""
        self._strangers[connection] = None
        if len(self._strangers) > MAX_UNAUTHENTICATED:
            next(iter(self._strangers)).close()

    def no_stranger(self, connection: Connection) -> None:
        """Take it out of the count again."""
        self._strangers.pop(connection, None)

    # --- operations -------------------------------------------------------------------------------------------------

    async def _op_whereis(self, name: str | Via) -> Ref | None:
        return await self.process.names.whereis(name)

    async def _op_names(self) -> Any:
        return await self.process.names.ask(("names",))

    async def _op_join(self, row: Any) -> None:
        """Ask the membership whether a node may join; it is started first where this node has been alone."""
        await let_join(self, row)

    @property
    def _root(self) -> Ref:
        root = self.process.boot.parent
        assert root is not None
        return root

    async def _op_tree(self) -> dict[str, Any]:
        children = await self._branch(self._root)
        return {
            "id": "root",
            "name": self.node["name"],
            "type": "supervisor",
            "state": "unresponsive" if children is None else "running",
            "pid": self._root.pid,
            "restarts": 0,
            "at_rest": False,
            "children": children or [],
        }

    async def _branch(self, supervisor: Ref) -> list[dict[str, Any]] | None:
        """Return the children of a supervisor, oldest first; None: it does not answer."""
        try:
            async with asyncio.timeout(BRANCH_SECONDS):
                rows = await self.process.supervise(supervisor, "which_children", None)
        except (NoProcess, ServerExited):
            return []  # it has just ended
        except (SupervisorsError, TimeoutError):
            return None

        async def node(row: Any) -> dict[str, Any]:
            nested = row.type == "supervisor" and row.ref is not None
            children = await self._branch(row.ref) if nested else []
            return {
                "id": row.id,
                "name": row.name,
                "type": row.type,
                "state": "unresponsive" if children is None else row.state,
                "pid": row.pid,
                "restarts": row.restarts,
                "at_rest": row.state == "stopped" and await self._may_rest(supervisor, row.id),
                "children": children or [],
            }

        return list(await asyncio.gather(*(node(row) for row in reversed(rows))))

    async def _may_rest(self, supervisor: Ref, child: str) -> bool:
        """Say whether a child that is stopped is none that always has to run: it has ended in order."""
        try:
            async with asyncio.timeout(BRANCH_SECONDS):
                spec = await self.process.supervise(supervisor, "get_childspec", child)
        except (SupervisorsError, TimeoutError):
            return False
        return bool(spec.restart != "permanent")

    async def _op_status(self) -> dict[str, Any]:
        node = self.node
        tree = await self._op_tree()
        flat = list(_flatten(tree))
        well = all(row["state"] == "running" or row["at_rest"] for row in flat)
        return {
            "name": node["name"],
            "state": "healthy" if well else "degraded",
            "address": node["address"],
            "pid": node["pid"],
            "uptime": self._clock.seconds() - node["started_at"],
            "version": node["version"],
            "processes": len(processes.descendants(node["pid"])) + 1,
            "restarts": sum(row["restarts"] for row in flat) + node["incarnation"],
            "data_dir": node["data_dir"],
            "incarnation": node["incarnation"],
        }

    async def _op_stats(self) -> list[tuple[int, int, int, float]]:
        return meters.read(processes.descendants(self.node["pid"]))

    async def _op_reports(self, limit: int) -> list[Report]:
        return read_reports(Path(self.node["logs"]), limit)


def _flatten(tree: dict[str, Any]) -> Any:
    yield tree
    for child in tree["children"]:
        yield from _flatten(child)
