"""Which of a few texts is most like another: TF-IDF cosine over words and character n-grams.

Features of a word are the word itself and the 3- to 5-grams of it with its boundaries marked, so that
"refunded" is near "refund" and not near "found". The score is linear in the query's words: what one word adds
to each document's score is computed once and kept, and a query costs a few additions per word.

Source of the weighting: Salton and Buckley, "Term-weighting approaches in automatic text retrieval" (1988),
with n-grams that stay inside a word (Cavnar and Trenkle, "N-gram-based text categorization", 1994).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from math import log, sqrt

_WORD = re.compile(r"\w+")
_NGRAMS = (3, 4, 5)
#: A long token (an identifier, text of a script without spaces) is cut: n-grams of its start are enough.
_LONGEST = 40
#: A whole word that two texts share says more than one n-gram of it.
_WORD_WEIGHT = 3.0
#: Words whose contribution a set of documents remembers; a bound on memory, not on what can be asked.
_KEPT_WORDS = 8192


@lru_cache(maxsize=65536)
def features(word: str) -> tuple[str, ...]:
    """Return the n-grams of one lower-case word, boundaries marked by spaces, and first the word itself."""
    padded = f" {word} "
    grams = [padded]
    for size in _NGRAMS:
        grams.extend(padded[at : at + size] for at in range(len(padded) - size + 1) if size < len(padded))
    return tuple(grams)


@lru_cache(maxsize=4096)
def words(text: str) -> tuple[tuple[str, float], ...]:
    """Return the distinct lower-case words of `text` in order, each with its damped frequency."""
    counts = Counter(word[:_LONGEST] for word in _WORD.findall(text.lower()))
    return tuple((word, 1.0 + log(n)) for word, n in counts.items())


@lru_cache(maxsize=1024)
def _vector(text: str) -> dict[str, float]:
    """Return the text's features with their frequencies. Shared by every set that the text is part of."""
    vector: dict[str, float] = {}
    for word, weight in words(text):
        grams = features(word)
        vector[grams[0]] = vector.get(grams[0], 0.0) + weight * _WORD_WEIGHT
        for gram in grams[1:]:
            vector[gram] = vector.get(gram, 0.0) + weight
    return vector


class Neighbours:
    """A fixed set of texts that can be asked how alike each of them is to a query."""

    def __init__(self, documents: Sequence[str]) -> None:
        """Weigh the documents' features; their order does not change any score."""
        self._size = len(documents)
        self._vectors = [_vector(document) for document in documents]
        seen: dict[str, int] = {}
        for vector in self._vectors:
            for feature in vector:
                seen[feature] = seen.get(feature, 0) + 1
        idf = [0.0, *(log((1.0 + self._size) / (0.5 + n)) for n in range(1, self._size + 1))]
        self._idf = {feature: idf[n] for feature, n in seen.items()}
        self._scale = [self._inverse_norm(vector) for vector in self._vectors]
        self._kept: dict[str, tuple[float, ...]] = {}

    def _inverse_norm(self, vector: dict[str, float]) -> float:
        idf = self._idf
        square = 0.0
        for feature, frequency in vector.items():
            weight = frequency * idf[feature]
            square += weight * weight
        return 1.0 / sqrt(square) if square else 0.0

    def _contribution(self, word: str) -> tuple[float, ...]:
        """Return what one word of a query adds to each document's score; empty if it adds nothing."""
        found = self._kept.get(word)
        if found is not None:
            return found
        idf = self._idf
        known = [(gram, idf[gram]) for gram in features(word) if gram in idf]
        totals: tuple[float, ...] = ()
        if known:
            own = f" {word} "
            # Squared: the query's side of the product carries the same inverse document frequency.
            weights = [(g, i * i * (_WORD_WEIGHT if g == own else 1.0)) for g, i in known]
            totals = tuple(
                sum(vector[g] * w for g, w in weights if g in vector) * scale
                for vector, scale in zip(self._vectors, self._scale, strict=True)
            )
        if len(self._kept) >= _KEPT_WORDS:
            self._kept.clear()
        self._kept[word] = totals
        return totals

    def scores(self, query: str) -> list[float]:
        """Return each document's likeness to `query`, at least 0.

        The numbers are cosines up to one common factor (the query's own length), which no ranking and no
        weighted vote depends on.
        """
        scores = [0.0] * self._size
        for word, weight in words(query):
            part = self._contribution(word)
            if part:
                scores = [score + weight * one for score, one in zip(scores, part, strict=True)]
        return scores
