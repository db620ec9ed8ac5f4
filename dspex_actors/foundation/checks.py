"""Checks of values that users give, each with its error."""

from __future__ import annotations

from typing import Any

from dspex_actors.errors import ConfigError


def is_whole(value: Any, least: int) -> bool:
    """Tell whether a value is a whole number of at least `least`; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def whole(name: str, value: Any, least: int) -> int:
    """Return a whole number of at least `least`.

    Raises:
        ConfigError: it is something else; names it, what is legal and what was given.
    """
    if not is_whole(value, least):
        raise ConfigError(f"{name}: expected a whole number of at least {least}, got {value!r}")
    return int(value)
