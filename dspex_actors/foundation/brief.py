"""Values as people are shown them in errors and events: plain data, short, and without keys, whatever they were."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import lru_cache
from itertools import islice
from typing import Any

from dspex_actors.foundation.secrets import scrub_data

#: A value is shown with so many characters altogether; a text in it with so many, a list or dict with so many items.
MOST, TEXT, ITEMS = 2000, 400, 16
#: What is deeper is only named.
DEPTH = 5
#: What a value takes beside its characters.
_EACH = 4
#: A text is looked through for keys a little beyond where it is cut: a key may begin before.
_BEYOND = 500

#: What has such a name is not shown.
_SECRET_NAMES = re.compile(
    r".*(?:(?:(?:api|access|private|auth)[_-]?key|secret|passw(?:or)?d|passphrase|credential|authorization|cookie)s?"
    r"|(?:^|[_-]|access|auth|bearer|refresh)token)",
    re.IGNORECASE,
)
#: So many characters of a name are looked at.
_NAME = 64
#: What stands in its place.
HIDDEN = "[key]"
_ELLIPSIS = "…"


def brief(value: Any, most: int = MOST) -> Any:
    """Return a value as short plain data that JSON and msgpack can hold.

    What is no plain data is shown by its `repr`. Nothing that a value does is raised here.

    Args:
        value: anything, cyclic and endless things too.
        most: characters altogether, about.
    """
    return _Brief(most).shown(value, 0)


def brief_text(text: str, most: int = TEXT) -> str:
    """Return a text without keys and halves of surrogate pairs, cut at so many characters."""
    shown = scrub_data(text[: most + _BEYOND])
    if not shown.isascii():
        shown = shown.encode("utf-8", "backslashreplace").decode()
    return shown if len(shown) <= most and len(text) <= most + _BEYOND else shown[:most] + _ELLIPSIS


def brief_error(error: BaseException) -> dict[str, str]:
    """Return an error as events show it: `type` and `message`, whatever it does when it is printed."""
    return {"type": type(error).__name__, "message": brief_text(_said(error, str), MOST)}


def is_secret(name: str) -> bool:
    """Say whether what has such a name is not to be shown."""
    return _ends_as_secret(name[-_NAME:])  # the end says it, and names may be as long as anything


@lru_cache(maxsize=1024)
def _ends_as_secret(name: str) -> bool:
    return _SECRET_NAMES.fullmatch(name) is not None


class _Brief:
    """One value as it is being made brief."""

    __slots__ = ("_left",)

    def __init__(self, most: int) -> None:
        self._left = most

    def shown(self, value: Any, depth: int) -> Any:
        self._left -= _EACH
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is int:
            return value if -(2**63) <= value < 2**63 else f"<an int of {value.bit_length()} bits>"
        if kind is float:
            return value if math.isfinite(value) else str(value)
        if isinstance(value, str):
            return self._text(str.__str__(value))
        if isinstance(value, dict):
            return self._dict(value if kind is dict else dict.copy(value), depth)
        if kind in (list, tuple, set, frozenset):
            return self._list(value, depth)
        if kind is bytes:
            return f"<{len(value)} bytes>"
        return self._text(_said(value))

    def _text(self, text: str) -> str:
        shown = brief_text(text, max(0, min(TEXT, self._left)))
        self._left -= len(shown)
        return shown

    def _dict(self, value: dict[Any, Any], depth: int) -> Any:
        if depth == DEPTH:
            return f"<a dict of {len(value)}>"
        shown: dict[str, Any] = {}
        for name in _some(value):
            if self._left <= 0:
                break
            key = self._text(name) if type(name) is str else str(self.shown(name, DEPTH))
            shown[key] = HIDDEN if is_secret(key) else self.shown(value.get(name), depth + 1)
        if len(value) > len(shown):
            shown[_ELLIPSIS] = f"{len(value) - len(shown)} more"
        return shown

    def _list(self, value: Any, depth: int) -> Any:
        if depth == DEPTH:
            return f"<a {_name_of(value)} of {len(value)}>"
        shown: list[Any] = []
        for item in _some(value):
            if self._left <= 0:
                break
            shown.append(self.shown(item, depth + 1))
        if len(value) > len(shown):
            shown.append(f"{_ELLIPSIS} {len(value) - len(shown)} more")
        return shown


def _said(value: Any, how: Callable[[Any], str] = repr) -> str:
    try:
        text = how(value)
    except Exception as error:
        return f"<{_name_of(value)}, whose {how.__name__} raises {type(error).__name__}>"
    return text


def _name_of(value: Any) -> str:
    return type(value).__name__


def _some(value: Any) -> list[Any]:
    """Return the first items; none of what another thread changes meanwhile."""
    try:
        return list(islice(value, ITEMS))
    except RuntimeError:
        return []
