"""What an operation took in or gave, as its events show it: plain data, cut to a size, without keys."""

from __future__ import annotations

import itertools
import math
from typing import Any

from dspex_actors.foundation.brief import HIDDEN, brief, brief_text, is_secret
from dspex_actors.foundation.codec import to_plain

#: It is cut to so many characters altogether, about; a text in it to so many, a list or dict to so many items.
MAX_SHOWN, MAX_TEXT, MAX_ITEMS = 16 << 10, 8 << 10, 256
#: What is deeper is only named.
MAX_DEPTH = 10
#: What a value takes beside its characters.
_EACH = 4
_CUT = "…"


def shown(value: Any) -> Any:
    """Return a value as plain data of at most `MAX_SHOWN` characters, about; nothing that it does is raised here."""
    return _Shown().of(value, 0)


class _Shown:
    """One value as it is being cut."""

    def __init__(self) -> None:
        self._left = MAX_SHOWN

    def of(self, value: Any, depth: int) -> Any:
        self._left -= _EACH
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is str:
            return self._text(value)
        if kind is int and abs(value) < 1 << 63:
            return value
        if kind is float and math.isfinite(value):
            return value
        if depth < MAX_DEPTH:
            if kind is dict:
                return self._dict(value, depth)
            if kind in (list, tuple):
                return self._list(value, depth)
            try:
                plain = to_plain(value)
            except Exception:  # in circles, or it does not let itself be looked at
                return self._text(str(brief(value)))
            if isinstance(plain, (dict, list)):
                return self.of(plain, depth + 1)
            return self._text(plain) if isinstance(plain, str) else brief(plain)
        return self._text(str(brief(value)))

    def _text(self, text: str) -> str:
        most = max(0, min(MAX_TEXT, self._left))
        self._left -= min(len(text), most)
        return brief_text(text, most)

    def _dict(self, value: dict[Any, Any], depth: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for name in _first(value):
            if self._left <= 0:
                break
            key = self._text(name if isinstance(name, str) else str(brief(name)))
            made[key] = HIDDEN if isinstance(name, str) and is_secret(name) else self.of(value.get(name), depth + 1)
        if len(value) > len(made):
            made[_CUT] = f"{len(value) - len(made)} more"
        return made

    def _list(self, value: Any, depth: int) -> list[Any]:
        made: list[Any] = []
        for item in _first(value):
            if self._left <= 0:
                break
            made.append(self.of(item, depth + 1))
        if len(value) > len(made):
            made.append(f"{_CUT} {len(value) - len(made)} more")
        return made


def _first(value: Any) -> list[Any]:
    """Return the first items; none of what another thread changes meanwhile."""
    try:
        return list(itertools.islice(value, MAX_ITEMS))
    except RuntimeError:
        return []
