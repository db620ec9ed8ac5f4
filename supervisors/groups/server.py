"""ProcessGroups: named groups of processes, as Erlang's `pg`.

A process may join a group several times; it is a member until it has left as often. A member that ends leaves all its
groups. A group exists while it has members. Only processes of the server's own node can join.

::

    ChildSpec("pg", ProcessGroups, name="pg")

    await AsyncGroups(self, "pg").join("resizers")       # inside a GenServer
    Groups(node, "pg").members("resizers")               # outside: [ref, ...]
"""

from __future__ import annotations

import itertools
from typing import Any

from supervisors.groups.core import GroupTable
from supervisors.groups.handle import GroupChange
from supervisors.registry.matching import strict
from supervisors.system_server import SystemServer
from supervisors.terms.checks import check_size
from supervisors.terms.errors import NoProcess, SpecError
from supervisors.terms.ports import engine_of
from supervisors.terms.ref import Caller, Ref


class ProcessGroups(SystemServer):
    """The groups of a node, or of one scope of it."""

    WHAT = "ProcessGroups"

    def init(self) -> None:
        """Start without groups."""
        self._table = GroupTable()
        self._watched: set[Ref] = set()
        self._monitor_ids = itertools.count(1)
        self._monitors: dict[int, tuple[Any, Any, Ref]] = {}  # number → (group as it is compared, group, watcher)

    def answer(self, request: Any, caller: Caller) -> Any:
        """Answer one request; one that is refused does the groups no harm."""
        check_size("request", request)
        match request:
            case ("join", group, list(members)):
                return self._join(group, members)
            case ("leave", group, list(members)):
                return self._tell("leave", group, self._table.leave(group, members))
            case ("members", group):
                return self._table.members(group)
            case ("which_groups",):
                return self._table.which_groups()
            case ("monitor", group, Ref(outside=False) as watcher):
                self._watch(watcher)
                number = next(self._monitor_ids)
                self._monitors[number] = (strict(group), group, watcher)
                return number, self._table.members(group)
            case ("demonitor", int(number)):
                self._monitors.pop(number, None)
                return None
        raise self.unknown(request)

    def _join(self, group: Any, members: list[Ref]) -> None:
        strict(group)
        for member in members:
            if not isinstance(member, Ref) or member.host != self.ref.host or member.outside:
                raise SpecError.of("members", member, "the Refs of processes of this node")
            self._watch(member)
        self._table.join(group, members)
        self._tell("join", group, members)

    def _watch(self, ref: Ref) -> None:
        if ref not in self._watched:
            try:
                engine_of(self).peers.on_death(ref, self._ended)
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
