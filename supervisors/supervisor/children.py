"""The children of one supervisor, in start order, as it knows them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from supervisors.terms.errors import ChildNotFound
from supervisors.terms.reason import ExitReason
from supervisors.terms.ref import Ref
from supervisors.terms.showing import text_of
from supervisors.terms.spec import ChildSpec
from supervisors.terms.views import ChildCounts, ChildInfo

_SHOWN = {"running": "running", "stopping": "running", "restarting": "restarting"}


@dataclass
class Child:
    """One child. `key` names it for ever, `generation` one process of it.

    Args:
        key: unique under this supervisor.
        spec: how it is started and stopped.
        state: stopped, starting, running, stopping, or restarting (between two attempts).
        generation: how many processes it has had; word of an older one is ignored.
        ref: its process; under simple_one_for_one the last one it had, by which callers name it.
        restarts: how often it was started again.
        in_row: restarts that its back-off counts as being in a row.
        since: when it was last ready.
        reason: why it ended last.
        again: it is being started because it, or one of its group, has ended.
        info: what its init gave for whoever starts it, packed.
    """

    key: int
    spec: ChildSpec
    state: str = "stopped"
    generation: int = 0
    ref: Ref | None = None
    restarts: int = 0
    in_row: int = 0
    since: float = 0.0
    reason: ExitReason | None = None
    again: bool = False
    info: bytes | None = None

    @property
    def shown(self) -> str:
        """Return its state as callers see it: an attempt to restart that is under way is still a restart."""
        if self.state == "starting" and self.again:
            return "restarting"
        return _SHOWN.get(self.state, "stopped")

    @property
    def live(self) -> bool:
        """Whether there is, or may be, a process."""
        return self.state in ("starting", "running", "stopping")

    @property
    def ready(self) -> bool:
        """Whether its process takes messages (one that is being stopped still does)."""
        return self.state in ("running", "stopping")


class Children:
    """Children in start order.

    Args:
        dynamic: they are made from one template (simple_one_for_one): no ids, they go by Ref.
    """

    def __init__(self, dynamic: bool) -> None:
        """Begin with none."""
        self._dynamic = dynamic
        self._by_key: dict[int, Child] = {}
        self._key_of: dict[str, int] = {}  # by id; by the uid of its Ref under simple_one_for_one
        self._next_key = 0

    def __iter__(self) -> Iterator[Child]:
        """Go over them in start order; they may come and go meanwhile."""
        return iter(list(self._by_key.values()))

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._by_key)

    def get(self, key: object) -> Child | None:
        """Return the child with this key, if it is still known."""
        return self._by_key.get(key)  # type: ignore[call-overload, no-any-return]

    def add(self, spec: ChildSpec) -> Child:
        """Append a child."""
        self._next_key += 1
        child = self._by_key[self._next_key] = Child(self._next_key, spec)
        if not self._dynamic:
            self._key_of[spec.id] = child.key
        return child

    def has_started(self, child: Child, ref: Ref) -> None:
        """Note the process that a child has from now on."""
        if self._dynamic:
            if child.ref is not None:
                self._key_of.pop(child.ref.uid, None)
            self._key_of[ref.uid] = child.key
        child.ref = ref

    def forget(self, child: Child) -> None:
        """Take a child out."""
        if self._by_key.pop(child.key, None) is not None:
            name = child.ref.uid if self._dynamic and child.ref is not None else child.spec.id
            self._key_of.pop(name, None)

    def keys(self) -> list[int]:
        """Return the keys of all, in start order."""
        return list(self._by_key)

    def with_id(self, child_id: str) -> Child | None:
        """Return the child with this id."""
        return self.get(self._key_of.get(child_id))

    def find(self, which: Any) -> Child:
        """Return a child by its id, or by its Ref under simple_one_for_one.

        Raises:
            ChildNotFound: no child has this id or Ref.
        """
        name = which.uid if self._dynamic and isinstance(which, Ref) else which
        child = self.get(self._key_of.get(name)) if isinstance(name, str) else None
        if child is not None and (not self._dynamic or child.ref == which):
            return child
        known = "" if self._dynamic else f"; known: {', '.join(c.spec.id for c in self) or 'none'}"
        raise ChildNotFound(f"no child {text_of(which, 200)}{known}", id=text_of(which, 200))

    def rows(self) -> list[ChildInfo]:
        """Return a row per child, newest first."""
        return [self.row(child) for child in reversed(self._by_key.values())]

    def row(self, child: Child) -> ChildInfo:
        """Return what is shown of one child."""
        return ChildInfo(
            id=None if self._dynamic else child.spec.id,
            ref=child.ref if child.ready else None,
            state=child.shown,
            type=child.spec.type,
            pid=child.ref.pid if child.ref is not None and child.ready else None,
            restarts=child.restarts,
            name=child.spec.registers,
        )

    def counts(self) -> ChildCounts:
        """Return how many specs, live children, supervisors and workers there are."""
        supervisors = sum(child.spec.type == "supervisor" for child in self)
        return ChildCounts(
            specs=1 if self._dynamic else len(self),
            active=sum(child.ready for child in self),
            supervisors=supervisors,
            workers=len(self) - supervisors,
        )
