"""Checks of values that users give, each with its error."""

from __future__ import annotations

import inspect
from typing import Any

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.config_errors import ConfigValueError


def is_whole(value: Any, least: int) -> bool:
    """Tell whether a value is a whole number of at least `least`; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def whole(name: str, value: Any, least: int) -> int:
    """Return a whole number of at least `least`.

    Raises:
        ConfigError: it is something else; names it, what is legal and what was given.
    """
    if not is_whole(value, least):
        raise ConfigValueError(f"{name}: expected a whole number of at least {least}, got {value!r}")
    return int(value)


def check_handler(handler: Any, expected: str) -> None:
    """Refuse, by a ConfigError, what is no function, or one that would have to be awaited: handlers run in a thread."""
    if not callable(handler):
        raise ConfigError(f"the handler is invalid: got {handler!r:.100}, expected {expected}")
    if any(inspect.iscoroutinefunction(each) for each in (handler, getattr(handler, "__call__", None))):  # noqa: B004
        raise ConfigError(
            f"the handler is invalid: got an async function, expected {expected}: it is called in a thread; "
            "let it use asyncio.run_coroutine_threadsafe"
        )
