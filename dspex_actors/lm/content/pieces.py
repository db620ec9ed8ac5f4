"""Pieces: what a reply that is streamed comes in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["text", "thinking", "tool_call"]


@dataclass(slots=True)
class Piece:
    """A piece of a reply, in the order in which the model writes it. Not to be changed; frozen it were slow to make.

    Args:
        kind: "text" of the reply, "thinking" before it, or a "tool_call".
        text: what was written: text, thoughts, or the next characters of the call's arguments, which are JSON.
        index: which tool call of the reply it belongs to, from 0.
        id: the provider's id of the tool call; in its first piece, where there is one.
        name: the tool; in the call's first piece.
    """

    kind: Kind
    text: str
    index: int = 0
    id: str | None = None
    name: str | None = None

    def __str__(self) -> str:
        """Return what of the reply's text it is: nothing, for thoughts and tool calls."""
        return self.text if self.kind == "text" else ""


def packed(pieces: Iterable[Piece]) -> list[Any]:
    """Return pieces as plain data: a bare text is one of the reply's text."""
    return [
        piece.text if piece.kind == "text" else [piece.kind, piece.text, piece.index, piece.id, piece.name]
        for piece in pieces
    ]


def unpacked(data: Sequence[Any]) -> list[Piece]:
    """Return the pieces that `packed` has packed."""
    return [Piece("text", each) if isinstance(each, str) else Piece(*each) for each in data]


def text_of(pieces: Iterable[Piece]) -> str:
    """Return what of the reply's text the pieces are."""
    return "".join(piece.text for piece in pieces if piece.kind == "text")
