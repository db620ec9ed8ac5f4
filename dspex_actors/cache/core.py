"""What a cache keeps and what it gives up: by bytes, by age, by use. Time is a parameter, nothing here reads a clock.

Two rules of what goes first: `lru` (Least Recently Used), and `lfu` (Least Frequently Used; among those used alike
often, the one whose last use is longest ago). The second keeps the keys in buckets by their uses, after K. Shah,
A. Mitra, D. Matani, "An O(1) algorithm for implementing the LFU cache eviction scheme", 2010.

An entry that is older than its time to live is no hit any more.
"""

from __future__ import annotations

import math
from collections import OrderedDict, defaultdict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

#: About what an entry takes beside its value: key, dict entries, objects.
OVERHEAD_BYTES = 400

V = TypeVar("V")
#: By what an entry is found.
Key = str | bytes
W = TypeVar("W", bound=Hashable)


@dataclass(slots=True)
class Entry(Generic[V]):
    """What is kept under a key.

    Args:
        value: the value.
        size: bytes that it counts as.
        at: when it came in, in seconds.
    """

    value: V
    size: int
    at: float


@dataclass(slots=True)
class CacheStats:
    """What a cache has done so far, and what it has now.

    Args:
        hits: questions that an entry answered.
        misses: questions that none answered.
        stored: values that came in.
        evicted: entries that went because their place was needed.
        refused: values that were too large to be kept at all.
        entries: entries that are there.
        bytes: what they count as.
    """

    hits: int = 0
    misses: int = 0
    stored: int = 0
    evicted: int = 0
    refused: int = 0
    entries: int = 0
    bytes: int = 0


class _Order(Protocol):
    """In which order keys go."""

    def add(self, key: Key) -> None:
        """Take in a new key."""

    def touch(self, key: Key) -> None:
        """Take note of a use."""

    def remove(self, key: Key) -> None:
        """Forget a key."""

    def first(self, but: Key) -> Key:
        """Return the key that goes next, of all but one."""


class _LeastRecent:
    def __init__(self) -> None:
        self._keys: OrderedDict[Key, None] = OrderedDict()

    def add(self, key: Key) -> None:
        self._keys[key] = None

    def touch(self, key: Key) -> None:
        self._keys.move_to_end(key)

    def remove(self, key: Key) -> None:
        del self._keys[key]

    def first(self, but: Key) -> Key:
        return next(key for key in self._keys if key != but)


class _LeastFrequent:
    def __init__(self) -> None:
        self._uses: dict[Key, int] = {}
        self._by_uses: defaultdict[int, OrderedDict[Key, None]] = defaultdict(OrderedDict)

    def add(self, key: Key) -> None:
        self._uses[key] = 1
        self._by_uses[1][key] = None

    def touch(self, key: Key) -> None:
        uses = self._uses[key]
        self._take(key, uses)
        self._uses[key] = uses + 1
        self._by_uses[uses + 1][key] = None

    def remove(self, key: Key) -> None:
        self._take(key, self._uses.pop(key))

    def first(self, but: Key) -> Key:
        # Few numbers of uses are there at a time; a key is passed over at most once.
        return next(key for uses in sorted(self._by_uses) for key in self._by_uses[uses] if key != but)

    def _take(self, key: Key, uses: int) -> None:
        keys = self._by_uses[uses]
        del keys[key]
        if not keys:
            del self._by_uses[uses]


#: Strategy → its order.
STRATEGIES: dict[str, type[_Order]] = {"lru": _LeastRecent, "lfu": _LeastFrequent}


class CacheCore(Generic[V]):
    """A cache of at most so many bytes.

    Args:
        strategy: lru or lfu, what goes first.
        max_bytes: what its entries may count as together, `OVERHEAD_BYTES` for each among it; 0 keeps nothing.
        ttl: seconds after which an entry is stale; infinity: never.
        max_entries: how many there may be.
    """

    def __init__(
        self, strategy: str = "lru", max_bytes: int = 64 << 20, ttl: float = 3600.0, max_entries: float = math.inf
    ) -> None:
        """Begin empty."""
        self.max_bytes, self.ttl, self.max_entries = max_bytes, ttl, max_entries
        self._strategy = strategy
        self.counts = CacheStats()
        self.clear()

    def get(self, key: Key, now: float, ttl: float = math.inf) -> Entry[V] | None:
        """Return what is kept under a key; None: nothing, or nothing that is fresh.

        Args:
            key: the key.
            now: seconds, of the clock that `put` is given.
            ttl: an older one is none for this question, and stays.
        """
        entry = self._entries.get(key)
        if entry is not None and now - entry.at < self.ttl:
            if now - entry.at >= ttl:
                self.counts.misses += 1
                return None
            self._order.touch(key)
            self.counts.hits += 1
            return entry
        self.counts.misses += 1
        if entry is not None:
            self.discard(key)
        return None

    def put(self, key: Key, value: V, size: int, now: float) -> bool:
        """Keep a value, in the place of an earlier one; say whether it is kept.

        Args:
            key: the key.
            value: the value.
            size: its bytes.
            now: seconds.
        """
        size += OVERHEAD_BYTES
        if size > self.max_bytes:
            self.discard(key)  # what was there is not what it is now
            self.counts.refused += 1
            return False
        known = self._entries.get(key)
        if known is not None:
            self.counts.bytes += size - known.size
            self._entries[key] = Entry(value, size, now)
            self._order.touch(key)
        while (
            self.counts.bytes + (0 if known else size) > self.max_bytes
            or self.counts.entries + (0 if known else 1) > self.max_entries
        ):
            self.discard(self._order.first(key))
            self.counts.evicted += 1
        if known is None:
            self._entries[key] = Entry(value, size, now)
            self._order.add(key)
            self.counts.bytes += size
            self.counts.entries += 1
        self.counts.stored += 1
        return True

    def discard(self, key: Key) -> None:
        """Forget what is kept under a key, if anything is."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._order.remove(key)
            self.counts.bytes -= entry.size
            self.counts.entries -= 1

    def clear(self) -> None:
        """Forget everything that is kept; what was counted stays."""
        self._entries: dict[Key, Entry[V]] = {}
        self._order = STRATEGIES[self._strategy]()
        self.counts.entries = self.counts.bytes = 0

    def peek(self, key: Key) -> Entry[V] | None:
        """Return what is kept under a key, however old it is; it counts as no question, and as no use."""
        return self._entries.get(key)

    def __contains__(self, key: object) -> bool:
        """Whether something is kept under a key."""
        return key in self._entries

    def __len__(self) -> int:
        """Return how many entries there are."""
        return len(self._entries)


class Flights(Generic[W]):
    """Single flight: of many that want the same at the same time one gets it, and the others wait for that.

    The book only: who waits for which key. The first that boards a key has to fetch it, and lands it for all.
    """

    def __init__(self) -> None:
        """Begin with nobody waiting."""
        self._waiting: dict[str, dict[W, None]] = {}

    def board(self, key: str, who: W) -> bool:
        """Wait for a key; say whether nobody fetches it yet, so that this one has to."""
        there = self._waiting.get(key)
        if there is None:
            self._waiting[key] = {who: None}
            return True
        there[who] = None
        return False

    def leave(self, key: str, who: W) -> bool:
        """Wait no longer; say whether nobody waits for the key any more (it is forgotten then)."""
        there = self._waiting.get(key)
        if there is None or who not in there:
            return False
        del there[who]
        if there:
            return False
        del self._waiting[key]
        return True

    def land(self, key: str) -> list[W]:
        """Return all who wait for a key, in the order in which they came; nobody waits for it any more."""
        return list(self._waiting.pop(key, ()))

    def __contains__(self, key: object) -> bool:
        """Whether a key is being fetched."""
        return key in self._waiting

    def __len__(self) -> int:
        """Return how many keys are being fetched."""
        return len(self._waiting)
