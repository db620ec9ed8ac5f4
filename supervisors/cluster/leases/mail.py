"""How the servers of leases of the cluster find and reach one another."""

from __future__ import annotations

from typing import Any

from supervisors.cluster.leases.clock import now
from supervisors.cluster.leases.messages import LEASES
from supervisors.cluster.membership.messages import MEMBERSHIP, Lookup
from supervisors.genserver import GenServer
from supervisors.terms.errors import NodeDown, NoProcess, ServerExited, SupervisorsError
from supervisors.terms.ref import Ref

#: One that has not been heard of for so long is looked for again, so often at most, in seconds.
SILENT_SECONDS, LOOK_SECONDS = 2.0, 1.0


class Mail:
    """What a server of leases sends and asks.

    Args:
        server: the server.
        me: uid of its node.
    """

    def __init__(self, server: GenServer, me: str) -> None:
        """Know nobody yet."""
        self._server, self._me = server, me
        self._refs: dict[str, Ref] = {}
        self._heard: dict[str, float] = {}
        self._looked: dict[str, float] = {}

    def learn(self, uid: str, ref: Ref) -> None:
        """Take in where the server of a node is: it has just said something."""
        self._refs[uid], self._heard[uid] = ref, now()

    def send(self, to: str, message: tuple[Any, ...]) -> None:
        """Send a message of Raft's to a node, or lose it; never wait."""
        if now() - self._heard.get(to, -1e9) > SILENT_SECONDS and now() - self._looked.get(to, -1e9) > LOOK_SECONDS:
            self._looked[to] = now()
            self._server.spawn(self._look(to))
        if (ref := self._refs.get(to)) is not None:
            self._server.cast(ref, (*message, self._server.ref))

    def fail(self, error: Exception) -> None:
        """End the server by an error: its supervisor starts it anew."""
        self._server.spawn(_raise(error))

    async def ask(self, to: str, request: tuple[Any, ...], timeout: float) -> Any:  # noqa: ASYNC109
        """Ask the server of leases of a node.

        Raises:
            SupervisorsError: it cannot be reached, or does not answer in time.
        """
        ref = self._refs.get(to) or await self._found(to)
        try:
            return await self._server.call(ref, request, timeout)
        except (NoProcess, NodeDown, ServerExited):
            self._refs.pop(to, None)
            raise

    async def _look(self, to: str) -> None:
        try:
            await self._found(to)
        except SupervisorsError as error:
            self._server.log.debug("a server of leases is not found", node=to, error=str(error))

    async def _found(self, to: str) -> Ref:
        ref: Ref = await self._server.call(MEMBERSHIP, Lookup(to, LEASES), 2.0)
        self._refs[to] = ref
        return ref


async def _raise(error: Exception) -> None:
    raise error
