"""Pools of workers: borrow one, use it, give it back; as poolboy.

::

    node.start_supervisor(PoolSpec(ChildSpec("connection", Connection), name="db", size=5, max_overflow=10))
    db = node.pool("db")
    rows = db.transaction(("query", "select 1"), timeout=1.0, work_timeout=10.0)
    db.transaction(lambda worker: node.call(worker, ("query", "select 1")))

Whoever borrows is watched: when a process ends, or a program outside loses its connection to the node, what it had
goes back to the pool. A checkout that is given up (time is up, Ctrl-C, a cancelled task) never costs a worker, even
if it was being granted at that moment. A worker that dies while it is out is replaced; its borrower is not told by
the pool, but its calls fail at once with ServerExited.
"""
# ruff: noqa: ASYNC109 - `timeout` is the name of the contract

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
from typing import TYPE_CHECKING, Any

from supervisors.pool.stats import PoolStats, PoolStatus
from supervisors.terms.errors import CallFailed, CallTimeout, NoProcess, ServerExited, SpecError, SupervisorsError
from supervisors.terms.ref import Ref

if TYPE_CHECKING:
    from supervisors.client.node import Node
    from supervisors.genserver import GenServer
    from supervisors.terms.via import Via

#: poolboy's: how long a checkout waits.
CHECKOUT_SECONDS = 5.0
#: The pool itself says when the time is up; its answer is waited for this much longer, in seconds.
SLACK_SECONDS = 5.0


def _new_lease() -> str:
    return os.urandom(8).hex()


def _check(name: str, seconds: Any, least: str) -> None:
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if seconds is not None and not (number and (seconds > 0 if least == "> 0" else seconds >= 0)):
        raise SpecError(f"{name}={seconds!r}: expected seconds {least}, or None")


def _checkout_request(lease: str, block: bool, timeout: Any, work_timeout: Any) -> tuple[Any, ...]:
    _check("timeout", timeout, ">= 0")
    _check("work_timeout", work_timeout, "> 0")
    return ("checkout", lease, bool(block), timeout, work_timeout)


def _too_long(limit: float | None) -> CallTimeout:
    took = "too long" if limit is None else f"more than {limit:g} s"
    return CallTimeout(f"the work took {took}; its worker was killed and is replaced")


class Pool:
    """A pool, as a program outside sees it; `Node.pool` makes it. Thread-safe."""

    def __init__(self, node: Node, target: Ref | str | Via) -> None:
        """Speak of the pool that is registered under this name."""
        self._node, self._target = node, target

    def checkout(
        self, block: bool = True, timeout: float | None = CHECKOUT_SECONDS, work_timeout: float | None = None
    ) -> Ref | None:
        """Borrow a worker; give it back with `checkin`.

        Args:
            block: False - do not queue: None is returned when no worker is idle and none may be started.
            timeout: seconds to wait for one; None waits without end.
            work_timeout: seconds it may be kept; then it is killed and replaced. None - as the pool's spec says.

        Raises:
            CallTimeout: none was free in time.
            StartError: one was started for this checkout, and could not.
            NoProcess, NodeDown: there is no such pool, or no node.
        """
        granted = self._borrow(_new_lease(), block, timeout, work_timeout)
        return None if granted is None else granted[0]

    def checkin(self, worker: Ref) -> None:
        """Give a worker back, and do not wait; one that this program has not (any more) is ignored."""
        with contextlib.suppress(SupervisorsError):
            self._node.lease(self._target, ("checkin", worker), None, answered=False)

    def transaction(
        self, work: Any, timeout: float | None = CHECKOUT_SECONDS, work_timeout: float | None = None
    ) -> Any:
        """Borrow a worker, use it, give it back whatever happens; return what came of it.

        Args:
            work: a function of the worker's Ref; or a request, which the worker's handle_call answers.
            timeout: seconds to wait for a worker.
            work_timeout: seconds that the work may take. Then the worker is killed and replaced; a request ends at
                that moment, a function when it next calls the worker (a thread cannot be interrupted).
                None - as the pool's spec says.

        Raises:
            CallTimeout: no worker was free in time, or the work took too long; the message says which.
            StartError, NoProcess, NodeDown: as for `checkout`.
            ServerExited: the worker died.
            Exception: whatever `work` raises.
        """
        lease = _new_lease()
        worker, limit = self._borrow(lease, True, timeout, work_timeout)
        if callable(work):
            try:
                return work(worker)
            except (ServerExited, NoProcess):
                if self._timed_out(lease):
                    raise _too_long(limit) from None
                raise
            finally:
                self._cast(("checkin", lease))
        ending: tuple[Any, ...] = ("discard", lease, False)  # what is interrupted is busy still: no good for the next
        try:
            value = self._node.call(worker, work, timeout=limit)
            ending = ("checkin", lease)
            return value
        except CallTimeout:
            ending = ("discard", lease, True)
            raise _too_long(limit) from None
        except (ServerExited, NoProcess):
            if self._timed_out(lease):
                raise _too_long(limit) from None
            raise
        except CallFailed:
            ending = ("checkin", lease)
            raise
        finally:
            self._cast(ending)

    def status(self) -> PoolStatus:
        """Return state, idle workers, overflow and workers that are out."""
        return PoolStatus(*self._node.call(self._target, "status"))

    def stats(self) -> PoolStats:
        """Return queue, waits as percentiles, and what has happened so far."""
        return PoolStats(*self._node.call(self._target, "stats"))

    def stop(self, timeout: float | None = None) -> None:
        """Stop the pool and its workers; return when they are gone.

        Raises:
            NoProcess: there is no such pool.
            CallTimeout: it takes longer than `timeout` seconds; the stop goes on.
        """
        self._node.stop(self._node.call(self._target, "supervisor"), "shutdown", timeout)

    def _borrow(self, lease: str, block: bool, timeout: float | None, work_timeout: float | None) -> Any:
        request = _checkout_request(lease, block, timeout, work_timeout)
        try:
            return self._node.lease(self._target, request, None if timeout is None else timeout + SLACK_SECONDS)
        except BaseException:
            # It may have been granted at this moment. What came of it is not known, so it is undone.
            self._cast(("checkin", lease))
            raise

    def _cast(self, message: Any) -> None:
        with contextlib.suppress(SupervisorsError):
            self._node.cast(self._target, message)

    def _timed_out(self, lease: str) -> bool:
        try:
            return bool(self._node.call(self._target, ("timed_out", lease)))
        except SupervisorsError:
            return False


class AsyncPool:
    """A pool, as a GenServer sees it; `self.pool(...)` makes it. The same names, awaited."""

    def __init__(self, server: GenServer, target: Ref | str | Via) -> None:
        """Speak of the pool that is registered under this name."""
        self._server, self._target = server, target

    async def checkout(
        self, block: bool = True, timeout: float | None = CHECKOUT_SECONDS, work_timeout: float | None = None
    ) -> Ref | None:
        """Borrow a worker; as `Pool.checkout`."""
        granted = await self._borrow(_new_lease(), block, timeout, work_timeout)
        return None if granted is None else granted[0]

    def checkin(self, worker: Ref) -> None:
        """Give a worker back; one that this server has not (any more) is ignored."""
        self._server.cast(self._target, ("checkin", worker, self._server.ref))

    async def transaction(
        self, work: Any, timeout: float | None = CHECKOUT_SECONDS, work_timeout: float | None = None
    ) -> Any:
        """Borrow a worker, use it, give it back whatever happens; as `Pool.transaction`.

        Args:
            work: a function of the worker's Ref, async or not; or a request for the worker.
            timeout: seconds to wait for a worker.
            work_timeout: seconds that the work may take; an async function is cancelled then.
        """
        lease = _new_lease()
        worker, limit = await self._borrow(lease, True, timeout, work_timeout)
        ending: tuple[Any, ...] = ("discard", lease, False) if not callable(work) else ("checkin", lease)
        clock = asyncio.timeout(limit)
        try:
            async with clock:
                if callable(work):
                    value = work(worker)
                    return await value if inspect.isawaitable(value) else value
                value = await self._server.call(worker, work, timeout=None)
                ending = ("checkin", lease)
                return value
        except TimeoutError:
            if not clock.expired():
                raise
            ending = ("discard", lease, True)
            raise _too_long(limit) from None
        except (ServerExited, NoProcess):
            if await self._timed_out(lease):
                raise _too_long(limit) from None
            raise
        except CallFailed:
            ending = ("checkin", lease)
            raise
        finally:
            self._server.cast(self._target, ending)

    async def status(self) -> PoolStatus:
        """Return state, idle workers, overflow and workers that are out."""
        return PoolStatus(*await self._server.call(self._target, "status"))

    async def stats(self) -> PoolStats:
        """Return queue, waits as percentiles, and what has happened so far."""
        return PoolStats(*await self._server.call(self._target, "stats"))

    async def _borrow(self, lease: str, block: bool, timeout: float | None, work_timeout: float | None) -> Any:
        request = _checkout_request(lease, block, timeout, work_timeout)
        try:
            return await self._server.call(self._target, request, None if timeout is None else timeout + SLACK_SECONDS)
        except BaseException:
            self._server.cast(self._target, ("checkin", lease))
            raise

    async def _timed_out(self, lease: str) -> bool:
        try:
            return bool(await self._server.call(self._target, ("timed_out", lease)))
        except SupervisorsError:
            return False
