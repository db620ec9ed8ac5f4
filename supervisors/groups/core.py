"""What process groups decide, pure: who is a member of what."""

from __future__ import annotations

from typing import Any

from supervisors.registry.matching import strict
from supervisors.terms.errors import NotJoined
from supervisors.terms.ref import Ref
from supervisors.terms.showing import shown


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
            raise NotJoined(f"group {shown(group, 100)}: {', '.join(map(str, members))} is not a member")
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
