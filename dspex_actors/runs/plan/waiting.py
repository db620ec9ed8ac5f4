"""The examples that wait for a worker: fresh ones, those that came back, and suspects. Pure."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Hashable, Sequence

from dspex_actors.runs.plan.suspects import Suspects
from dspex_actors.runs.plan.types import Item, PlanSettings

#: So many examples are passed over at most because another worker should have them.
_LOOK = 64


class Waiting:
    """What has no result and is with no worker, in the order in which it is given out."""

    def __init__(self, settings: PlanSettings) -> None:
        """Start with nothing."""
        self._settings = settings
        # What came back, in order; those that got their result meanwhile are still in the queue, but settled.
        self._again: deque[Item] = deque()
        self._returned: dict[int, Item] = {}
        self._fresh: deque[Item] = deque()
        self._suspects = Suspects()

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._returned) + len(self._fresh)

    @property
    def has_suspects(self) -> bool:
        """Whether there may be suspects."""
        return bool(self._suspects)

    @property
    def unsuspected(self) -> int:
        """Return how many wait that are no suspects."""
        return len(self) - self._suspects.waiting

    def returned(self, index: int) -> Item | None:
        """Return the example with this index if it waits and has been with a worker before."""
        return self._returned.get(index)

    def feed(self, item: Item) -> None:
        """Take in a fresh example, behind all others."""
        self._fresh.append(item)

    def put_back(self, item: Item, *, front: bool) -> None:
        """Take in one that is to be tried again, before or behind the others that came back."""
        self._returned[item.index] = item
        if front:
            self._again.appendleft(item)
        else:
            self._again.append(item)

    def put_suspects(self, items: Sequence[Item]) -> None:
        """Take in what a dead worker held, in the order in which it got them."""
        for item in items:
            self._returned[item.index] = item
        self._suspects.put_first(reversed(items))

    def forget(self, index: int) -> None:
        """Take out an example that has got its result."""
        self._returned.pop(index, None)

    def withdraw(self, index: int) -> Item | None:
        """Take out one that came back; None: it does not wait."""
        item = self._returned.pop(index, None)
        if item is not None:
            for queue in (self._again, self._suspects):
                with contextlib.suppress(ValueError):
                    queue.remove(item)
        return item

    def clear(self) -> int:
        """Give up everything; return how many bytes that were."""
        size = sum(len(item.payload) for queue in (self._returned.values(), self._fresh) for item in queue)
        for queue in (self._again, self._suspects, self._returned, self._fresh):
            queue.clear()
        return size

    def take_suspects(self) -> list[Item]:
        """Take out the suspects that one worker tries next."""
        return self._taken(self._suspects.take_together(self._settings))

    def take(self, most: int, avoided_by: Hashable | None) -> list[Item]:
        """Take out what goes into one chunk.

        Args:
            most: examples in it.
            avoided_by: the worker it is for, which does not get what has failed there; None: it gets anything.
        """
        items: list[Item] = []
        passed: list[Item] = []
        size = 0
        while len(items) < most:
            while self._again and self._again[0].settled:
                self._again.popleft()
            queue = self._again if self._again and len(passed) < _LOOK else self._fresh
            if not queue:
                break
            item = queue[0]
            if items and size + len(item.payload) > self._settings.chunk_bytes:
                break
            queue.popleft()
            if avoided_by is not None and item.avoid == avoided_by:
                passed.append(item)
                continue
            size += len(item.payload)
            items.append(item)
        self._again.extendleft(reversed(passed))
        return self._taken(items)

    def _taken(self, items: list[Item]) -> list[Item]:
        for item in items:
            self._returned.pop(item.index, None)
        return items
