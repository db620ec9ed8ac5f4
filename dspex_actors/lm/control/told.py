"""Which limits hold for a deployment: the smallest that its LMs have told lately. Pure; time is a parameter."""

from __future__ import annotations

from dspex_actors.lm.control.messages import Ages
from dspex_actors.lm.deployment import Limits

#: What an LM has told holds for so many seconds after it asked last.
HOLDS_SECONDS = 60.0


class Told:
    """What the LMs of one deployment have told, and when they asked last."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._at: dict[Limits, float] = {}

    def tell(self, limits: Limits, at: float) -> bool:
        """Take note that an LM with these limits asks; return whether they are new.

        Args:
            limits: what it tells.
            at: when it asked, monotonic seconds.
        """
        before = self._at.get(limits)
        self._at[limits] = at if before is None else max(before, at)
        return before is None

    def in_force(self, now: float) -> Limits:
        """Return the smallest that was told in the last minute, and forget what is older."""
        old = [limits for limits, at in self._at.items() if now - at > HOLDS_SECONDS]
        for limits in old:
            del self._at[limits]
        return Limits.smallest(self._at)

    def differ(self) -> bool:
        """Tell whether LMs say different things about the same limit."""
        return Limits.differ(self._at)

    def ages(self, now: float) -> Ages:
        """Return what was told and how many seconds ago: clocks of two processes need not agree."""
        return tuple((limits.plain, now - at) for limits, at in self._at.items())

    def take(self, ages: Ages, now: float) -> None:
        """Take over another process's `ages`."""
        for limits, age in ages:
            self.tell(Limits._make(limits), now - age)
