"""Reads streams of Cohere's chat, version 2."""

from __future__ import annotations

from typing import Any

from dspex_actors.lm.content.pieces import Piece
from dspex_actors.lm.wire.base import table, word
from dspex_actors.lm.wire.decoding import Decoder


class CohereDecoder(Decoder):
    """A message's start, its contents and tool calls with their deltas, its end with reason and usage."""

    def __init__(self, *parts: Any) -> None:
        """Begin with nothing."""
        super().__init__(*parts)
        self._response: dict[str, Any] = {}
        self._message: dict[str, Any] = {}
        #: Contents and tool calls by their place, and what grows of them.
        self._contents: dict[int, dict[str, Any]] = {}
        self._calls: dict[int, dict[str, Any]] = {}
        self._growing: dict[tuple[int, str], list[str]] = {}
        self._plan: list[str] = []
        self._citations: list[Any] = []

    def _event(self, data: dict[str, Any], pieces: list[Piece]) -> None:
        kind = data.get("type")
        delta = table(data.get("delta"))
        message = table(delta.get("message"))
        if kind == "content-delta":
            self._content(data["index"], message["content"], pieces)
        elif kind == "content-start":
            started = table(message.get("content"))
            self._contents[data["index"]] = dict(started)
            self._content(data["index"], started, pieces)
        elif kind == "message-start":
            self._response["id"] = data.get("id")
            self._message["role"] = message.get("role") or "assistant"
        elif kind == "tool-plan-delta":
            if plan := word(message.get("tool_plan")):
                self._plan.append(plan)
                pieces.append(Piece("thinking", plan))
        elif kind == "tool-call-start":
            self._call(data["index"], table(message.get("tool_calls")), pieces)
        elif kind == "tool-call-delta":
            self._arguments(data["index"], message["tool_calls"]["function"]["arguments"], pieces)
        elif kind == "citation-start":
            self._citations.append(message.get("citations"))
        elif kind == "message-end":
            self.has_ended = self.is_whole = True
            self._response.update(delta)

    def _content(self, index: int, content: dict[str, Any], pieces: list[Piece]) -> None:
        block = self._contents.setdefault(index, {})
        for name in ("text", "thinking"):
            text = content.get(name)
            if type(text) is str:
                block.setdefault("type", name)
                self._growing.setdefault((index, name), []).append(text)
                if text:
                    pieces.append(Piece("text" if name == "text" else "thinking", text))

    def _call(self, index: int, call: dict[str, Any], pieces: list[Piece]) -> None:
        function = dict(table(call.get("function")))
        self._calls[index] = {**call, "function": function}
        place = list(self._calls).index(index)
        arguments = function.get("arguments") or ""
        self._growing[index, "arguments"] = [arguments]
        pieces.append(Piece("tool_call", arguments, place, word(call.get("id")), word(function.get("name"))))

    def _arguments(self, index: int, text: str, pieces: list[Piece]) -> None:
        if type(text) is not str or index not in self._calls:
            raise TypeError("arguments")
        self._growing[index, "arguments"].append(text)
        if text:
            pieces.append(Piece("tool_call", text, list(self._calls).index(index)))

    def _body(self) -> dict[str, Any]:
        contents = {index: dict(block) for index, block in sorted(self._contents.items())}
        calls = {index: {**call, "function": dict(call["function"])} for index, call in sorted(self._calls.items())}
        for (index, name), parts in self._growing.items():
            grown = "".join(parts)
            if name == "arguments":
                calls[index]["function"]["arguments"] = grown
            else:
                contents[index][name] = grown
        message = {**self._message, "content": list(contents.values())}
        if calls:
            message["tool_calls"] = list(calls.values())
        if self._plan:
            message["tool_plan"] = "".join(self._plan)
        if self._citations:
            message["citations"] = self._citations
        return {**self._response, "message": message}
