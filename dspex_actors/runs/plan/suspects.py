"""Examples whose worker died while it held them, to be tried apart from the others. Pure.

Which of the hundreds that a dead worker held has killed it cannot be known: all are suspects. A worker that holds
nothing else gets them a few at a time, and on its last chance a suspect is alone there: only if that worker dies too
is it given up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from dspex_actors.runs.plan.types import Item, PlanSettings

#: Suspects that a worker gets together before each has its last chance, alone.
TOGETHER = 16


class Suspects:
    """The suspects in the order in which they are tried; those that got their result meanwhile are passed over."""

    def __init__(self) -> None:
        """Start with none."""
        self._queue: deque[Item] = deque()

    def __bool__(self) -> bool:
        """Return whether there may be any."""
        return bool(self._queue)

    @property
    def waiting(self) -> int:
        """Return how many have no result yet."""
        return sum(not item.settled for item in self._queue)

    def put_first(self, items: Iterable[Item]) -> None:
        """Take in what a dead worker held, before those that are here."""
        self._queue.extendleft(items)

    def remove(self, item: Item) -> None:
        """Take one out; ValueError: it is none of them."""
        self._queue.remove(item)

    def clear(self) -> None:
        """Forget all of them."""
        self._queue.clear()

    def take_together(self, settings: PlanSettings) -> list[Item]:
        """Take out those that one worker tries next: a few of them, or one alone that has its last chance."""
        most = min(TOGETHER, settings.chunk_examples)
        items: list[Item] = []
        size = 0
        while self._queue and len(items) < most:
            item = self._queue[0]
            if item.settled:
                self._queue.popleft()
                continue
            last = item.attempt >= settings.max_attempts
            if items and (last or size + len(item.payload) > settings.chunk_bytes):
                break
            self._queue.popleft()
            size += len(item.payload)
            items.append(item)
            if last:
                break
        return items
