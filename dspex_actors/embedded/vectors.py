"""Vectors of texts without a model: texts that share words and their n-grams have vectors near each other.

Source: feature hashing (Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", 2009) over the
features of `similarity`.
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from math import sqrt

from dspex_actors.embedded.similarity import features, words

#: How long a vector is where the request does not say, and at most.
DIMENSIONS, MOST_DIMENSIONS = 256, 4096
#: A whole word says more than one of its n-grams.
_WORD_WEIGHT = 3.0


def vector(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """Return the vector of a text, of length 1; of an empty one the first of all directions."""
    values = [0.0] * dimensions
    for word, weight in words(text):
        for at, sign in _places(word, dimensions):
            values[at] += sign * weight
    length = sqrt(sum(value * value for value in values))
    if not length:
        return [1.0, *values[1:]]
    return [value / length for value in values]


@lru_cache(maxsize=8192)
def _places(word: str, dimensions: int) -> tuple[tuple[int, float], ...]:
    found = []
    for number, feature in enumerate(features(word)):
        hashed = zlib.crc32(feature.encode())
        weight = _WORD_WEIGHT if number == 0 else 1.0
        found.append((hashed % dimensions, weight if hashed & 0x80000000 else -weight))
    return tuple(found)
