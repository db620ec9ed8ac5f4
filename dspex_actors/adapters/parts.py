"""Values that are told in parts (images, sound, files): they stand aside while a message's text is made.

In the text a mark stands for them, which nobody outside of this process can know: a text of a user or of an LM that
looks like one is text.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any

from dspex_actors.types.base import marked

_TOKEN = secrets.token_hex(16)
_MARK = re.compile(rf"<{_TOKEN}:(\d+)>")

Content = str | list[dict[str, Any]]


class Parts:
    """The parts of one message: the context in which its values are serialised."""

    __slots__ = ("kept",)

    def __init__(self) -> None:
        """Start with none."""
        self.kept: list[list[dict[str, Any]]] = []

    def put(self, parts: list[dict[str, Any]]) -> str:
        """Keep parts, and return the mark that stands for them."""
        self.kept.append(parts)
        return f"<{_TOKEN}:{len(self.kept) - 1}>"

    def content(self, text: str) -> Content:
        """Return a message's content: the text, or the texts around the parts, and the parts between them."""
        if not self.kept:
            return text
        pieces = list(self._pieces(text))
        if len(pieces) == 1 and isinstance(pieces[0], str):
            return text  # a hook has left them out
        content: list[dict[str, Any]] = []
        for piece in pieces:
            content.extend([{"type": "text", "text": piece}] if isinstance(piece, str) else piece)
        return content

    def whole(self, text: str) -> str:
        """Return the text as a value that can stand in a message later on, with its parts."""
        return Told(self._pieces(text)) if self.kept else text

    def _pieces(self, text: str) -> Iterator[str | list[dict[str, Any]]]:
        """Give the texts around the parts, and the parts between them."""
        end = 0
        for mark in _MARK.finditer(text):
            if mark.start() > end:
                yield text[end : mark.start()]
            yield self.kept[int(mark[1])]
            end = mark.end()
        if end < len(text):
            yield text[end:]


class Told(str):
    """A text that was made before its message is, with parts in it: a trajectory with a picture that a tool gave.

    In prompts it is told with its parts; anywhere else it is a text, with DSPy's marks in their places.

    Args:
        pieces: texts, and lists of parts between them.
    """

    pieces: tuple[str | list[dict[str, Any]], ...]

    def __new__(cls, pieces: Iterable[str | list[dict[str, Any]]]) -> Told:
        """Put the text together."""
        kept = tuple(pieces)
        made = super().__new__(cls, "".join(piece if isinstance(piece, str) else marked(piece) for piece in kept))
        made.pieces = kept
        return made

    def __reduce__(self) -> Any:
        """Travel with the parts."""
        return Told, (self.pieces,)

    def told(self, parts: Parts | None) -> str:
        """Return the text for a message, whose parts these become; None: the text as it stands."""
        if parts is None:
            return str(self)
        return "".join(piece if isinstance(piece, str) else parts.put(piece) for piece in self.pieces)


#: The parts of the message whose text is being made; None: whoever asks gets DSPy's text for them.
collecting: ContextVar[Parts | None] = ContextVar("dspex_parts", default=None)


def collected(make: Callable[[], str]) -> tuple[str, Parts]:
    """Return a text that `make` makes, with marks, and the parts that they stand for."""
    parts = Parts()
    token = collecting.set(parts)
    try:
        return make(), parts
    finally:
        collecting.reset(token)


def copied(content: Content) -> Content:
    """Return content that may be changed without anybody's noticing; texts and bytes are shared."""
    return content if isinstance(content, str) else [_copy(part) for part in content]


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _copy(item) for name, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value
