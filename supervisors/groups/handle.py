"""What a program calls of process groups: `Groups` outside, `AsyncGroups` inside a GenServer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from supervisors.terms.checks import check_ref
from supervisors.terms.handles import AsyncHandle, Handle
from supervisors.terms.ref import Ref


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


class _Requests(ABC):
    @property
    def _self(self) -> Ref | None:
        """Who is meant where no member is given."""
        return None

    @abstractmethod
    def _ask(self, request: Any) -> Any:
        """Make one request."""

    def _members(self, members: tuple[Ref, ...]) -> list[Ref]:
        found: list[Any] = list(members) or [self._self]
        for each in found:
            check_ref(each, "members")
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
        """End the monitor of this number."""
        return self._ask(("demonitor", monitor))


class Groups(Handle, _Requests):
    """Process groups, for a program outside: `Groups(node, "pg")`. Thread-safe."""

    def _ask(self, request: Any) -> Any:
        return self._node.call(self._target, request)


class AsyncGroups(AsyncHandle, _Requests):
    """Process groups, inside a GenServer: `AsyncGroups(self, "pg")`; every method is awaited."""

    @property
    def _self(self) -> Ref:
        return self._server.ref

    def _ask(self, request: Any) -> Any:
        return self._server.call(self._target, request)
