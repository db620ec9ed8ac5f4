"""What a server calls to own something: `AsyncLeases(self)`, and `Holding`, a lease that renews itself."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any

from supervisors.cluster.leases import messages
from supervisors.cluster.leases.clock import now
from supervisors.cluster.leases.messages import LEASES
from supervisors.cluster.leases.store import TTL_SECONDS, Lease, check_ttl
from supervisors.genserver import GenServer
from supervisors.terms.checks import Target
from supervisors.terms.errors import CallTimeout, LeaseHeld, LeaseLost, NoMajority, NoProcess, ServerExited

#: A lease is renewed so often in its time.
RENEWALS = 3
#: Clocks of two hosts may differ in pace by this part of a lease's time: the holder gives up so much earlier.
MARGIN = 0.1
#: What passes: the lease may still be had, or kept, if it is asked for again.
_PASSING = (NoMajority, CallTimeout, NoProcess, ServerExited)


@dataclass(frozen=True, slots=True)
class LeaseEnded:
    """Comes to handle_info of a server whose lease has ended before it released it: it owns that no more.

    Args:
        name: of the lease.
        epoch: that is over.
        why: in a few words.
    """

    name: str
    epoch: int
    why: str


class Holding:
    """A lease that a server holds, renewed until it is released, lost, or the server ends.

    Not made by hand: `AsyncLeases(self).acquire(...)` returns it.
    """

    def __init__(self, server: GenServer, target: Target, lease: Lease, sent_at: float) -> None:
        """Begin to renew it."""
        self._server, self._target = server, target
        self._holder, self._ttl = lease.holder, lease.ttl
        self.name, self.epoch, self.value = lease.name, lease.epoch, lease.value
        self._until = believed(lease.ttl, sent_at)
        self._over = ""
        self._task = server.spawn(self._keep())

    @property
    def held(self) -> bool:
        """Whether this server still owns it, by its own clock; nobody else does while this is True."""
        return not self._over and now() < self._until

    @property
    def left(self) -> float:
        """For how many seconds it is held at least, without another renewal."""
        return max(0.0, self._until - now()) if not self._over else 0.0

    def check(self) -> int:
        """Return the epoch under which to write.

        Raises:
            LeaseLost: it is not held any more.
        """
        if not self.held:
            raise LeaseLost(f"the lease {self.name} is lost (epoch {self.epoch}): {self._over or 'its time is over'}")
        return self.epoch

    async def set_value(self, value: Any) -> None:
        """Put another value with the lease; it is there for whoever takes it next when this returns.

        Raises:
            LeaseLost: it is not held any more.
            NoMajority: nothing is known; it may be there.
        """
        self.check()
        await self._renew(value)
        self.value = value

    async def release(self) -> None:
        """End it: another server may have it at once."""
        self._end("released", tell=False)
        with contextlib.suppress(*_PASSING):  # it ends by itself
            await self._server.call(self._target, messages.Release(self.name, self._holder, self.epoch))

    async def _renew(self, value: Any = None) -> None:
        sent_at = now()
        request = messages.Renew(self.name, self._holder, self.epoch, value)
        try:
            lease = await self._server.call(self._target, request, timeout=max(0.2, self._ttl / 2))
        except LeaseLost as error:
            self._end(error.message)
            raise
        self._until = max(self._until, believed(lease.ttl, sent_at))

    async def _keep(self) -> None:
        while not self._over:
            pause = min(self._ttl / RENEWALS, max(0.05, self._until - now()))
            await asyncio.sleep(pause)
            if self._over:
                return
            if not self.held:
                self._end("its time is over, and nobody has renewed it")
                return
            try:
                await self._renew()
            except LeaseLost:
                return
            except _PASSING as error:
                self._server.log.info("a lease was not renewed", lease=self.name, error=error.message)
                await asyncio.sleep(min(0.2, self._ttl / 10))

    def _end(self, why: str, tell: bool = True) -> None:
        if self._over:
            return
        self._over = why
        if tell:
            self._server.send(self._server.ref, LeaseEnded(self.name, self.epoch, why))


class AsyncLeases:
    """The leases of the cluster, inside a GenServer; every method is awaited.

    Args:
        server: in which it is used: `self`.
        target: the server of leases of its node.
    """

    def __init__(self, server: GenServer, target: Target = LEASES) -> None:
        """Make it; nothing is asked yet."""
        self._server, self._target = server, target

    @property
    def holder(self) -> str:
        """As whom this server holds leases: this incarnation of it, on this incarnation of its node."""
        node = self._server.node
        return f"{node['name']}:{node['uid']}.{node['incarnation']}:{self._server.ref.uid}"

    async def acquire(
        self, name: str, ttl: float = TTL_SECONDS, value: Any = None, wait: float | None = 0.0, above: int = 0
    ) -> Holding:
        """Own something, alone in the cluster, until it is released or lost.

        The lease is renewed by itself, and ends when this server ends. Where it is lost (the store could not be reached
        in time, or this process was stopped meanwhile), `LeaseEnded` comes to handle_info; whatever is written or said
        under it carries its epoch, which `Holding.check()` returns.

        Args:
            name: what is to be owned.
            ttl: for how long another one has to wait if this node dies, in seconds.
            value: small plain data to put with it; None: what is there stays.
            wait: how long to wait for a lease that another one holds, or for a store that gives no answer, in seconds;
                None: without end.
            above: an epoch that has been written under, and is not to come again: where the store knows nothing of it,
                because it was lost, or is another cluster's, all of its epochs begin above it from then on.

        Raises:
            LeaseHeld: another one has it. NoMajority: the store gives no answer.
        """
        ttl = check_ttl(ttl)
        end = None if wait is None else now() + wait
        request = messages.Acquire(name, self.holder, ttl, value, self._server.ref)
        has_raised = False
        while True:
            sent_at = now()
            try:
                lease = await self._server.call(self._target, request, timeout=10.0)
                if lease.epoch > above or has_raised:
                    return Holding(self._server, self._target, lease, sent_at)
                await self._server.call(self._target, messages.Release(name, self.holder, lease.epoch), timeout=10.0)
                await self._server.call(self._target, ("raise", above), timeout=10.0)
                has_raised = True
                continue
            except (LeaseHeld, *_PASSING):
                if end is not None and now() >= end:
                    raise
            await asyncio.sleep(min(0.25, ttl / 10))

    async def get(self, name: str) -> Lease:
        """Return a lease; without a holder nobody has it."""
        return await self._server.call(self._target, messages.Get(name), timeout=10.0)  # type: ignore[no-any-return]

    async def watch(self, prefix: str) -> list[str]:
        """Get LeaseChanged in handle_info with each change of a lease whose name begins so; return who is held now."""
        request = messages.Watch(prefix, self._server.ref)
        return await self._server.call(self._target, request, timeout=10.0)  # type: ignore[no-any-return]


def believed(ttl: float, sent_at: float) -> float:
    """Return until when a holder may believe in a lease whose grant or renewal it sent for at `sent_at`."""
    return sent_at + ttl * (1 - MARGIN)
