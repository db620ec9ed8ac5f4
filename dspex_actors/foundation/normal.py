"""Text as DSPy's exact match, F1 and majority compare it."""

from __future__ import annotations

import re
import string
import unicodedata

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_text(text: str) -> str:
    """Return the text as DSPy's exact match and F1 see it."""
    lowered = unicodedata.normalize("NFD", text).lower()
    return " ".join(_ARTICLES.sub(" ", lowered.translate(_NO_PUNCTUATION)).split())
