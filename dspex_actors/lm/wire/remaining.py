"""What providers tell of their limits in an answer's headers: how much is left, and for how long that holds. Pure.

OpenAI and those who speak its format: `x-ratelimit-remaining-requests` and `-tokens`, with `x-ratelimit-reset-...` as
durations ("6m0s", "120ms"; Azure: plain seconds, and -1 or 0 where it does not know). Anthropic:
`anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-remaining`, with `-reset` as a time (RFC 3339).
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Mapping

#: What is counted → the middle of the headers' names.
_COUNTED = {"requests": "requests", "tokens": "tokens", "input": "input-tokens", "output": "output-tokens"}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
#: The ones that say whether anything is told at all.
FIRST = ("x-ratelimit-remaining-requests", "anthropic-ratelimit-requests-remaining")
#: For so long holds what is told without a time, or with one that is none.
UNKNOWN_SECONDS = 1.0


def remaining(headers: Mapping[str, str], now: float) -> dict[str, tuple[float, float]]:
    """Return what is left of "requests", "tokens", "input" and "output", and the seconds for which that holds.

    Args:
        headers: of an answer, by lower-case name.
        now: seconds since the epoch.
    """
    found = {}
    for what, word in _COUNTED.items():
        for left, reset in (
            (f"x-ratelimit-remaining-{word}", f"x-ratelimit-reset-{word}"),
            (f"anthropic-ratelimit-{word}-remaining", f"anthropic-ratelimit-{word}-reset"),
        ):
            amount = _number(headers.get(left))
            if amount is not None and amount >= 0:
                seconds = _seconds(headers.get(reset, ""), now)
                found[what] = amount, seconds if seconds > 0 else UNKNOWN_SECONDS
    return found


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else None
    except ValueError:
        return None
    return value if value is not None and math.isfinite(value) else None


def _seconds(text: str, now: float) -> float:
    text = text.strip()
    if (plain := _number(text)) is not None:
        return plain
    parts = _PART.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return sum(float(number) * _UNITS[unit] for number, unit in parts)
    try:
        return datetime.datetime.fromisoformat(text).timestamp() - now
    except (ValueError, OverflowError, OSError):
        return 0.0
