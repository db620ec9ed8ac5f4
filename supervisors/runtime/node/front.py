"""Registry, door and membership of a node that only works, in one process; it starts the others when they are needed.

Such a node is one of many on its host, or its host is small, and each process of a node has 8 MB of its own. The three
run no user code, answer in microseconds and are of no use without one another there: so they share a process, and their
fate. A full node has a process for each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from supervisors.cluster.membership.messages import MEMBERSHIP, Tell
from supervisors.cluster.membership.server import Membership
from supervisors.runtime.node.door import Door
from supervisors.runtime.node.registry import NodeRegistry
from supervisors.runtime.process.process import Process
from supervisors.system_server import SystemServer
from supervisors.terms.errors import SupervisorsError
from supervisors.terms.ports import ENGINE, engine_of
from supervisors.terms.reason import ExitReason
from supervisors.terms.ref import Caller, Ref
from supervisors.terms.spec import ChildSpec
from supervisors.terms.via import Via
from supervisors.wire import door_protocol as protocol
from supervisors.wire.pickles import seal

#: Who looks for a child that is just being started waits at most so long for it, in seconds.
START_SECONDS = 2.0


def front_spec(
    key: str, node: Mapping[str, Any], listening: int, join: str | None, others: Sequence[ChildSpec]
) -> ChildSpec:
    """Return the three as one child of the root.

    Args:
        key: id by which the root knows its registry.
        node: what the daemon says of the node.
        listening: descriptor of the door's socket.
        join: "host:port" of a node whose cluster is joined; None: that which it belongs to, if any.
        others: children of the root that are started when somebody outside looks for their registered names.
    """
    waiting = {str(spec.registers): seal(spec) for spec in others}
    return ChildSpec(key, Front, args=(listening, node["address"], join, waiting), shutdown=2.0)


class Front(SystemServer):
    """Hands each request to the one of the three that it is for."""

    WHAT = "the node's registry, door and membership"

    async def init(self, listening: int, address: str, join: str | None, waiting: dict[str, Any]) -> None:
        """Begin one after the other, as they would begin as three children.

        Args:
            listening: descriptor of the door's socket.
            address: its "ip:port".
            join: "host:port" of a node whose cluster is joined.
            waiting: registered name → the sealed spec of a child that is started when it is looked for.
        """
        engine = engine_of(self)
        assert isinstance(engine, Process)
        # The door and the membership look names up in this process. No handler here waits for an answer.
        engine.calls.may_ask_itself = True
        engine.names.moved(self.ref)
        self._waiting = waiting
        self._starting: dict[str, asyncio.Task[None]] = {}
        self._registry, self._door, self._membership = NodeRegistry(), Door(), Membership()
        for part in (self._registry, self._door, self._membership):
            setattr(part, ENGINE, engine)
        self._registry.init()
        self._registry.answer(("register", MEMBERSHIP, self.ref), None)
        await self._door.init(listening, address)
        self._door.operations[protocol.WHEREIS] = self._whereis
        await self._membership.init(join)
        self._membership.take_cast(Tell({"workers": len(waiting)}))

    async def terminate(self, reason: ExitReason) -> None:
        """Say good-bye to the other nodes, then stop listening."""
        self._membership.terminate(reason)
        await self._door.terminate(reason)

    def answer(self, request: Any, caller: Caller) -> Any:
        """Have it answered."""
        return (self._registry if isinstance(request, tuple) else self._membership).answer(request, caller)

    def take_cast(self, message: Any) -> None:
        """Hand it on."""
        (self._registry if isinstance(message, tuple) else self._membership).take_cast(message)

    def take_info(self, message: Any) -> None:
        """Hand it on: only the membership is sent anything."""
        self._membership.take_info(message)

    async def _whereis(self, name: str | Via) -> Ref | None:
        """Answer who looks for a name from outside; start what it stands for if that has been waiting for this."""
        ref = await self.whereis(name)
        if ref is None and isinstance(name, str) and name in self._waiting:
            if name not in self._starting:
                self._starting[name] = self.spawn(self._start(name))
            # Who has not begun by then has its name all the same: a name is there before `init` has returned.
            await asyncio.wait({self._starting[name]}, timeout=START_SECONDS)
            ref = await self.whereis(name)
        return ref

    async def _start(self, name: str) -> None:
        try:
            await self.start_child(Ref(**self.node["root"]), self._waiting[name])
        except SupervisorsError as error:  # it is there, or is just being brought back; or it cannot start
            self.log.info("a child that was looked for was not started", child=name, error=str(error))
        finally:
            del self._starting[name]
