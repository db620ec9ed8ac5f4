"""What a registry decides, pure: who owns which keys, and who may lock one. It knows nothing of processes or time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from supervisors.registry.matching import Guard, bind, fill, holds, strict
from supervisors.terms.checks import check_choice
from supervisors.terms.errors import AlreadyRegistered, NotAllowed
from supervisors.terms.ref import Ref
from supervisors.terms.showing import shown

KINDS = ("unique", "duplicate")


class Entry(NamedTuple):
    """One registration."""

    key: Any
    owner: Ref
    value: Any


class RegistryTable:
    """Entries by key and by owner.

    Args:
        keys: "unique" - a key has one owner; "duplicate" - any number, the same owner several times too.
        alive: whether an owner lives; an entry of one that does not is as good as gone.

    Raises:
        SpecError: `keys` is neither.
    """

    def __init__(self, keys: str, alive: Callable[[Ref], bool] = lambda owner: True) -> None:
        """Begin empty."""
        check_choice("keys", keys, KINDS)
        self.unique = keys == "unique"
        self._alive = alive
        self._by_key: dict[Any, list[Entry]] = {}
        # How many entries an owner has under a key, so that what goes with it is found without looking at the rest.
        self._by_owner: dict[Ref, dict[Any, int]] = {}

    def register(self, key: Any, owner: Ref, value: Any = None) -> None:
        """Add an entry.

        Raises:
            AlreadyRegistered: the key is unique and has an owner, maybe this one.
        """
        hashed = strict(key)
        holder = self._holder(hashed) if self.unique else None
        if holder is not None:
            raise AlreadyRegistered(f"key {shown(key, 100)} is registered by {holder.owner}", ref=holder.owner)
        self._by_key.setdefault(hashed, []).append(Entry(key, owner, value))
        counts = self._by_owner.setdefault(owner, {})
        counts[hashed] = counts.get(hashed, 0) + 1

    def _holder(self, hashed: Any) -> Entry | None:
        """Return the entry of a unique key; one whose owner is dead is dropped: its notice may be on its way."""
        entries = self._by_key.get(hashed)
        if not entries:
            return None
        if self._alive(entries[0].owner):
            return entries[0]
        self.drop(entries[0].owner)
        return None

    def lookup(self, key: Any) -> list[tuple[Ref, Any]]:
        """Return (owner, value) of each entry of a key, oldest first."""
        hashed = strict(key)
        if self.unique:
            self._holder(hashed)
        return [(entry.owner, entry.value) for entry in self._by_key.get(hashed, [])]

    def unregister(self, key: Any, owner: Ref) -> list[Entry]:
        """Remove an owner's entries of a key; return them."""
        return self._remove(strict(key), owner, lambda entry: True)

    def unregister_match(self, key: Any, owner: Ref, pattern: Any, guards: Iterable[Guard] = ()) -> list[Entry]:
        """Remove an owner's entries of a key whose value fits; return them."""
        return self._remove(strict(key), owner, lambda entry: _fits(entry.value, pattern, guards))

    def _remove(self, hashed: Any, owner: Ref, wanted: Callable[[Entry], bool]) -> list[Entry]:
        if hashed not in self._by_owner.get(owner, {}):
            return []
        kept: list[Entry] = []
        gone: list[Entry] = []
        for entry in self._by_key[hashed]:
            (gone if entry.owner == owner and wanted(entry) else kept).append(entry)
        if kept:
            self._by_key[hashed] = kept
        else:
            del self._by_key[hashed]
        counts = self._by_owner[owner]
        counts[hashed] -= len(gone)
        if not counts[hashed]:
            del counts[hashed]
            if not counts:
                del self._by_owner[owner]
        return gone

    def value(self, key: Any, owner: Ref) -> Any:
        """Return the value of an entry.

        Raises:
            NotAllowed: keys are not unique, or this is not the owner.
        """
        return self._own(key, owner).value

    def update_value(self, key: Any, owner: Ref, value: Any) -> None:
        """Set the value of an entry; raises as `value` does."""
        self._by_key[strict(key)] = [self._own(key, owner)._replace(value=value)]

    def _own(self, key: Any, owner: Ref) -> Entry:
        if not self.unique:
            raise NotAllowed("update_value: only in a registry with unique keys")
        holder = self._holder(strict(key))
        if holder is None or holder.owner != owner:
            raise NotAllowed(f"update_value: key {shown(key, 100)} is not registered by {owner}")
        return holder

    def drop(self, owner: Ref) -> list[Entry]:
        """Remove all of an owner; return what there was."""
        return [
            entry
            for hashed in list(self._by_owner.get(owner, ()))
            for entry in self._remove(hashed, owner, lambda _: True)
        ]

    def owns(self, owner: Ref) -> bool:
        """Whether an owner has an entry."""
        return owner in self._by_owner

    def keys(self, owner: Ref) -> list[Any]:
        """Return an owner's keys; one that it has n times comes n times."""
        return [
            entry.key
            for hashed in self._by_owner.get(owner, ())
            for entry in self._by_key[hashed]
            if entry.owner == owner
        ]

    def values(self, key: Any, owner: Ref) -> list[Any]:
        """Return the values of an owner's entries of a key."""
        return [entry.value for entry in self._by_key.get(strict(key), []) if entry.owner == owner]

    def count(self) -> int:
        """Return how many entries there are."""
        return sum(len(entries) for entries in self._by_key.values())

    def match(self, key: Any, pattern: Any, guards: Iterable[Guard] = ()) -> list[tuple[Ref, Any]]:
        """Return (owner, value) of each entry of a key whose value fits."""
        return [(owner, value) for owner, value in self.lookup(key) if _fits(value, pattern, guards)]

    def select(self, pattern: Any, guards: Iterable[Guard] = (), body: Any = None) -> list[Any]:
        """Return every entry whose (key, owner, value) fits, or `body` filled in for each."""
        found = []
        for entry in self._entries():
            bound = bind(pattern, tuple(entry))
            if bound is not None and holds(guards, bound):
                found.append(tuple(entry) if body is None else fill(body, bound))
        return found

    def _entries(self) -> Iterator[Entry]:
        for entries in self._by_key.values():
            yield from entries


def _fits(value: Any, pattern: Any, guards: Iterable[Guard]) -> bool:
    bound = bind(pattern, value)
    return bound is not None and holds(guards, bound)


class Lease(NamedTuple):
    """Somebody's wish for a lock. `number` tells the wishes of one holder apart."""

    holder: Ref
    number: Any


class LockTable:
    """A lock per key: first come, first served."""

    def __init__(self) -> None:
        """Begin with no lock taken."""
        self._queues: dict[Any, deque[Lease]] = {}  # whoever is first has it

    def acquire(self, key: Any, lease: Lease) -> bool:
        """Take a lock, or stand in line for it; return whether it is taken."""
        queue = self._queues.setdefault(strict(key), deque())
        queue.append(lease)
        return len(queue) == 1

    def release(self, key: Any, lease: Lease) -> Lease | None:
        """Give a lock back, or leave the line; return whose turn it has become."""
        return self._leave(strict(key), lambda each: each == lease)

    def drop(self, holder: Ref) -> list[Lease]:
        """Forget somebody who died, who may hold some and wait for others; return whose turn it has become."""
        turns = [self._leave(hashed, lambda each: each.holder == holder) for hashed in list(self._queues)]
        return [lease for lease in turns if lease is not None]

    def _leave(self, hashed: Any, goes: Callable[[Lease], bool]) -> Lease | None:
        queue = self._queues.get(hashed)
        if queue is None:
            return None
        kept = deque(lease for lease in queue if not goes(lease))
        if not kept:
            del self._queues[hashed]
            return None
        self._queues[hashed] = kept
        return kept[0] if kept[0] != queue[0] else None

    def __len__(self) -> int:
        """Return how many keys are locked."""
        return len(self._queues)
