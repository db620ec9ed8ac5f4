"""Questions by their vectors: those of each scope in one array, looked through as a whole."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dspex_actors.cache.guards import may_be_same

#: So many of the closest are looked at by the guards.
CLOSEST = 8
_FIRST = 64


def normal(vector: Any) -> np.ndarray:
    """Return a vector of length 1, as 4-byte floats.

    Raises:
        ValueError: it is no row of finite numbers, or has no direction.
    """
    row = np.asarray(vector, dtype=np.float32).reshape(-1)
    length = float(np.linalg.norm(row))
    if not row.size or not np.isfinite(length) or length == 0:
        raise ValueError("a vector of an embedder is invalid: expected finite numbers, not all of them 0")
    made: np.ndarray = row / np.float32(length)
    return made


@dataclass
class Questions:
    """The questions of one scope.

    Args:
        last: number of the newest that was read from disk.
    """

    last: int = 0
    texts: list[str] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    _rows: np.ndarray | None = None

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.texts)

    def add(self, text: str, key: bytes, vector: np.ndarray) -> None:
        """Take in a question; one of another length than the others is of another embedder, and is left out."""
        count = len(self.texts)
        if self._rows is None:
            self._rows = np.empty((_FIRST, vector.size), dtype=np.float32)
        if vector.size != self._rows.shape[1]:
            return
        if count == len(self._rows):
            more = np.empty((2 * count, vector.size), dtype=np.float32)
            more[:count] = self._rows
            self._rows = more
        self._rows[count] = vector
        self.texts.append(text)
        self.keys.append(key)

    def drop_oldest(self, most: int) -> None:
        """Keep the newest only, at most so many."""
        gone = len(self.texts) - most
        if gone > 0 and self._rows is not None:
            self._rows = self._rows[gone:].copy()
            del self.texts[:gone], self.keys[:gone]

    def nearest(self, text: str, vector: np.ndarray, threshold: float) -> bytes | None:
        """Return the key of the closest question that may have the same answer; None: there is none.

        Args:
            text: the question.
            vector: its vector, of length 1.
            threshold: the least cosine.
        """
        count = len(self.texts)
        if not count or self._rows is None or self._rows.shape[1] != vector.size:
            return None
        near = self._rows[:count] @ vector
        best = np.argpartition(near, -CLOSEST)[-CLOSEST:] if count > CLOSEST else np.arange(count)
        for place in best[np.argsort(near[best])[::-1]].tolist():
            if near[place] < threshold:
                break
            if may_be_same(text, self.texts[place]):
                return self.keys[int(place)]
        return None


class Scopes:
    """The questions of all scopes, at most so many together: those of the scopes that were used last.

    Args:
        most: questions.
    """

    def __init__(self, most: int) -> None:
        """Begin with none."""
        self.most = most
        self._scopes: OrderedDict[int, Questions] = OrderedDict()

    def of(self, scope: int) -> Questions:
        """Return the questions of a scope."""
        found = self._scopes.get(scope)
        if found is None:
            found = self._scopes[scope] = Questions()
        self._scopes.move_to_end(scope)
        return found

    def take(self, scope: int, rows: Iterable[tuple[int, bytes, str, bytes]]) -> Questions:
        """Take in questions that were read: number, key, text, vector; return all of the scope."""
        found = self.of(scope)
        for number, key, text, vector in rows:
            found.last = max(found.last, number)
            found.add(text, key, np.frombuffer(vector, dtype=np.float32))
        found.drop_oldest(self.most)
        while len(self._scopes) > 1 and sum(map(len, self._scopes.values())) > self.most:
            self._scopes.popitem(last=False)
        return found

    def clear(self) -> None:
        """Forget all of them."""
        self._scopes.clear()
