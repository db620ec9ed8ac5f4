"""One rate limit, counted continuously. Pure: time is a parameter.

Source: the generic cell rate algorithm (ITU-T I.371), which needs one number per limit: the moment at which everything
taken so far would have been used up at the steady rate. There are no windows to game: no minute ever sees more than the
rate and one burst.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Floating-point dust must not refuse what fits exactly.
_DUST = 1e-9


@dataclass(slots=True)
class Gcra:
    """One limit of so many units a minute. Whoever admits asks `wait`; whoever paces asks `delay`.

    Args:
        per_minute: the steady rate.
        burst_seconds: how many seconds' worth may go at once.
        used_up_at: when what was taken is used up, monotonic seconds; the default leaves the whole burst free.
    """

    per_minute: float
    burst_seconds: float
    used_up_at: float = float("-inf")

    def wait(self, units: float, now: float) -> float:
        """Return the seconds until `units` fit into the burst, 0 for at once; takes nothing.

        More units than the burst holds fit when nothing else is in use, and are paid off afterwards.
        """
        need = units * self._interval
        missing = self._backlog(now) + need - max(self.burst_seconds, need)
        return missing if missing > _DUST else 0.0

    def delay(self, now: float) -> float:
        """Return the seconds until the next may start, a burst ahead of what was taken, however much it is."""
        return max(0.0, self.used_up_at - self.burst_seconds - now)

    def take(self, units: float, now: float) -> None:
        """Use `units`, whether they fit or not."""
        self.used_up_at = max(self.used_up_at, now) + units * self._interval

    def give_back(self, units: float, now: float) -> None:
        """Return `units` that were taken and not used (negative: take what was used beyond)."""
        self.used_up_at = max(self.used_up_at - units * self._interval, now - self.burst_seconds)

    def remaining(self, now: float) -> int:
        """Return the whole units that would fit now."""
        return max(0, int((self.burst_seconds - self._backlog(now) + _DUST) / self._interval))

    def reset_after(self, now: float) -> float:
        """Return the seconds until the whole burst is free again."""
        return self._backlog(now)

    @property
    def _interval(self) -> float:
        return 60.0 / self.per_minute

    def _backlog(self, now: float) -> float:
        return max(self.used_up_at - now, 0.0)
