"""Ecosystems, as a program outside starts, finds, asks and ends them."""
# ruff: noqa: ASYNC109 - `timeout` is the name of the contract

from __future__ import annotations

import contextlib
import os
from typing import Any, Self

from dspex_actors.ecosystem.member import check_members
from dspex_actors.ecosystem.naming import OWNER, Place, check_place
from dspex_actors.ecosystem.owner import Owner
from dspex_actors.errors import ConfigError
from dspex_actors.foundation.bridge import in_thread
from dspex_actors.names import ECOSYSTEMS
from supervisors import ChildInfo, ChildSpec, Node, Ref, SupervisorSpec
from supervisors.errors import AlreadyPresent, AlreadyStarted, NodeDown, NoProcess, SupervisorsError
from supervisors.host import processes

#: A member may fall so often within so many seconds before its ecosystem is given up: each fall costs little.
INTENSITY, PERIOD = 100, 5.0
#: Who is restarted with a member that ended.
STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one")


class EcosystemHandle:
    """An ecosystem, for a program outside; a context manager, which stops it. Thread-safe.

    Args:
        node: where it is.
        place: which it is.
        roles: its members' roles, in start order.
    """

    def __init__(self, node: Node, place: Place, roles: tuple[str, ...]) -> None:
        """Use `System.spawn_ecosystem` or `System.find_ecosystem` instead."""
        self.node, self.roles = node, roles
        self._place = place
        self._stopped = False

    @property
    def kind(self) -> str:
        """Its kind."""
        return self._place.kind

    @property
    def id(self) -> str:
        """Its id."""
        return self._place.id

    def members(self) -> dict[str, Ref]:
        """Return the members that run now, by role; one that is being restarted is not among them.

        Raises:
            ConfigError: the ecosystem has ended.
        """
        return {str(row.id): row.ref for row in self.rows() if row.ref is not None}

    def rows(self) -> list[ChildInfo]:
        """Return a row per member, in start order, as `Node.which_children` does."""
        self._check()
        try:
            return member_rows(self.node, self._place)
        except NoProcess:
            raise self._ended() from None

    def broadcast(self, message: Any) -> None:
        """Send a message to the `handle_cast` of every member; one that is being restarted does not get it."""
        self._check()
        for role in self.roles:
            self.node.cast(self._place.at(role).name, message)

    def call(self, role: str, request: Any, timeout: float | None = 5.0) -> Any:
        """Ask the member of a role and return its reply.

        Args:
            role: whom to ask.
            request: what its `handle_call` gets.
            timeout: seconds; None waits without end.

        Raises:
            ConfigError: there is no such role, the ecosystem was stopped, or the connection is closed.
            NoProcess: it is being restarted, or the ecosystem has ended.
            CallTimeout, ServerExited, CallFailed, NodeDown: as for `Node.call`.
        """
        return self.node.call(self._name(role), request, timeout)

    def stop(self) -> None:
        """End it, the members in the reverse of their start order; return when they are gone. Again: nothing."""
        self._stopped = True
        with contextlib.suppress(SupervisorsError):  # it has ended, or its node has
            self.node.terminate_child(ECOSYSTEMS, self._place.child)

    def __enter__(self) -> Self:
        """Return the handle."""
        return self

    def __exit__(self, *error: object) -> None:
        """Stop it."""
        self.stop()

    # --- from an event loop -----------------------------------------------------------------------------------------

    async def amembers(self) -> dict[str, Ref]:
        """Do what `members` does, from an event loop."""
        found: dict[str, Ref] = await in_thread(self.members)
        return found

    async def abroadcast(self, message: Any) -> None:
        """Do what `broadcast` does, from an event loop."""
        await in_thread(lambda: self.broadcast(message))

    async def acall(self, role: str, request: Any, timeout: float | None = 5.0) -> Any:
        """Do what `call` does, from an event loop."""
        return await self.node.acall(self._name(role), request, timeout)

    async def astop(self) -> None:
        """Do what `stop` does, from an event loop."""
        await in_thread(self.stop)

    async def __aenter__(self) -> Self:
        """Return the handle."""
        return self

    async def __aexit__(self, *error: object) -> None:
        """Stop it."""
        await self.astop()

    # --- checks -----------------------------------------------------------------------------------------------------

    def _name(self, role: str) -> str:
        self._check()
        if role not in self.roles:
            raise ConfigError(f"the role is invalid: got {role!r:.100}, expected one of {', '.join(self.roles)}")
        return self._place.at(role).name

    def _check(self) -> None:
        if self._stopped:
            raise self._ended()
        if self.node.is_closed:
            raise ConfigError("this connection is closed: make another one with dspex.connect(...)")

    def _ended(self) -> ConfigError:
        return ConfigError(f"the ecosystem {self._place.child} has ended: start another one")

    def __repr__(self) -> str:
        """Show which it is, and its roles."""
        return f"{type(self).__name__}({self.kind!r}, {self.id!r}, roles={', '.join(self.roles)})"


def start_ecosystem(
    node: Node,
    key: tuple[str, str],
    members: Any,
    strategy: str = "rest_for_one",
    *,
    keep: bool = False,
) -> EcosystemHandle:
    """Start an ecosystem under the branch of ecosystems, which is started on first use.

    Args:
        node: where.
        key: kind and id.
        members: `Member`s, in start order.
        strategy: one_for_one, one_for_all or rest_for_one: who is restarted with a member that ended.
        keep: it stays when this program ends.

    Returns:
        Its handle, when every member's `init` has returned.

    Raises:
        ConfigError: an argument is not legal, it runs already, or a member did not start.
    """
    place, found = check_place(key), check_members(members)
    if strategy not in STRATEGIES:
        raise ConfigError(
            f"the strategy of an ecosystem is invalid: got {strategy!r:.100}, expected one of {', '.join(STRATEGIES)}"
        )
    children = [member.spec(place) for member in found]
    try:
        if not keep:
            pid = os.getpid()
            owner = (pid, processes.born(pid))
            children.append(ChildSpec(OWNER, Owner, args=owner, restart="transient", significant=True))
        spec = SupervisorSpec(
            children,
            strategy=strategy,
            intensity=INTENSITY,
            period=PERIOD,
            auto_shutdown="never" if keep else "any_significant",
            name=place.name,
        )
        _start_branch(node)
        node.start_child(ECOSYSTEMS, ChildSpec(place.child, spec, restart="temporary"))
    except (AlreadyStarted, AlreadyPresent):
        raise ConfigError(
            f"the ecosystem {place.child} runs already: find it with system.find_ecosystem{tuple(place[:2])}, stop it, "
            "or choose another id"
        ) from None
    except NodeDown:
        raise
    except SupervisorsError as error:
        raise ConfigError(f"the ecosystem {place.child} did not start: {error}") from error
    return EcosystemHandle(node, place, tuple(member.role for member in found))


def find_ecosystem(node: Node, key: tuple[str, str]) -> EcosystemHandle:
    """Return the handle of an ecosystem that runs.

    Raises:
        ConfigError: there is none of this kind and id.
    """
    place = check_place(key)
    try:
        rows = member_rows(node, place)
    except NoProcess:
        raise ConfigError(f"there is no ecosystem {place.child}; `dspex ecosystem list` shows those that run") from None
    return EcosystemHandle(node, place, tuple(str(row.id) for row in rows))


def list_ecosystems(node: Node) -> list[Place]:
    """Return the ecosystems of a node, oldest first."""
    try:
        rows = node.which_children(ECOSYSTEMS)
    except NoProcess:
        return []  # nobody has started one so far
    return [Place(*str(row.id).split(":")) for row in reversed(rows) if row.ref is not None]


def member_rows(node: Node, place: Place) -> list[ChildInfo]:
    """Return a row per member of an ecosystem, in start order."""
    return [row for row in reversed(node.which_children(place.at("").name)) if row.id != OWNER]


def _start_branch(node: Node) -> None:
    if node.whereis(ECOSYSTEMS) is None:
        branch = SupervisorSpec((), name=ECOSYSTEMS, intensity=30, period=10.0)
        with contextlib.suppress(AlreadyStarted, AlreadyPresent):  # another program was faster
            node.start_child(Ref(**node.info["root"]), ChildSpec(ECOSYSTEMS, branch))
