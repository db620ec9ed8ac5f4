"""Who is told when a supervisor ends: those that monitor it, and those that are linked to it."""

from __future__ import annotations

from supervisors.host import processes
from supervisors.terms.ref import Ref

#: Dead watchers are cleared away when there are so many of them.
SWEEP_AT = 256
#: The number of a link, which has none of its own: a supervisor traps exits and ignores those of strangers, so all that
#: a link asks of it is to tell of its own end.
LINK = 0


class Watchers:
    """The watchers of a supervisor on `host`, each with the numbers of its monitors."""

    def __init__(self, host: str) -> None:
        """Have none."""
        self._host = host
        self._known: dict[tuple[Ref, int], None] = {}

    def add(self, watcher: Ref, number: int) -> None:
        """Add a monitor, or a link (`LINK`)."""
        if len(self._known) >= SWEEP_AT:
            self._sweep()
        self._known[watcher, number] = None

    def _sweep(self) -> None:
        mine = {watcher for watcher, _ in self._known if watcher.host == self._host}
        dead = {watcher for watcher in mine if processes.has_ended(watcher.pid, watcher.born)}
        self._known = {key: None for key in self._known if key[0] not in dead}

    def remove(self, watcher: Ref, number: int) -> None:
        """Forget one."""
        self._known.pop((watcher, number), None)

    def everyone(self) -> set[Ref]:
        """Return who is to be told."""
        return {watcher for watcher, _ in self._known}
