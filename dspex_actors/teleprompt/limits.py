"""What an optimisation may cost: dollars, calls, seconds. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.purses import CALLS_MADE
from dspex_actors.runs.budget import check_budget

_NAMES = ("usd", "calls", "seconds")


@dataclass(frozen=True, slots=True)
class Limits:
    """What an optimisation may cost.

    Args:
        usd: US dollars; they are not passed.
        calls: requests to LMs, whatever becomes of them; they are not passed.
        seconds: under way, pauses left out.
        unknown_price: with a limit of dollars: refuse or warn.
    """

    usd: float | None = None
    calls: int | None = None
    seconds: float | None = None
    unknown_price: str = "refuse"

    @classmethod
    def of(cls, budget: Any, unknown_price: str = "refuse") -> Limits:
        """Return the limits that a user's budget means.

        Args:
            budget: US dollars, or a mapping with some of `usd`, `calls` and `seconds`; None: no limit.
            unknown_price: refuse or warn.

        Raises:
            ConfigError: it is something else.
        """
        given = dict(budget) if isinstance(budget, Mapping) else {"usd": budget}
        unknown = [str(name) for name in given if name not in _NAMES]
        if unknown:
            raise ConfigError(f"budget is invalid: got {unknown[0]!r:.80}, expected some of {', '.join(_NAMES)}")
        usd = check_budget(given.get("usd"), unknown_price).get("budget")
        return cls(usd, _calls(given.get("calls")), _seconds(given.get("seconds")), unknown_price)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Limits:
        """Return those that a run's settings have."""
        return cls(
            settings.get("budget"),
            settings.get("max_calls"),
            settings.get("max_seconds"),
            settings.get("unknown_price", "refuse"),
        )

    def to_settings(self) -> dict[str, Any]:
        """Return them as settings of a run."""
        found = {"budget": self.usd, "max_calls": self.calls, "max_seconds": self.seconds}
        return {
            **{name: value for name, value in found.items() if value is not None},
            "unknown_price": self.unknown_price,
        }

    def used_up(self, calls: int, seconds: float) -> str | None:
        """Return what is used up, in words; None: nothing is. Of dollars and calls those know who spend them.

        More calls than there may be are those of LMs that are asked past this package, and known afterwards only.
        """
        if self.calls is not None and calls > self.calls:
            return f"{calls:,} of {self.calls:,} {CALLS_MADE}"
        if self.seconds is not None and seconds >= self.seconds:
            return f"{seconds:,.0f} of {self.seconds:,.0f} seconds are over"
        return None


def _calls(value: Any) -> int | None:
    if value is None or value == math.inf:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"budget is invalid: got calls={value!r:.80}, expected a whole number from 1, or None")
    return value


def _seconds(value: Any) -> float | None:
    if value is None or value == math.inf:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ConfigError(f"budget is invalid: got seconds={value!r:.80}, expected a number above 0, or None")
    return float(value)
