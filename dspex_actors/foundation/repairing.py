"""JSON that a model has written with flaws, repaired; in a time that does not grow with the square of the text."""

from __future__ import annotations

import re
from typing import Any, SupportsIndex

#: Brackets in brackets deeper than this are a model that repeats itself. A repairer would take minutes over them, and
#: everything else in its process would wait.
_DEEPEST = 100
_OPENING, _BRACKETS = frozenset("([{"), re.compile(r"[\[\](){}]")
#: A stray quote has the repairer look through all that comes after it, and a text may have thousands of them. It may
#: look at so many characters, and at each of the text so often; what can be repaired takes less than a tenth of it.
_MOST_LOOKS, _LOOKS_EACH = 1_000_000, 20
#: A shorter text cannot take long.
_SHORT = 1000


class _Looked(str):
    """A text that can be looked at only so often."""

    __slots__ = ("left",)
    left: int

    def __getitem__(self, place: SupportsIndex | slice) -> str:
        self.left -= 1
        if self.left < 0:
            raise ValueError("it would take too long to repair this text")
        return str.__getitem__(self, place)


def repaired(text: str) -> Any:
    """Return what a text with flawed JSON in it says.

    Args:
        text: what a model wrote.

    Returns:
        The value; an empty text where there is no JSON in it.

    Raises:
        ValueError: it cannot be repaired, or would take too long.
        RecursionError: it is nested too deeply.
    """
    if _is_too_deep(text):
        raise ValueError("its brackets are nested too deeply")
    import json_repair  # here: few texts need it; nodes have it loaded

    if len(text) > _SHORT:
        looked = _Looked(text)
        looked.left = _MOST_LOOKS + _LOOKS_EACH * len(text)
        text = looked
    return json_repair.loads(text)


def _is_too_deep(text: str) -> bool:
    """Tell whether a text opens brackets in brackets as nothing does that could be repaired."""
    depth = 0
    for bracket in _BRACKETS.finditer(text):
        depth += 1 if bracket[0] in _OPENING else -1 if depth else 0
        if depth > _DEEPEST:
            return True
    return False
