"""Recording by hand: `counter`, `gauge`, `histogram`, `summary`, and `measure`, which takes the time of code."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable
from typing import Any, Self, TypeVar

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.telemetry.checks import Kind, check_value
from dspex_actors.foundation.telemetry.recorder import recorder

_Function = TypeVar("_Function", bound=Callable[..., Any])


def counter(name: str, /, value: float = 1, **tags: Any) -> None:
    """Count: a counter only grows.

    Args:
        name: of the metric: words with dots between them.
        value: what it grows by, 0 or more.
        **tags: what tells its series apart: texts of at most 200 characters, or numbers. A name has 1,000 series; what
            has other tags after them is counted together, as tagged `overflow`.

    Raises:
        ConfigError: one of them cannot be recorded, or the name is that of a metric of another kind.
    """
    _record("counter", name, value, tags)


def gauge(name: str, /, value: float, **tags: Any) -> None:
    """Say what something is now: the last value counts, until its process ends. Arguments: as of `counter`."""
    _record("gauge", name, value, tags)


def histogram(name: str, /, value: float, **tags: Any) -> None:
    """Add a value to a distribution. Arguments: as of `counter`."""
    _record("histogram", name, value, tags)


def summary(name: str, /, value: float, **tags: Any) -> None:
    """Add a value to a distribution that `/metrics` shows by quantiles. Arguments: as of `counter`."""
    _record("summary", name, value, tags)


def _record(kind: Kind, name: str, value: Any, tags: dict[str, Any]) -> None:
    series = recorder.series(kind, name, tags)
    series.add(check_value(kind, name, value))


class measure:  # noqa: N801 - used as a function
    """Take the time of code, in seconds, into a histogram: a `with`, an `async with`, or a decorator.

    ::

        with measure("search.duration", index="tickets"):
            ...

        @measure("search.duration")
        async def search(query): ...

    One object measures one thing at a time, or what is nested: another task or thread makes its own. What raises is
    measured too, and counted as `NAME.errors`, tagged with the error's type.

    Args:
        name: of the histogram.
        **tags: of its series.

    Raises:
        ConfigError: as `counter`; a generator is decorated, whose code runs elsewhere.
    """

    def __init__(self, name: str, /, **tags: Any) -> None:
        """Check it; nothing is measured yet."""
        self._series = recorder.histogram(name, **tags)
        self._name, self._tags = name, tags
        self._began: list[float] = []

    def __enter__(self) -> Self:
        """Begin."""
        self._began.append(time.perf_counter())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, frames: object) -> None:
        """Take the time."""
        self._series.add(time.perf_counter() - self._began.pop())
        if kind is not None:
            recorder.counter(f"{self._name}.errors", **{**self._tags, "error": kind.__name__}).add()

    async def __aenter__(self) -> Self:
        """Begin."""
        return self.__enter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: object, frames: object) -> None:
        """Take the time."""
        self.__exit__(kind, error, frames)

    def __call__(self, function: _Function) -> _Function:
        """Return a function that is measured."""
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise ConfigError(f"{function.__name__} cannot be measured: got a generator, expected a function")
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def measured_async(*args: Any, **kwargs: Any) -> Any:
                with measure(self._name, **self._tags):
                    return await function(*args, **kwargs)

            return measured_async  # type: ignore[return-value]

        @functools.wraps(function)
        def measured(*args: Any, **kwargs: Any) -> Any:
            with measure(self._name, **self._tags):
                return function(*args, **kwargs)

        return measured  # type: ignore[return-value]
