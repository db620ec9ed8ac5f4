"""Fallbacks: one thing after another is tried until one has a value, and who had it is said.

A strategy is something that is called without arguments, or (label, that): an LM or a program is given what it asks by
`functools.partial(lm, "prompt")`, `functools.partial(program, question=...)`, or a lambda.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Container, Coroutine, Iterable, Iterator
from typing import Any, NamedTuple

from dspex_actors.errors import AllStrategiesFailed, ConfigError
from dspex_actors.foundation.bridge import in_background_loop, in_thread, on_background_loop
from dspex_actors.foundation.operation import Operation, operation
from dspex_actors.foundation.telemetry.recorded import fallback_exhausted
from dspex_actors.workflow import tell
from dspex_actors.workflow.core import can_be_called, check_seconds
from dspex_actors.workflow.drivers import END_SECONDS, is_async
from dspex_actors.workflow.records import label_of

#: Which errors move on: classes of them, or a function that says of an error whether it does.
On = type[Exception] | Iterable[type[Exception]] | Callable[[Exception], bool]


class Outcome(NamedTuple):
    """What a fallback came to.

    Args:
        value: the first one there was.
        strategy: whose it is.
        errors: (strategy, its error) of those that were tried before.
    """

    value: Any
    strategy: str
    errors: list[tuple[str, Exception]]


class Chain:
    """Strategies, one after the other.

    Args:
        name: of the operation.
        strategies: as `execute_with_fallback` takes them.
        deadline: seconds for all of them.
        on: which errors move on.
        at_once: labels of those that take no time: they are tried after the deadline, too.
    """

    def __init__(self, name: Any, strategies: Any, deadline: Any, on: Any, at_once: Container[str] = ()) -> None:
        """Check them; time runs from now on."""
        self._at_once = at_once
        self._untried: list[str] = []
        self.op: Operation = operation(name)
        self.strategies = checked(strategies)
        seconds = check_seconds("deadline", deadline)
        self._until = None if seconds is None else time.monotonic() + seconds
        self._moves_on = moves_on(on)
        self.errors: list[tuple[str, Exception]] = []

    def tried(self) -> Iterator[tuple[str, Callable[[], Any], float | None]]:
        """Give those that are to be tried, with the seconds that each has; None: as many as it takes."""
        for label, function in self.strategies:
            left = None if self._until is None or label in self._at_once else self._until - time.monotonic()
            if left is not None and left <= 0:
                self._untried.append(label)
            else:
                yield label, function, left

    def take(self, label: str, error: Exception) -> None:
        """Take in that a strategy failed; raise the error if it moves nothing on."""
        out_of_time = self._until is not None and time.monotonic() >= self._until
        if not out_of_time and not self._moves_on(error):
            raise error
        if type(error) is TimeoutError and not error.args and out_of_time:
            error = TimeoutError("the deadline was over before it had a value")
        self.errors.append((label, error))
        self.op.breadcrumb(f"{label} failed", error=f"{type(error).__name__}: {error}")

    def outcome(self, label: str, value: Any) -> Outcome:
        """Return what a strategy had."""
        if self.errors:
            failed, error = self.errors[-1]
            tell.fallback_used(self.op, self.op.name, failed, label, error)
        return Outcome(value, label, self.errors)

    def exhausted(self) -> AllStrategiesFailed:
        """Return the error for nothing is left."""
        fallback_exhausted(self.op.name)
        said = "; ".join(f"{label}: {type(error).__name__}: {error}"[:300] for label, error in self.errors)
        more = f" (not tried, no time was left: {', '.join(self._untried)})" if self._untried else ""
        return AllStrategiesFailed(f"all strategies of {self.op.name!r} failed: {said}{more}", errors=self.errors)


def execute_with_fallback(
    name: str, strategies: Iterable[Any], *, deadline: float | None = None, on: On | None = None
) -> Outcome:
    """Call one strategy after the other until one returns, and say which.

    Args:
        name: what is done: for events, counters and errors.
        strategies: functions without arguments, or (label, function), in the order of preference; sync or async.
        deadline: seconds for all of them together; each has what is left. A sync one then runs in a thread, and one
            that is given up goes on there, unheard.
        on: the errors that move on to the next one: a class, several of them, or a function of the error. None: all
            that are an `Exception`; never a KeyboardInterrupt or a CancelledError.

    Returns:
        The value, the label of who had it, and the errors of those before.

    Raises:
        AllStrategiesFailed: none had one, `.errors` says why; its cause is the last error.
        ConfigError: an argument is not legal; a strategy is async, and an event loop runs here.
        Exception: an error that does not move on, as it is.
    """
    return run_chain(Chain(name, strategies, deadline, on))


def run_chain(chain: Chain) -> Outcome:
    """Try the strategies of a chain."""
    if any(is_async(function) for _, function in chain.strategies):
        _refuse_loop(chain.op.name)
    with chain.op:
        for label, function, left in chain.tried():
            try:
                value = _call(function, left)
            except Exception as error:
                chain.take(label, error)
            else:
                return chain.outcome(label, value)
        raise chain.exhausted() from (chain.errors[-1][1] if chain.errors else None)


async def aexecute_with_fallback(
    name: str, strategies: Iterable[Any], *, deadline: float | None = None, on: On | None = None
) -> Outcome:
    """Do what `execute_with_fallback` does, from an event loop: sync strategies run in threads."""
    return await arun_chain(Chain(name, strategies, deadline, on))


async def arun_chain(chain: Chain) -> Outcome:
    """Try the strategies of a chain, from an event loop."""
    with chain.op:
        for label, function, left in chain.tried():
            try:
                value = await _acall(function, left)
            except Exception as error:
                chain.take(label, error)
            else:
                return chain.outcome(label, value)
        raise chain.exhausted() from (chain.errors[-1][1] if chain.errors else None)


def _call(function: Any, limit: float | None) -> Any:
    if limit is not None:
        return on_background_loop(lambda: _acall(function, limit), END_SECONDS)
    value = function()
    return in_background_loop(lambda: _awaited(value), label_of(function)) if inspect.isawaitable(value) else value


async def _acall(function: Any, limit: float | None) -> Any:
    async with asyncio.timeout(limit):
        value = function() if is_async(function) else await in_thread(function)
        return await value if inspect.isawaitable(value) else value


async def _awaited(value: Awaitable[Any]) -> Any:
    return await value


def _refuse_loop(name: str) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise ConfigError(
        f"a strategy of {name!r} is async, and an event loop runs here: use `await aexecute_with_fallback`"
    )


# --- checks -----------------------------------------------------------------------------------------------------------


def checked(strategies: Any) -> list[tuple[str, Callable[[], Any]]]:
    """Return strategies with labels, each its own.

    Raises:
        ConfigError: there is none, or one is no strategy.
    """
    if isinstance(strategies, str | bytes) or not isinstance(strategies, Iterable):
        raise ConfigError(f"strategies are invalid: got {strategies!r:.80}, expected a list of functions")
    found: list[tuple[str, Callable[[], Any]]] = []
    for given in strategies:
        pair = given if isinstance(given, tuple) and len(given) == 2 else (None, given)
        label, function = pair
        if inspect.isawaitable(function):
            if isinstance(function, Coroutine):
                function.close()
            raise ConfigError("a strategy is invalid: got a coroutine, expected a function: lambda: program.acall(...)")
        if not can_be_called(function) or not (label is None or (isinstance(label, str) and label)):
            raise ConfigError(
                f"a strategy is invalid: got {given!r:.80}, expected a function without arguments, or (label, function)"
            )
        found.append((_free(label_of(function) if label is None else label, found), function))
    if not found:
        raise ConfigError("strategies are invalid: got none, expected one or more")
    return found


def _free(label: str, found: list[tuple[str, Any]]) -> str:
    taken = {name for name, _ in found}
    number, free = 1, label
    while free in taken:
        number += 1
        free = f"{label} {number}"
    return free


def moves_on(on: Any) -> Callable[[Exception], bool]:
    """Return whether an error moves on, as a function.

    Raises:
        ConfigError: `on` does not say.
    """
    if on is None:
        return lambda error: True
    several = (on,) if isinstance(on, type) else tuple(on) if isinstance(on, Iterable) else None
    if several is None and callable(on):
        return lambda error: bool(on(error))
    if not several or not all(isinstance(one, type) and issubclass(one, Exception) for one in several):
        raise ConfigError(f"on is invalid: got {on!r:.80}, expected classes of errors, or a function of an error")
    return lambda error: isinstance(error, several)
