"""Reads streams of Anthropic's messages."""

from __future__ import annotations

from typing import Any

from dspex_actors.lm.content.pieces import Piece
from dspex_actors.lm.rules.translations import REPLY
from dspex_actors.lm.wire import bodies
from dspex_actors.lm.wire.base import table, word
from dspex_actors.lm.wire.decoding import Decoder


class AnthropicDecoder(Decoder):
    """A message without content, its blocks with their deltas, the message's end; pings anywhere."""

    def __init__(self, *parts: Any) -> None:
        """Begin with nothing."""
        super().__init__(*parts)
        self._message: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._blocks: dict[int, dict[str, Any]] = {}
        #: What grows of a block, by its place and the name of its field.
        self._growing: dict[tuple[int, str], list[str]] = {}
        #: Places of blocks that are tool calls, in order.
        self._calls: list[int] = []
        #: Places of blocks that look like tool calls and are the reply, as JSON.
        self._replies: set[int] = set()

    def _event(self, data: dict[str, Any], pieces: list[Piece]) -> None:
        kind = data.get("type")
        if kind == "content_block_delta":
            self._delta(data["index"], data["delta"], pieces)
        elif kind == "content_block_start":
            self._start(data["index"], dict(data["content_block"]), pieces)
        elif kind == "message_delta":
            self._usage.update(table(data.get("usage")))
            delta = {name: value for name, value in table(data.get("delta")).items() if value is not None}
            self._message.update(delta)
            if word(delta.get("stop_reason")):
                self.is_whole = True
        elif kind == "message_start":
            self._message = dict(table(data.get("message")))
            self._usage.update(table(self._message.get("usage")))
        elif kind == "message_stop":
            self.has_ended = self.is_whole = True

    def _start(self, index: int, block: dict[str, Any], pieces: list[Piece]) -> None:
        self._blocks[index] = block
        kind = block.get("type")
        if kind == "tool_use" and block.get("name") == REPLY:
            self._replies.add(index)
        elif kind == "tool_use":
            self._calls.append(index)
            place = len(self._calls) - 1
            pieces.append(Piece("tool_call", "", place, word(block.get("id")), word(block.get("name"))))
        for name, of in (("text", "text"), ("thinking", "thinking")):
            text = block.get(name)
            if kind == of and type(text) is str:
                self._growing[index, name] = [text]
                if text:
                    pieces.append(Piece("text" if of == "text" else "thinking", text))

    def _delta(self, index: int, delta: dict[str, Any], pieces: list[Piece]) -> None:
        kind = delta["type"]
        if kind == "text_delta":
            text = delta["text"]
            self._grow(index, "text", text)
            if text:
                pieces.append(Piece("text", text))
        elif kind == "input_json_delta":
            text = delta["partial_json"]
            self._grow(index, "input", text)
            if text and index in self._replies:
                pieces.append(Piece("text", text))
            elif text and index in self._calls:
                pieces.append(Piece("tool_call", text, self._calls.index(index)))
        elif kind == "thinking_delta":
            text = delta["thinking"]
            self._grow(index, "thinking", text)
            if text:
                pieces.append(Piece("thinking", text))
        elif kind == "signature_delta":
            self._grow(index, "signature", delta["signature"])
        elif kind == "citations_delta":
            block = self._blocks[index]
            block["citations"] = [*(block.get("citations") or ()), delta["citation"]]

    def _grow(self, index: int, name: str, text: str) -> None:
        if type(text) is not str or index not in self._blocks:
            raise TypeError(name)
        self._growing.setdefault((index, name), []).append(text)

    def _body(self) -> dict[str, Any]:
        blocks = {index: dict(block) for index, block in sorted(self._blocks.items())}
        for (index, name), parts in self._growing.items():
            grown = "".join(parts)
            is_json = name == "input" and index not in self._replies
            blocks[index][name] = _json(grown) if is_json else grown
        return {**self._message, "content": list(blocks.values()), "usage": self._usage or None}


def _json(text: str) -> Any:
    """Return a tool's input; what was cut in the middle stays a text."""
    try:
        return bodies.load(text.encode()) if text.strip() else {}
    except ValueError:
        return text
