"""An ecosystem as one of its members has it: the others by their roles.

::

    class Reviewer(GenServer):
        async def handle_call(self, request, caller):
            draft = await ecosystem_of(self).call("writer", request)
"""
# ruff: noqa: ASYNC109 - `timeout` is the name of the contract

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dspex_actors.ecosystem.naming import OWNER, Place, place_of
from dspex_actors.errors import ConfigError
from supervisors import GenServer, Ref


class Ecosystem:
    """The ecosystem of a member. A member that is being restarted is not there meanwhile.

    Args:
        server: the member.
        place: its own.
    """

    def __init__(self, server: GenServer, place: Place) -> None:
        """Use `ecosystem_of` instead."""
        self._server, self._place = server, place

    @property
    def kind(self) -> str:
        """Its kind."""
        return self._place.kind

    @property
    def id(self) -> str:
        """Its id."""
        return self._place.id

    @property
    def role(self) -> str:
        """The role of this member."""
        return self._place.role

    async def call(self, role: str, request: Any, timeout: float | None = 5.0) -> Any:
        """Ask another member and return its reply.

        Raises:
            NoProcess: there is no member of that role, or it is being restarted.
            CallTimeout, ServerExited, CallFailed: as for `GenServer.call`.
        """
        return await self._server.call(self._place.at(role).name, request, timeout)

    def call_then(
        self, role: str, request: Any, function: Callable[[Any, Exception | None], object], timeout: float | None = 5.0
    ) -> None:
        """Ask another member and go on; see `GenServer.call_then`."""
        self._server.call_then(self._place.at(role).name, request, function, timeout)

    def cast(self, role: str, message: Any) -> None:
        """Send another member a message; nothing happens if it is not there."""
        self._server.cast(self._place.at(role).name, message)

    async def whereis(self, role: str) -> Ref | None:
        """Return the member of a role; None: there is none, or it is being restarted."""
        return await self._server.whereis(self._place.at(role).name)

    async def broadcast(self, message: Any) -> None:
        """Send a message to every member but this one."""
        for role, ref in (await self.members()).items():
            if role != self.role:
                self._server.cast(ref, message)

    async def members(self) -> dict[str, Ref]:
        """Return the members that run now, by role; this one among them."""
        rows = await self._server.which_children(self._place.at("").name)
        return {str(row.id): row.ref for row in reversed(rows) if row.ref is not None and row.id != OWNER}


def ecosystem_of(server: GenServer) -> Ecosystem:
    """Return the ecosystem that a server is a member of: to find the others by their roles.

    Raises:
        ConfigError: it is in none.
    """
    place = place_of(server.name)
    if place is None or not place.role:
        raise ConfigError(f"{type(server).__name__} is in no ecosystem: start it with system.spawn_ecosystem(...)")
    return Ecosystem(server, place)
