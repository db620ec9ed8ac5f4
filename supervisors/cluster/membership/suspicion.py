"""How long a suspect has to refute, and how well this node itself does. After Lifeguard. Pure."""

from __future__ import annotations

import math

#: So long has a suspect at the least, in seconds, in a cluster of up to 100; and so many times that if nobody else
#: suspects it.
LEAST_SECONDS, MOST = 1.0, 3.0
#: So many others make the time the shortest.
CONFIRMATIONS = 2
#: The worst that a node thinks of itself.
WORST = 8


class Health:
    """How much to trust one's own probes: 0 is well. Each step makes probes wait longer, and come less often."""

    def __init__(self) -> None:
        """Be well."""
        self.score = 0

    @property
    def factor(self) -> int:
        """By what the times of probes are multiplied."""
        return 1 + self.score

    def missed(self, count: int) -> None:
        """Something came late or not at all that would have come, were we well."""
        self.score = min(WORST, self.score + max(0, count))

    def answered(self) -> None:
        """A probe was answered in time."""
        self.score = max(0, self.score - 1)


class Suspicion:
    """The time that a suspect has.

    Args:
        now: when it began.
        size: how many members there are.
        by: who suspects it.
    """

    def __init__(self, now: float, size: int, by: str) -> None:
        """Begin."""
        self._since = now
        self._by = {by}
        self._needed = min(CONFIRMATIONS, max(0, size - 2))
        # News takes longer to reach all, the more there are: a round of gossip for each factor of ten or so.
        self._least = LEAST_SECONDS * max(1.0, (math.log10(max(size, 1)) + 2) / 4)
        self.ends_at = 0.0
        self._reckon()

    def confirm(self, by: str, now: float) -> bool:
        """Take in that another one suspects it too; return whether that is news."""
        if by in self._by or len(self._by) > self._needed:
            return False
        self._by.add(by)
        self._reckon()
        return True

    def forgive(self, seconds: float) -> None:
        """Give it longer, for time in which nothing could be heard here."""
        self._since += seconds
        self._reckon()

    def _reckon(self) -> None:
        most = self._least * MOST if self._needed else self._least
        share = math.log(len(self._by)) / math.log(self._needed + 1) if self._needed else 1.0
        self.ends_at = self._since + max(self._least, most - (most - self._least) * share)
