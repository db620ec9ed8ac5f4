"""Reads streams of Gemini's generateContent."""

from __future__ import annotations

from typing import Any

from dspex_actors.lm.content.pieces import Piece
from dspex_actors.lm.wire import bodies
from dspex_actors.lm.wire.base import entries, table, word
from dspex_actors.lm.wire.decoding import Decoder

#: Keys of a part that is a text, or a thought, and nothing else: such parts in a row are one.
_PIECEMEAL = frozenset({"content", "logprobsResult"})
_PLAIN = frozenset({"text", "thought"})


class GeminiDecoder(Decoder):
    """Each event is a whole response with the next parts; the end is a `finishReason`, and no event says so.

    Usage is cumulative: the last that was told holds. Of several candidates only the first is read.
    """

    def __init__(self, *parts: Any) -> None:
        """Begin with nothing."""
        super().__init__(*parts)
        self._response: dict[str, Any] = {}
        self._candidate: dict[str, Any] | None = None
        self._parts: list[dict[str, Any]] = []
        #: The texts of the last part, while it grows.
        self._growing: list[str] | None = None
        self._calls = 0
        #: `logprobsResult` of all events together.
        self._likely: dict[str, list[Any]] = {}

    def _event(self, data: dict[str, Any], pieces: list[Piece]) -> None:
        for name, value in data.items():
            if name != "candidates" and value:
                self._response[name] = value
        if word(table(data.get("promptFeedback")).get("blockReason")):
            self.is_whole = True
        for candidate in entries(data.get("candidates")):
            if candidate.get("index"):
                continue
            if self._candidate is None:
                self._candidate = {}
            self._logprobs(table(candidate.get("logprobsResult")))
            about = {name: value for name, value in candidate.items() if name not in _PIECEMEAL and value}
            self._candidate.update(about)
            if word(candidate.get("finishReason")):
                self.is_whole = True
            for part in entries(table(candidate.get("content")).get("parts")):
                self._part(part, pieces)

    def _part(self, part: dict[str, Any], pieces: list[Piece]) -> None:
        text = part.get("text")
        if type(text) is str:
            if text:
                pieces.append(Piece("thinking" if part.get("thought") else "text", text))
            last = self._parts[-1] if self._parts else None
            is_plain = _PLAIN.issuperset(part)
            if (
                is_plain
                and last is not None
                and self._growing is not None
                and bool(last.get("thought")) == bool(part.get("thought"))
            ):
                self._growing.append(text)
                return
            self._settle()
            self._parts.append(dict(part))
            self._growing = [text] if is_plain else None
            return
        self._settle()
        self._growing = None
        self._parts.append(part)
        call = part.get("functionCall")
        if type(call) is dict:
            arguments = bodies.dump(call.get("args") or {}).decode()
            pieces.append(Piece("tool_call", arguments, self._calls, word(call.get("id")), word(call.get("name"))))
            self._calls += 1

    def _logprobs(self, result: dict[str, Any]) -> None:
        """Take in the probabilities of an event's tokens: each tells those of its own."""
        for name in ("chosenCandidates", "topCandidates"):
            if entries(result.get(name)):
                self._likely.setdefault(name, []).extend(result[name])

    def _settle(self) -> None:
        if self._growing is not None:
            self._parts[-1]["text"] = "".join(self._growing)

    def _body(self) -> dict[str, Any]:
        self._settle()
        body = dict(self._response)
        if self._candidate is not None:
            candidate = {**self._candidate, "content": {"role": "model", "parts": self._parts}}
            body["candidates"] = [{**candidate, "logprobsResult": self._likely} if self._likely else candidate]
        return body
