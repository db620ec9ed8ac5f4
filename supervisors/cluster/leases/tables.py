"""A store that keeps a table of its own: what is common to one on a file and one with copies on several nodes."""

from __future__ import annotations

import asyncio
import secrets
from abc import abstractmethod
from collections.abc import Callable

from supervisors.cluster.leases.clock import now
from supervisors.cluster.leases.core import (
    OK,
    Acquire,
    Command,
    Deadlines,
    Expire,
    Outcome,
    Put,
    Raise,
    Release,
    Renew,
    Row,
    Table,
)
from supervisors.cluster.leases.store import LeaseStore, refused

#: What is told of a change: "lease" or "value", and the name.
Changed = Callable[[str, str], None]


class TableStore(LeaseStore):
    """A `LeaseStore` whose subclass says how a command is carried out, and how the table is read."""

    def __init__(self) -> None:
        """Begin with an empty table."""
        self.table = Table()
        self.deadlines = Deadlines()
        self._changed: list[Changed] = []
        self._timer: asyncio.TimerHandle | None = None

    @abstractmethod
    async def do(self, command: Command) -> tuple[Outcome, float]:
        """Carry out a command; return what it did, and how long the lease is held at most.

        Raises:
            NoMajority: nothing is known.
        """

    async def reach(self) -> None:
        """Return when the table is as new as what anybody was told before this was called.

        Raises:
            NoMajority: it may be older.
        """

    async def acquire(self, name: str, holder: str, ttl: float, value: bytes | None) -> Row:
        """Give the lease to `holder`."""
        return await self._row(Acquire(name, holder, ttl, value))

    async def renew(self, name: str, holder: str, epoch: int, value: bytes | None) -> Row:
        """Begin the lease's time anew."""
        return await self._row(Renew(name, holder, epoch, value))

    async def release(self, name: str, holder: str, epoch: int) -> None:
        """End a lease."""
        await self.do(Release(name, holder, epoch))

    async def get(self, name: str) -> tuple[Row | None, float]:
        """Return the lease."""
        await self.reach()
        return self.table.leases.get(name), self.deadlines.left(name, now())

    async def raise_floor(self, epoch: int) -> None:
        """Have all leases that get another holder from now on have a greater epoch than this."""
        await self.do(Raise("", epoch))

    async def put(self, name: str, value: bytes, version: int | None, lease: str = "", epoch: int = 0) -> int:
        """Set a value."""
        outcome, _ = await self.do(Put(name, value, version, lease, epoch, secrets.token_hex(8)))
        if outcome.word != OK:
            refused(name, outcome)
        return outcome.version

    async def read(self, name: str) -> tuple[bytes, int]:
        """Return a value and its version."""
        await self.reach()
        return self.table.values.get(name, (b"", 0, ""))[:2]

    async def names(self, prefix: str) -> list[str]:
        """Return the names of the leases that somebody holds."""
        await self.reach()
        return [name for name, _ in self.table.held() if name.startswith(prefix)]

    def watch(self, changed: Changed) -> None:
        """Have `changed(kind, name)` called with each change."""
        self._changed.append(changed)

    async def _row(self, command: Acquire | Renew) -> Row:
        outcome, left = await self.do(command)
        if outcome.word != OK:
            refused(command.name, outcome, left)
        assert outcome.row is not None
        return outcome.row

    # --- for the subclass -------------------------------------------------------------------------------------------

    def noticed(self, command: Command, outcome: Outcome) -> None:
        """Count the time of a lease from now, and tell watchers, after a command was applied to the table."""
        is_value = isinstance(command, Put)
        if not is_value:
            self.deadlines.see(command.name, self.table.leases.get(command.name), now())
        if outcome.changed:
            self._tell("value" if is_value else "lease", command.name)

    def _tell(self, kind: str, name: str) -> None:
        for changed in self._changed:
            changed(kind, name)

    def count(self, end: Callable[[list[Expire]], None]) -> None:
        """Have `end` called with what is over, when it is; call it again after each change."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if (at := self.deadlines.next_at()) is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0.0, at - now()) + 0.001, self._over, end)

    def _over(self, end: Callable[[list[Expire]], None]) -> None:
        self._timer = None
        if commands := self.deadlines.due(now()):
            end(commands)
        self.count(end)

    async def close(self) -> None:
        """Count no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
