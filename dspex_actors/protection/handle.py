"""`configure_protection` and `execute_protected`: what users call."""
# ruff: noqa: ASYNC109 - `timeout` is the contract's name

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import itertools
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from dspex_actors.errors import ConfigError, DeadlineExceeded, DspexError, LMError, from_record
from dspex_actors.foundation.bridge import in_thread
from dspex_actors.foundation.circuit import counts
from dspex_actors.foundation.operation import breadcrumb
from dspex_actors.foundation.secrets import scrub_data
from dspex_actors.protection import spec
from dspex_actors.protection.access import Access, current_access, me
from dspex_actors.protection.messages import Configure, Enter

#: What says which errors count, by key; a function does not leave its process.
_trips: dict[str, spec.Trip] = {}
_numbers = itertools.count(1)


def configure_protection(key: str, circuit_breaker: Any = None, rate_limiter: Any = None, pool: Any = None) -> None:
    """Protect what is executed under a key, for all processes of the node; configured again it changes at once.

        dspex.configure_protection(
            "search",
            circuit_breaker={"failure_threshold": 5, "recovery_time": 10.0},
            rate_limiter={"requests": (10, 1.0), "user:requests": (2, 1.0)},
            pool={"max_concurrent": 4, "queue": 100},
        )
        hits = dspex.execute_protected("search", lambda: search("circuit"), timeout=5.0)

    Args:
        key: its name.
        circuit_breaker: `failure_threshold` (failures in a row; 5), `recovery_time` (s; 5), and what else
            `dspex.LM(circuit=...)` takes; `trip`, a function that takes the error that was raised and says whether it
            counts as a failure: it is asked in this process only, others count every error. None: no circuit.
        rate_limiter: bucket → (limit, seconds): no window of so many seconds has more than the limit. A bucket whose
            name begins with `user:` is there for each user. None: no limits.
        pool: `max_concurrent` (or `size`): calls at the same time; `queue`: calls that may wait; None: any number.

    Raises:
        ConfigError: an argument is not usable, or no node is connected.
    """
    key = spec.check_key(key)
    protection, trip = spec.protection(circuit_breaker, rate_limiter, pool)
    current_access().call(Configure(key, protection.to_plain()), None)
    if trip is None:
        _trips.pop(key, None)
    else:
        _trips[key] = trip


def execute_protected(
    key: str,
    fn: Callable[[], Any],
    *,
    timeout: float | None = None,
    costs: Mapping[str, float] | None = None,
    user: str | None = None,
) -> Any:
    """Call a function when the key's limits, circuit and pool let it.

    1. Wait for its turn under all limits and in the pool; refused at once where it cannot come in time.
    2. Call `fn`; with a timeout in a thread.
    3. What it raises counts as a failure, unless the key's `trip` says otherwise. Of the LM errors, those count that
       say that a server is away: no limit on speed, no refusal.

    Args:
        key: what was configured.
        fn: a function without arguments.
        timeout: seconds, the wait included. What `fn` does then goes on in its thread, with its place in the pool.
        costs: bucket → amount; None, or a bucket that is not named: 1.
        user: for whom: draws from his own buckets.

    Returns:
        What `fn` returns; what it raises is raised.

    Raises:
        CircuitOpen: the key fails; `retry_after` seconds.
        RateLimited: its turn comes too late; `retry_after` seconds.
        DeadlineExceeded: the time is over.
        Overloaded: the pool's queue is full.
        ConfigError: an argument is not usable, or the key was not configured.
    """
    timeout, costs, user = _checked(key, fn, timeout, costs, user)
    if inspect.iscoroutinefunction(fn):
        raise ConfigError(
            f"fn is invalid: got the async function {fn!r:.80}, expected a sync one; await aexecute_protected"
        )
    access = current_access()
    call = _Call(access, key, timeout)
    try:
        answer = access.call(call.enter(costs, user), timeout)
    except BaseException:
        call.left(None)
        raise
    call.check(answer)
    return call.plain(call.run(fn) if timeout is None else _within(call, fn))


async def aexecute_protected(
    key: str,
    fn: Callable[[], Any],
    *,
    timeout: float | None = None,
    costs: Mapping[str, float] | None = None,
    user: str | None = None,
) -> Any:
    """Call a function when the key's limits, circuit and pool let it; as `execute_protected`, on an event loop.

    Args:
        key: what was configured.
        fn: a function without arguments, async or sync; a sync one is called in a thread.
        timeout: seconds, the wait included; then an async function is cancelled.
        costs: bucket → amount.
        user: for whom.
    """
    timeout, costs, user = _checked(key, fn, timeout, costs, user)
    access = current_access()
    call = _Call(access, key, timeout)
    try:
        answer = await access.acall(call.enter(costs, user), timeout)
    except BaseException:
        call.left(None)
        raise
    call.check(answer)
    begun: Any
    if inspect.iscoroutinefunction(fn):
        begun = fn()
    else:
        begun = await _in_thread(call, fn)
        if not inspect.isawaitable(begun):
            return begun
    try:
        async with asyncio.timeout(call.seconds()) as limit:
            value = await begun
    except TimeoutError as error:
        if limit.expired():
            call.left(True, "timeout")
            raise call.out_of_time() from None
        call.raised(error)
        raise
    except asyncio.CancelledError:
        call.left(None)
        raise
    except BaseException as error:
        call.raised(error)
        raise
    call.left(False)
    return value


async def _in_thread(call: _Call, fn: Callable[[], Any]) -> Any:
    """Call a sync function in a thread; what it returns may be something to await."""
    work = asyncio.ensure_future(in_thread(lambda: call.run(fn)))
    try:
        return await asyncio.wait_for(asyncio.shield(work), call.seconds())
    except TimeoutError:
        if work.done():
            raise
        work.add_done_callback(_heard)
        call.late = True
        raise call.out_of_time() from None


def _heard(work: asyncio.Future[Any]) -> None:
    """Look at an error that nobody waits for any more."""
    if not work.cancelled():
        work.exception()


def _checked(
    key: Any, fn: Any, timeout: Any, costs: Any, user: Any
) -> tuple[float | None, dict[str, float] | None, str | None]:
    spec.check_key(key)
    if not callable(fn):
        raise ConfigError(f"fn is invalid: got {fn!r:.80}, expected a function without arguments")
    return spec.check_timeout(timeout), spec.check_costs(costs), spec.check_user(user)


class _Call:
    """One call on its way.

    Args:
        access: the way to the owner.
        key: its key.
        timeout: seconds that it may take.
    """

    def __init__(self, access: Access, key: str, timeout: float | None) -> None:
        self._access, self._key, self._timeout = access, key, timeout
        self._end = None if timeout is None else time.monotonic() + timeout
        pid, born = me()
        self._name = f"{pid}.{born}.{next(_numbers)}"
        self._has_left = False
        #: Its caller has been told that its time is over.
        self.late = False

    def enter(self, costs: dict[str, float] | None, user: str | None) -> Enter:
        return Enter(self._key, self._name, me(), costs, user, self._timeout, self._access.untold())

    def check(self, answer: Any) -> None:
        """Raise what the owner refuses it with."""
        if answer[0] != "in":
            error = from_record(answer[1])
            breadcrumb(f"protection: {self._key} is refused", error=type(error).__name__)
            raise error

    def seconds(self) -> float | None:
        """Return the seconds that are left."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def out_of_time(self) -> DeadlineExceeded:
        return DeadlineExceeded(f"{self._key}: not done within timeout={self._timeout:g} s", retryable=True)

    def run(self, fn: Callable[[], Any]) -> Any:
        """Call the function and tell how it ended."""
        try:
            value = fn()
        except BaseException as error:
            self.raised(error)
            raise
        if self.late:
            self.left(True, "timeout")
        elif not inspect.isawaitable(value):
            self.left(False)
        return value

    def plain(self, value: Any) -> Any:
        """Return what a sync call gives; it is nothing that has to be awaited."""
        if inspect.isawaitable(value):
            if inspect.iscoroutine(value):
                value.close()
            self.left(None)
            raise ConfigError(
                "fn is invalid: got one that returns a coroutine, expected a value; await aexecute_protected"
            )
        return value

    def raised(self, error: BaseException) -> None:
        """Tell that the function has raised."""
        if not isinstance(error, Exception):
            self.left(None)
            return
        trip = _trips.get(self._key)
        if trip is not None:
            failed = True
            with contextlib.suppress(Exception):
                failed = bool(trip(error))
        elif isinstance(error, LMError):
            failed = counts(error)
        else:
            failed = True
        self.left(failed, _told(error))

    def left(self, failed: bool | None, reason: str = "") -> None:
        """Tell the owner that it is over, once."""
        if not self._has_left:
            self._has_left = True
            self._access.tell((self._key, self._name, failed, reason))


def _told(error: Exception) -> str:
    """Return an error in a line, as it may leave this process: without keys, and short."""
    try:
        text = error.message if isinstance(error, DspexError) else str(error)
    except Exception:  # of somebody else's making
        text = "?"
    return f"{type(error).__name__}: {' '.join(scrub_data(text[:4000]).split())}"[:300]


def _within(call: _Call, fn: Callable[[], Any]) -> Any:
    """Call a function in a thread, and wait as long as there is time."""
    ended = threading.Event()
    answer: list[Any] = []
    frame = contextvars.copy_context()

    def work() -> None:
        try:
            answer.append((True, frame.run(call.run, fn)))
        except BaseException as error:  # raised where it is waited for
            answer.append((False, error))
        ended.set()

    threading.Thread(target=work, name="dspex-protected", daemon=True).start()
    if not ended.wait(call.seconds()):
        call.late = True
        raise call.out_of_time()
    worked, value = answer[0]
    if worked:
        return value
    raise value
