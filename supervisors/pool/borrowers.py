"""Who borrows from a pool: which checkouts each has, and which processes are watched for it. Pure."""

from __future__ import annotations

from collections.abc import Hashable

from supervisors.pool.effects import Demonitor, Effect, Monitor


class Borrowers:
    """Checkouts by borrower, a process or a program outside. It is watched as long as it has one."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._leases: dict[Hashable, dict[str, None]] = {}

    def add(self, borrower: Hashable, lease: str) -> list[Effect]:
        """Note a checkout; return whom to watch from now on."""
        known = borrower in self._leases
        self._leases.setdefault(borrower, {})[lease] = None
        return [] if known else [Monitor(borrower)]

    def drop(self, borrower: Hashable, lease: str) -> list[Effect]:
        """Forget a checkout; return whom not to watch any more."""
        mine = self._leases[borrower]
        del mine[lease]
        if mine:
            return []
        del self._leases[borrower]
        return [Demonitor(borrower)]

    def of(self, borrower: Hashable) -> list[str]:
        """Return the checkouts that end with a borrower."""
        return list(self._leases.get(borrower, ()))
