"""How fast series grow: what came in the last minute, in steps of five seconds. Pure; time is a parameter."""

from __future__ import annotations

from dspex_actors.foundation.telemetry.checks import Tags

#: What counts is what came in so many seconds, kept in steps of so many.
WINDOW, STEP = 60.0, 5.0
_STEPS = int(WINDOW / STEP)

Key = tuple[str, Tags]


class Rates:
    """Growth of series, by step of time."""

    def __init__(self, now: float) -> None:
        """Begin with nothing, at monotonic seconds `now`."""
        self._began = now
        self._steps: dict[int, dict[Key, float]] = {}

    def grow(self, key: Key, by: float, now: float) -> None:
        """Take in that a series has grown."""
        step = int(now / STEP)
        if step not in self._steps:
            self._steps = {at: grown for at, grown in self._steps.items() if at > step - _STEPS}
            self._steps[step] = {}
        grown = self._steps[step]
        grown[key] = grown.get(key, 0.0) + by

    def per_second(self, now: float) -> dict[Key, float]:
        """Return how much each series grew per second in the last minute, or since the beginning if that is less."""
        step = int(now / STEP)
        seconds = min(max(now - self._began, 1.0), WINDOW - STEP + now % STEP)
        found: dict[Key, float] = {}
        for at, grown in self._steps.items():
            if at > step - _STEPS:
                for key, more in grown.items():
                    found[key] = found.get(key, 0.0) + more
        return {key: more / seconds for key, more in found.items()}
