"""What a process knows not to be on disk without looking there: most calls of a run that asks something new."""

from __future__ import annotations

import struct

from dspex_actors.cache.claims import Claims
from dspex_actors.cache.store import Reader

#: A file with more answers is looked into each time: knowing them all would take memory, and a while to begin with.
MOST_KNOWN = 50_000

_first = struct.Struct(">q8x")


class Known:
    """The keys in a file, as far as this process has read them.

    Every write turns a number that all processes see (`Claims.writes`). Where it has not turned, nothing new is there;
    where it has, the new keys are read. A key that was removed stays known: that costs a look.

    Args:
        reader: reads the file.
        claims: of its folder.
    """

    def __init__(self, reader: Reader, claims: Claims) -> None:
        """Begin with nothing read."""
        self._reader, self._claims = reader, claims
        self._keys: set[int] = set()
        self._last = 0
        self._writes: bytes | None = None
        self._is_on = True

    def may_have(self, key: bytes) -> bool:
        """Say whether a key may be in the file; never False where it is, and nobody else has a claim on it.

        Raises:
            sqlite3.Error: the file cannot be read.
        """
        if not self._is_on:
            return True
        writes = self._claims.writes()
        if writes != self._writes:
            new, self._last = self._reader.ids(self._last, MOST_KNOWN + 1)
            self._keys.update(new)
            if len(self._keys) > MOST_KNOWN:
                self._is_on = False
                self._keys.clear()
                return True
            self._writes = writes
        return _first.unpack(key)[0] in self._keys
