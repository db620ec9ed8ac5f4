"""Durations as people say them."""

from __future__ import annotations

import datetime as dt
import re

_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
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


def moment(text: str, now: float) -> float:
    """Return a moment in seconds since 1970.

    Args:
        text: so long ago (90s, 10m, 2h, 3d), or an ISO time.
        now: seconds since 1970.

    Raises:
        ValueError: it is neither; says what is legal.
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?(s|m|min|h|d)", text)
    if found:
        return now - float(found[1]) * _UNITS[found[2]]
    try:
        return dt.datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise ValueError(f"{text!r}: expected 90s, 10m, 2h, 3d, or a time such as 2026-01-31T14:00") from None
