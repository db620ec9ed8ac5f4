"""When a batch may go: at once where little is going on, else not sooner than a moment after the last one. Pure."""

from __future__ import annotations

#: For each thing that is going on batches to one receiver go so many seconds apart, and so many at most: fewer
#: messages for a little more time. It is less than what the things themselves take where that much is going on.
LINGER_SECONDS, MOST_SECONDS = 0.00015, 0.01
#: So much may go on before a batch waits for anything.
FEW = 4


class Linger:
    """The pace of the batches to one receiver."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        """Let the first one go at once."""
        self._last = float("-inf")

    def wait(self, now: float, going_on: int) -> float:
        """Return how many seconds the batch that is ready now has to wait.

        Args:
            now: seconds.
            going_on: how many things are under way that will have to be sent, too.
        """
        if going_on <= FEW:
            return 0.0
        return max(0.0, self._last + min(MOST_SECONDS, going_on * LINGER_SECONDS) - now)

    def went(self, now: float) -> None:
        """Take note that a batch goes now."""
        self._last = now
