"""What a program calls of a pool: `Pool` outside, `AsyncPool` inside a GenServer; as poolboy.

::

    node.start_supervisor(PoolSpec(ChildSpec("connection", Connection), name="db", size=5, max_overflow=10))
    db = Pool(node, "db")
    rows = db.transaction(("query", "select 1"), timeout=1.0, work_timeout=10.0)    # a request to a worker
    db.run(lambda worker: node.call(worker, ("query", "select 1")))                 # a function of a worker's Ref

Whoever borrows is watched: when a process ends, or a program outside loses its connection to the node, what it had
goes back to the pool. A checkout that is given up (time is up, Ctrl-C, a cancelled task) never costs a worker, even
if it was being granted at that moment. A worker that dies while it is out is replaced; its borrower is not told by
the pool, but its calls fail at once with ServerExited.
"""
# ruff: noqa: ASYNC109 - `timeout` is the name of the contract

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import Any

from supervisors.pool.stats import PoolStats, PoolStatus
from supervisors.terms.awaitable import maybe_await
from supervisors.terms.checks import check_function, check_seconds, check_timeout
from supervisors.terms.errors import CallFailed, CallTimeout, NoProcess, ServerExited, SupervisorsError
from supervisors.terms.handles import AsyncHandle, Handle
from supervisors.terms.ref import Ref

#: poolboy's: how long a checkout waits.
CHECKOUT_SECONDS = 5.0
#: The pool itself says when the time is up; its answer is waited for this much longer, in seconds.
SLACK_SECONDS = 5.0


def _new_lease() -> str:
    return os.urandom(8).hex()


def _checkout_request(lease: str, block: bool, timeout: Any, work_timeout: Any) -> tuple[Any, ...]:
    timeout = check_timeout(timeout)
    work_timeout = check_seconds("work_timeout", work_timeout, positive=True, optional=True)
    return ("checkout", lease, bool(block), timeout, work_timeout)


def _too_long(limit: float | None) -> CallTimeout:
    took = "too long" if limit is None else f"more than {limit:g} s"
    return CallTimeout(f"the work took {took}; its worker was killed and is replaced")


class Pool(Handle):
    """A pool, for a program outside: `Pool(node, "db")`. Thread-safe."""

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
            self._node.send_request(self._target, ("checkin", worker))  # a call, so that the pool sees who it is

    def transaction(
        self, request: Any, timeout: float | None = CHECKOUT_SECONDS, work_timeout: float | None = None
    ) -> Any:
        """Borrow a worker, send it a request, give it back whatever happens; return the worker's reply.

        Args:
            request: what the worker's handle_call gets.
            timeout: seconds to wait for a worker.
            work_timeout: seconds that the answer may take; then the worker is killed and replaced. None - as the
                pool's spec says.

        Raises:
            CallTimeout: no worker was free in time, or the work took too long; the message says which.
            StartError, NoProcess, NodeDown: as for `checkout`.
            ServerExited: the worker died.
            CallFailed: the worker refused the request.
        """
        lease = _new_lease()
        worker, limit = self._borrow(lease, True, timeout, work_timeout)
        ending: tuple[Any, ...] = ("discard", lease, False)  # what is interrupted is busy still: no good for the next
        try:
            value = self._node.call(worker, request, timeout=limit)
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

    def run(
        self,
        function: Callable[[Ref], Any],
        timeout: float | None = CHECKOUT_SECONDS,
        work_timeout: float | None = None,
    ) -> Any:
        """Borrow a worker, run a function here that uses it, give it back whatever happens; return what it returns.

        Args:
            function: of the worker's Ref.
            timeout: seconds to wait for a worker.
            work_timeout: seconds that the function may take. Then the worker is killed and replaced, and the function
                fails when it next calls it (a thread cannot be interrupted). None - as the pool's spec says.

        Raises:
            SpecError: `function` cannot be called.
            CallTimeout, StartError, NoProcess, NodeDown, ServerExited: as for `transaction`.
            Exception: whatever the function raises.
        """
        check_function("function", function)
        lease = _new_lease()
        worker, limit = self._borrow(lease, True, timeout, work_timeout)
        try:
            return function(worker)
        except (ServerExited, NoProcess):
            if self._timed_out(lease):
                raise _too_long(limit) from None
            raise
        finally:
            self._cast(("checkin", lease))

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
            return self._node.call(self._target, request, None if timeout is None else timeout + SLACK_SECONDS)
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


class AsyncPool(AsyncHandle):
    """A pool, inside a GenServer: `AsyncPool(self, "db")`. The same names; all but `checkin` are awaited."""

    async def checkout(
        self, block: bool = True, timeout: float | None = CHECKOUT_SECONDS, work_timeout: float | None = None
    ) -> Ref | None:
        """Borrow a worker; as `Pool.checkout`."""
        granted = await self._borrow(_new_lease(), block, timeout, work_timeout)
        return None if granted is None else granted[0]

    def checkin(self, worker: Ref) -> None:
        """Give a worker back, and do not wait; one that this server has not (any more) is ignored."""
        self._server.cast(self._target, ("checkin", worker, self._server.ref))

    async def transaction(
        self, request: Any, timeout: float | None = CHECKOUT_SECONDS, work_timeout: float | None = None
    ) -> Any:
        """Borrow a worker, send it a request, give it back whatever happens; as `Pool.transaction`."""
        lease = _new_lease()
        granted = await self._borrow(lease, True, timeout, work_timeout)
        return await self._use(
            lease, granted, lambda worker: self._server.call(worker, request, timeout=None), unfinished="discard"
        )

    async def run(
        self,
        function: Callable[[Ref], Any],
        timeout: float | None = CHECKOUT_SECONDS,
        work_timeout: float | None = None,
    ) -> Any:
        """Borrow a worker, run a function here that uses it, give it back whatever happens; as `Pool.run`.

        The function may be `async def`, and is then cancelled when `work_timeout` is over.
        """
        check_function("function", function)
        lease = _new_lease()
        granted = await self._borrow(lease, True, timeout, work_timeout)
        return await self._use(lease, granted, function, unfinished="checkin")

    async def status(self) -> PoolStatus:
        """Return state, idle workers, overflow and workers that are out."""
        return PoolStatus(*await self._server.call(self._target, "status"))

    async def stats(self) -> PoolStats:
        """Return queue, waits as percentiles, and what has happened so far."""
        return PoolStats(*await self._server.call(self._target, "stats"))

    async def stop(self, timeout: float | None = None) -> None:
        """Stop the pool and its workers; as `Pool.stop`."""
        await self._server.stop(await self._server.call(self._target, "supervisor"), "shutdown", timeout)

    async def _use(self, lease: str, granted: Any, work: Callable[[Ref], Any], unfinished: str) -> Any:
        """Work with a worker and give it back. `unfinished`: what becomes of one whose work broke off."""
        worker, limit = granted
        ending: tuple[Any, ...] = ("discard", lease, False) if unfinished == "discard" else ("checkin", lease)
        clock = asyncio.timeout(limit)
        try:
            async with clock:
                value = await maybe_await(work(worker))
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
