"""What an evaluator and a worker have said to each other, by number: so that nothing is lost on the way. Pure.

What a sitting is stands in `runs.work`. A connection between two nodes may break with messages on it; on one node none
is lost, and nothing is said that was not said before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Literal

from dspex_actors.runs.plan.types import Chunk

#: A worker that has something in hand and was silent for so many seconds is asked how far it is; the longer it stays
#: silent the less often, at most so many seconds apart.
SILENT_SECONDS, MOST_SECONDS = 2.0, 16.0


class Sitting:
    """The evaluator's side.

    Args:
        number: of the sitting.
        now: seconds of any clock that only grows.
    """

    def __init__(self, number: int, now: float) -> None:
        """Begin with nothing said."""
        self.number = number
        #: When the worker was last heard, and when it is asked.
        self.heard_at, self._ask_at = now, now + SILENT_SECONDS
        #: The last batch that was heard, and the last one that is in the journal.
        self.batch = self.written = 0
        self._given = 0
        self._untaken: deque[tuple[int, Chunk]] = deque()

    def give(self, chunk: Chunk) -> int:
        """Return the number of a chunk that is sent now."""
        self._given += 1
        self._untaken.append((self._given, chunk))
        return self._given

    def taken(self, number: int) -> None:
        """Take note that the worker has taken in the chunks up to this one."""
        while self._untaken and self._untaken[0][0] <= number:
            self._untaken.popleft()

    @property
    def untaken(self) -> Iterator[tuple[int, Chunk]]:
        """Give the chunks that are not known to be taken in, with their numbers."""
        return iter(tuple(self._untaken))

    def hear(self, batch: int, taken: int, now: float) -> Literal["new", "known", "early"]:
        """Take in that a batch has come.

        Args:
            batch: its number.
            taken: the last chunk that the worker had taken in.
            now: as above.

        Returns:
            Whether it is the next one, was heard before, or came though one before it did not: it is not taken in.
        """
        self.heard_at, self._ask_at = now, now + SILENT_SECONDS
        if self._untaken:
            self.taken(taken)
        if batch > self.batch + 1:
            return "early"
        if batch <= self.batch:
            return "known"
        self.batch = batch
        return "new"

    def is_to_ask(self, now: float, *, holds: bool) -> bool:
        """Whether the worker is to be asked now how far it is; then not again soon.

        Args:
            now: as above.
            holds: whether it has examples without a result.
        """
        if now < self._ask_at or not (holds or self._untaken):
            return False
        self._ask_at = now + min(MOST_SECONDS, max(SILENT_SECONDS, now - self.heard_at))
        return True
