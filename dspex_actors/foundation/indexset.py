"""A set of row numbers that stays small: one bit each, whatever the dataset's length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


class IndexSet:
    """Non-negative integers, one bit each: 100,000 rows are 12.5 kB.

    A dense prefix, the usual shape of a run's finished rows, is passed over bytes at a time.
    """

    __slots__ = ("_bits", "_count")

    def __init__(self, indices: Iterable[int] = ()) -> None:
        """Make the set of `indices`."""
        self._bits = bytearray()
        self._count = 0
        for index in indices:
            self.add(index)

    def add(self, index: int) -> bool:
        """Put `index` in; return whether it is new."""
        if index < 0:
            raise ValueError(f"an index is 0 or more; got {index}")
        place, bit = index >> 3, 1 << (index & 7)
        if place >= len(self._bits):
            self._bits.extend(bytes(max(place + 1 - len(self._bits), len(self._bits) >> 1, 64)))
        if self._bits[place] & bit:
            return False
        self._bits[place] |= bit
        self._count += 1
        return True

    def __contains__(self, index: object) -> bool:
        """Return whether `index` is in the set."""
        if not isinstance(index, int) or index < 0:
            return False
        place = index >> 3
        return place < len(self._bits) and bool(self._bits[place] & (1 << (index & 7)))

    def __len__(self) -> int:
        """Return how many indices are in the set."""
        return self._count

    def __iter__(self) -> Iterator[int]:
        """Give the indices in ascending order."""
        for start, stop in self.ranges():
            yield from range(start, stop)

    def __eq__(self, other: object) -> bool:
        """Compare by what is in the sets."""
        if not isinstance(other, IndexSet):
            return NotImplemented
        return self._bits.rstrip(b"\0") == other._bits.rstrip(b"\0")

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        """Return how many there are and the first missing one."""
        return f"IndexSet({self._count:,} indices, first missing {self.next_missing(0):,})"

    def next_missing(self, start: int) -> int:
        """Return the first index from `start` on that is not in the set."""
        return self._scan(start, present=False)

    def next_present(self, start: int) -> int | None:
        """Return the first index from `start` on that is in the set, None where there is none."""
        found = self._scan(start, present=True)
        return found if found in self else None

    def ranges(self) -> Iterator[tuple[int, int]]:
        """Give the indices as (first, one past the last) pairs in ascending order."""
        start = self.next_present(0)
        while start is not None:
            stop = self.next_missing(start)
            yield start, stop
            start = self.next_present(stop)

    def to_bytes(self) -> bytes:
        """Return the bitmap, lowest index in the lowest bit of the first byte."""
        return bytes(self._bits.rstrip(b"\0"))

    @classmethod
    def from_bytes(cls, data: bytes) -> IndexSet:
        """Return the set that `to_bytes` made `data` from."""
        made = cls()
        made._bits = bytearray(data)
        made._count = int.from_bytes(data, "little").bit_count()
        return made

    def _scan(self, start: int, *, present: bool) -> int:
        bits, index, end = self._bits, start, len(self._bits) << 3
        dull = 0x00 if present else 0xFF
        while index < end:
            byte = bits[index >> 3]
            if byte == dull:
                index = (index | 7) + 1
            elif bool(byte >> (index & 7) & 1) == present:
                return index
            else:
                index += 1
        return index
