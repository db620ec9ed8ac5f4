"""Reads streams of OpenAI's Responses API."""

from __future__ import annotations

from typing import Any

from dspex_actors.lm.content.pieces import Piece
from dspex_actors.lm.wire.base import entries, table, word
from dspex_actors.lm.wire.decoding import Decoder

_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
_THOUGHTS = frozenset({"response.reasoning_summary_text.delta", "response.reasoning_text.delta"})


class ResponsesDecoder(Decoder):
    """A response without output, items and their deltas, and a last event with the whole response."""

    def __init__(self, *parts: Any) -> None:
        """Begin with nothing."""
        super().__init__(*parts)
        self._response: dict[str, Any] = {}
        #: Items that are whole, by their place: what there is of a stream that was cut.
        self._items: dict[int, dict[str, Any]] = {}
        #: Places of items that are tool calls, in order.
        self._calls: list[int] = []

    def _event(self, data: dict[str, Any], pieces: list[Piece]) -> None:
        kind = data.get("type")
        if kind == "response.output_text.delta":
            if text := word(data.get("delta")):
                pieces.append(Piece("text", text))
        elif kind in _THOUGHTS:
            if text := word(data.get("delta")):
                pieces.append(Piece("thinking", text))
        elif kind == "response.function_call_arguments.delta":
            if (text := word(data.get("delta"))) and data.get("output_index") in self._calls:
                pieces.append(Piece("tool_call", text, self._calls.index(data["output_index"])))
        elif kind == "response.output_item.added":
            item = table(data.get("item"))
            if item.get("type") == "function_call":
                self._calls.append(data["output_index"])
                place = len(self._calls) - 1
                pieces.append(Piece("tool_call", "", place, word(item.get("call_id")), word(item.get("name"))))
        elif kind == "response.output_item.done":
            self._items[data["output_index"]] = table(data.get("item"))
        elif kind in ("response.created", "response.in_progress") or kind in _ENDS:
            self._response = table(data.get("response"))
            self.has_ended = self.is_whole = kind in _ENDS

    def _body(self) -> dict[str, Any]:
        if entries(self._response.get("output")):
            return self._response
        return {**self._response, "output": [item for _, item in sorted(self._items.items())]}
