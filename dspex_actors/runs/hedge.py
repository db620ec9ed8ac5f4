"""Whether the last examples of slow workers are started a second time, as the settings of a run have it: `hedge`."""

from __future__ import annotations

from typing import Any

from dspex_actors.errors import ConfigError


def hedging(hedge: Any) -> dict[str, Any]:
    """Return the settings of a run for second starts; none where it has them, which is usual.

    Raises:
        ConfigError: it is neither True nor False.
    """
    if not isinstance(hedge, bool):
        raise ConfigError(f"hedge is invalid: got {hedge!r:.100}, expected True or False")
    return {} if hedge else {"hedge": False}


def is_hedged(settings: dict[str, Any]) -> bool:
    """Return whether the last examples of slow workers are started twice in a run with these settings.

    Not where its user says so, nor where a second start might take what the first one needs (a budget), would come too
    early always (batches), or would be one call too many (a bootstrap, which asks what a sequential one would).
    """
    others = ("rule", "batch", "budget")
    return settings.get("hedge") is not False and all(settings.get(name) is None for name in others)
