"""The restart window: how many restarts a supervisor allows itself in a period (supervisor.erl, add_restart/1).

The window is exact: a restart counts while it is younger than `period` seconds.
"""

from __future__ import annotations


def add_restart(stamps: tuple[float, ...], now: float, intensity: int, period: float) -> tuple[tuple[float, ...], bool]:
    """Add a restart at `now`.

    Args:
        stamps: earlier restarts, monotonic seconds, oldest first.
        now: monotonic seconds.
        intensity: restarts allowed within the period.
        period: the window in seconds.

    Returns:
        The stamps still in the window with `now` added, and whether this restart is allowed.
    """
    kept = (*(stamp for stamp in stamps if now - stamp < period), now)
    return kept, len(kept) <= intensity
