"""Who borrows from a pool: which checkouts each has, and which processes are watched for it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

from supervisors.pool.effects import Borrower, Demonitor, Effect, Monitor


class Borrowers:
    """Checkouts by borrower. A process is watched as long as it has one, or is the door of a program that has."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._leases: dict[Borrower, dict[str, None]] = {}
        self._processes: Counter[Hashable] = Counter()  # how many borrowers each stands for

    def add(self, borrower: Borrower, lease: str) -> list[Effect]:
        """Note a checkout; return whom to watch from now on."""
        effects: list[Effect] = []
        if borrower not in self._leases:
            self._leases[borrower] = {}
            self._processes[borrower.process] += 1
            if self._processes[borrower.process] == 1:
                effects.append(Monitor(borrower.process))
        self._leases[borrower][lease] = None
        return effects

    def drop(self, borrower: Borrower, lease: str) -> list[Effect]:
        """Forget a checkout; return whom not to watch any more."""
        mine = self._leases[borrower]
        del mine[lease]
        if mine:
            return []
        del self._leases[borrower]
        self._processes[borrower.process] -= 1
        if self._processes[borrower.process]:
            return []
        del self._processes[borrower.process]
        return [Demonitor(borrower.process)]

    def of_process(self, process: Hashable) -> list[str]:
        """Return the checkouts that end with a process."""
        return [lease for each, leases in self._leases.items() if each.process == process for lease in leases]

    def of_client(self, client: str) -> list[str]:
        """Return the checkouts of a program outside."""
        return [lease for each, leases in self._leases.items() if each.client == client for lease in leases]
