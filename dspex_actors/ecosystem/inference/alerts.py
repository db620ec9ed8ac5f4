"""Alerts: a threshold of a metric over a window, and what is done when it is crossed. Deciding is pure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from dspex_actors.ecosystem.inference.windows import LONGEST, METRICS
from dspex_actors.errors import ConfigError

#: Where nothing else is said, a value has to come back by so much of the threshold before an alert can fire again.
BACK = 0.1
#: A web address, with a host.
_URL = re.compile(r"https?://[^/?#\s]")


@dataclass(frozen=True)
class Alert:
    """A threshold. It fires once when the metric crosses it, and again only after the value has come back.

    Args:
        metric: what is watched: latency.mean, .max, .p50, .p90, .p99 (seconds); inferences.count, .rate; errors.count,
            .share; cache.hit_share; tokens.count, .rate; cost.sum, .rate (USD).
        above: it fires when the value is larger than this.
        below: or, instead, when it is smaller.
        window: seconds over which the metric is taken, 1 to 3600.
        action: "log"; "event" (an `ecosystem.alert`); "http://..." or "https://...", which gets it as JSON; or a
            function of the alert as a dict, by value, sync or async.
        back: the value at which it may fire again; None: a tenth of the threshold on its other side.

    Raises:
        ConfigError: an argument is not legal; says which, and what is.
    """

    metric: str
    above: float | None = None
    below: float | None = None
    window: float = 60.0
    action: str | Callable[[dict[str, Any]], Any] = "log"
    back: float | None = None

    def __post_init__(self) -> None:
        """Refuse what would never fire, or could not be told."""
        if self.metric not in METRICS:
            raise ConfigError(
                f"the alert's metric is invalid: got {self.metric!r}, expected one of {', '.join(METRICS)}"
            )
        if (self.above is None) == (self.below is None):
            raise ConfigError(
                f"the alert on {self.metric} is invalid: got above={self.above} and below={self.below}, expected one "
                "of the two"
            )
        for name, value in (("above", self.above), ("below", self.below), ("back", self.back)):
            if value is not None and not _is_finite(value):
                raise ConfigError(f"the alert's {name} is invalid: got {value!r}, expected a finite number")
        if not _is_finite(self.window) or not 1 <= self.window <= LONGEST:
            raise ConfigError(f"the alert's window is invalid: got {self.window!r}, expected 1 to {LONGEST} seconds")
        if self.back is not None and self._is_over(self.back):
            raise ConfigError(
                f"the alert's back is invalid: got {self.back}, expected a value that does not fire itself "
                f"({'at most' if self.above is not None else 'at least'} {self.threshold})"
            )
        if not (callable(self.action) or self.action in ("log", "event") or self.url is not None):
            raise ConfigError(
                f"the alert's action is invalid: got {self.action!r:.100}, expected 'log', 'event', a URL "
                "(http:// or https://) or a function"
            )

    @property
    def threshold(self) -> float:
        """The value that it fires at."""
        value = self.above if self.above is not None else self.below
        assert value is not None
        return value

    @property
    def url(self) -> str | None:
        """Where a webhook goes; None: the action is another one."""
        is_url = isinstance(self.action, str) and _URL.match(self.action) is not None
        return str(self.action) if is_url else None

    def fires(self, value: float | None, *, is_armed: bool) -> tuple[bool, bool]:
        """Return whether it fires, and whether it is armed from now on.

        Args:
            value: of the metric; None: nothing has happened that would tell, and nothing changes.
            is_armed: it has not fired since the value came back.
        """
        if value is None:
            return False, is_armed
        if is_armed:
            over = self._is_over(value)
            return over, not over
        back = self._back
        return False, value <= back if self.above is not None else value >= back

    @property
    def _back(self) -> float:
        if self.back is not None:
            return self.back
        step = BACK * abs(self.threshold)
        return self.threshold - step if self.above is not None else self.threshold + step

    def _is_over(self, value: float) -> bool:
        return value > self.threshold if self.above is not None else value < self.threshold

    def told(self, value: float) -> dict[str, Any]:
        """Return what is told when it fires, as plain data."""
        side = "above" if self.above is not None else "below"
        return {"metric": self.metric, "value": value, side: self.threshold, "window": self.window}


def check_alerts(alerts: Any) -> tuple[Alert, ...]:
    """Return alerts.

    Raises:
        ConfigError: one is none.
    """
    if isinstance(alerts, Alert) or not isinstance(alerts, Iterable):
        raise ConfigError(f"the alerts are invalid: got {alerts!r:.100}, expected a list of dspex.Alert")
    found = tuple(alerts)
    for alert in found:
        if not isinstance(alert, Alert):
            raise ConfigError(f"an alert is invalid: got {alert!r:.100}, expected a dspex.Alert(metric, above=...)")
    return found


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
