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
from typing import Any

from supervisors.genserver import NO_REPLY, GenServer
from supervisors.groups.core import GroupTable
from supervisors.groups.handle import GroupChange
from supervisors.registry.matching import strict
from supervisors.terms.errors import NoProcess, NotAllowed, SpecError, SupervisorsError
from supervisors.terms.ref import Caller, Ref


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
