"""Durations as people say them."""

from __future__ import annotations

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def duration_text(seconds: float | None, decimals: int = 2) -> str:
    """Return a duration in its two largest units: 8 ms, 1.25 s, 3 min 05 s, 2 h 10 min, 4 d 3 h.

    Args:
        seconds: how long; None gives a dash, less than 0 counts as 0.
        decimals: of seconds, below a minute.
    """
    if seconds is None:
        return "–"
    seconds = max(0.0, seconds)
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if round(seconds, decimals) < _MINUTE:
        return f"{seconds:.{decimals}f} s"
    whole = round(seconds)
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE:02d} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02d} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"
