"""ProcessGroups: named groups of processes, as Erlang's `pg`.

A process may join a group several times, and is a member until it has left as often. Members go when they end; a group
without members is none. Only processes of this node join here.

::

    ChildSpec("pg", ProcessGroups, name="pg")

    await self.groups("pg").join("resizers")       # inside a GenServer
    node.groups("pg").members("resizers")          # outside: [ref, ...]
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from supervisors.genserver import NO_REPLY, GenServer
from supervisors.registry.matching import strict
from supervisors.terms.errors import NoProcess, NotAllowed, NotJoined, SpecError, SupervisorsError
from supervisors.terms.reason import Caller, Ref

if TYPE_CHECKING:
    from supervisors.client.node import Node
    from supervisors.terms.via import Via


@dataclass(frozen=True)
class GroupChange:
    """What a monitor of a group gets in handle_info.

    Args:
        monitor: what `monitor` returned.
        kind: "join" or "leave".
        group: which group.
        members: who; a process that joined or left n times is there n times.
    """

    monitor: int
    kind: str
    group: Any
    members: list[Ref]


class GroupTable:
    """Members by group, and groups by member. Pure."""

    def __init__(self) -> None:
        """Begin without any."""
        self._groups: dict[Any, tuple[Any, list[Ref]]] = {}
        self._joined: dict[Ref, set[Any]] = {}

    def join(self, group: Any, members: list[Ref]) -> None:
        """Add members, again where they are members."""
        hashed = strict(group)
        if members:
            self._groups.setdefault(hashed, (group, []))[1].extend(members)
        for member in members:
            self._joined.setdefault(member, set()).add(hashed)

    def leave(self, group: Any, members: list[Ref]) -> list[Ref]:
        """Remove each once; return those that were members.

        Raises:
            NotJoined: none of them was.
        """
        hashed = strict(group)
        left = [member for member in members if self._leave(hashed, member)]
        if members and not left:
            raise NotJoined(f"group {group!r:.100}: {', '.join(map(str, members))} is not a member")
        return left

    def _leave(self, hashed: Any, member: Ref) -> bool:
        _, present = self._groups.get(hashed, (None, []))
        if member not in present:
            return False
        present.remove(member)
        if member not in present:
            self._joined[member].discard(hashed)
            if not self._joined[member]:
                del self._joined[member]
        if not present:
            del self._groups[hashed]
        return True

    def drop(self, member: Ref) -> list[tuple[Any, list[Ref]]]:
        """Remove a process from all groups; return (group, as often as it was in it)."""
        changes = []
        for hashed in list(self._joined.get(member, ())):
            group, present = self._groups[hashed]
            times = [each for each in present if each == member]
            for _ in times:
                self._leave(hashed, member)
            changes.append((group, times))
        return changes

    def members(self, group: Any) -> list[Ref]:
        """Return the members, in the order in which they joined."""
        return list(self._groups.get(strict(group), (None, []))[1])

    def which_groups(self) -> list[Any]:
        """Return the groups that have members."""
        return [group for group, _ in self._groups.values()]


class ProcessGroups(GenServer):
    """The groups of a node, or of one scope of it."""

    def init(self) -> None:
        """Start without groups."""
        self._table = GroupTable()
        self._watched: set[Ref] = set()
        self._monitor_ids = itertools.count(1)
        self._monitors: dict[int, tuple[Any, Any, Ref]] = {}  # number → (group as it is compared, group, watcher)

    def handle_call(self, request: Any, caller: Caller) -> Any:
        """Answer one request; one that is refused does the groups no harm."""
        try:
            match request:
                case ("join", group, list(members)):
                    return self._join(group, members)
                case ("leave", group, list(members)):
                    return self._tell("leave", group, self._table.leave(group, members))
                case ("members", group):
                    return self._table.members(group)
                case ("which_groups",):
                    return self._table.which_groups()
                case ("monitor", group, Ref() as watcher):
                    self._watch(watcher)
                    number = next(self._monitor_ids)
                    self._monitors[number] = (strict(group), group, watcher)
                    return number, self._table.members(group)
                case ("demonitor", int(number)):
                    self._monitors.pop(number, None)
                    return None
            raise NotAllowed(f"process groups have no request {request!r:.100}")
        except SupervisorsError as error:
            self.reply_error(caller, error)
            return NO_REPLY

    def _join(self, group: Any, members: list[Ref]) -> None:
        strict(group)
        for member in members:
            if not isinstance(member, Ref) or member.host != self.ref.host:
                raise SpecError(f"members: {member!r:.100}: expected the Ref of a process of this node")
            self._watch(member)
        self._table.join(group, members)
        self._tell("join", group, members)

    def _watch(self, ref: Ref) -> None:
        if ref not in self._watched:
            try:
                self._process.peers.on_death(ref, self._ended)
            except NoProcess as error:
                raise NoProcess(f"group member {ref} has ended", reason=error.reason) from None
            self._watched.add(ref)

    def _ended(self, ref: Ref) -> None:
        self._watched.discard(ref)
        self._monitors = {number: entry for number, entry in self._monitors.items() if entry[2] != ref}
        for group, times in self._table.drop(ref):
            self._tell("leave", group, times)

    def _tell(self, kind: str, group: Any, members: list[Ref]) -> None:
        hashed = strict(group)
        for number, (watched, name, watcher) in self._monitors.items():
            if members and watched == hashed:
                self.send(watcher, GroupChange(number, kind, name, members))


class _Requests(ABC):
    _self: Ref | None = None

    @abstractmethod
    def _ask(self, request: Any) -> Any:
        """Make one request."""

    def _members(self, members: tuple[Ref, ...]) -> list[Ref]:
        found: list[Any] = list(members) or [self._self]
        if not all(isinstance(each, Ref) for each in found):
            raise SpecError(f"members={members!r}: expected the Refs of processes")
        return found

    def join(self, group: Any, *members: Ref) -> Any:
        """Join a group; inside a server without `members`: this server.

        Raises:
            NoProcess: one of them has ended, or there are no such groups. SpecError: one is of another node.
        """
        return self._ask(("join", group, self._members(members)))

    def leave(self, group: Any, *members: Ref) -> Any:
        """Leave a group once.

        Raises:
            NotJoined: none of them is a member.
        """
        return self._ask(("leave", group, self._members(members)))

    def members(self, group: Any) -> Any:
        """Return the members; one that joined n times is there n times."""
        return self._ask(("members", group))

    def which_groups(self) -> Any:
        """Return the groups that have members."""
        return self._ask(("which_groups",))

    def monitor(self, group: Any, *, watcher: Ref | None = None) -> Any:
        """Have a server told of each change as GroupChange in handle_info; return (monitor, members now)."""
        return self._ask(("monitor", group, self._members((watcher,) if watcher else ())[0]))

    def demonitor(self, monitor: int) -> Any:
        """End that."""
        return self._ask(("demonitor", monitor))


class GroupsHandle(_Requests):
    """Process groups, for a program outside: `node.groups(name)`."""

    def __init__(self, node: Node, name: Ref | str | Via) -> None:
        """Use `node.groups(name)` instead."""
        self._node, self._name = node, name

    def _ask(self, request: Any) -> Any:
        return self._node.call(self._name, request)


class AsyncGroupsHandle(_Requests):
    """Process groups, inside a GenServer: `self.groups(name)`; every method is awaited."""

    def __init__(self, server: GenServer, name: Ref | str | Via) -> None:
        """Use `self.groups(name)` instead."""
        self._server, self._name, self._self = server, name, server.ref

    def _ask(self, request: Any) -> Any:
        return self._server.call(self._name, request)
