"""Reads streams of OpenAI's chat completions, and of the servers that speak them."""

from __future__ import annotations

from typing import Any

import orjson

from dspex_actors.lm.content.pieces import Piece
from dspex_actors.lm.wire.base import entries, table, word
from dspex_actors.lm.wire.decoding import Decoder, Texts
from dspex_actors.lm.wire.sse import Event

#: Where servers put what the model thinks: DeepSeek and vLLM, OpenRouter.
_THOUGHTS = ("reasoning_content", "reasoning")
#: What of a chunk holds for the whole answer: the last that was told.
_ABOUT = ("id", "object", "created", "model", "service_tier", "system_fingerprint")


class OpenAIDecoder(Decoder):
    """Chunks with deltas, a chunk with the usage and no choice behind them if it was asked for, then `[DONE]`.

    Servers that speak like OpenAI leave out the one or the other: a `finish_reason` is an end, too. Of several choices
    only the first is read.
    """

    def __init__(self, *parts: Any) -> None:
        """Begin with nothing."""
        super().__init__(*parts)
        self._about: dict[str, Any] = {}
        self._usage: dict[str, Any] | None = None
        self._finish: str | None = None
        self._role = "assistant"
        self._texts = Texts()
        self._say = self._texts.grow("content")
        self._calls: dict[int, tuple[dict[str, Any], dict[str, Any], list[str]]] = {}
        #: Parts of a content that is no text, and details of a reasoning.
        self._parts: list[dict[str, Any]] = []
        self._details: list[Any] = []
        self._logprobs: dict[str, list[Any]] = {}

    def take(self, event: Event, pieces: list[Piece], now: float = 0.0) -> None:
        """Take in an event; one that brings a text and nothing else, as nearly all do, the short way."""
        try:
            data = orjson.loads(event.data)
            (choice,) = data["choices"]
            delta = choice["delta"]
            text = delta["content"]
        except (ValueError, LookupError, TypeError):
            super().take(event, pieces, now)
            return
        if (
            type(text) is str
            and text
            and len(delta) == 1
            and not choice.get("finish_reason")
            and not choice.get("index")
            and not choice.get("logprobs")
            and not data.get("usage")
            and self._about
            and "error" not in choice
            and "error" not in data
        ):
            self._say(text)
            pieces.append(Piece("text", text))
        else:
            super().take(event, pieces, now)

    def _event(self, data: dict[str, Any], pieces: list[Piece]) -> None:
        if not self._about.get("model"):
            self._about.update({name: data[name] for name in _ABOUT if data.get(name)})
        elif data.get("service_tier"):
            self._about["service_tier"] = data["service_tier"]
        told = data.get("usage")
        if told:
            self._usage = told
        for choice in data.get("choices") or ():
            if choice.get("index"):
                continue
            # Before the delta: one that cannot be read does not hide that the reply ends.
            if reason := word(choice.get("finish_reason")):
                self._finish = reason
                self.is_whole = True
            delta = choice.get("delta")
            if delta is None:
                delta = choice.get("message")  # a server that streams its whole answer as one chunk
            if delta:
                self._delta(delta, pieces)
            if logprobs := choice.get("logprobs"):
                for name, rows in logprobs.items():
                    if rows:
                        self._logprobs.setdefault(name, []).extend(rows)

    def _delta(self, delta: dict[str, Any], pieces: list[Piece]) -> None:
        content = delta.get("content")
        if content:
            if type(content) is str:
                self._texts.add("content", content)
                pieces.append(Piece("text", content))
            else:
                self._content_parts(entries(content), pieces)
            if len(delta) == 1:
                return
        for name in _THOUGHTS:
            thought = delta.get(name)
            if thought and type(thought) is str:
                self._texts.add(name, thought)
                if name == _THOUGHTS[0] or not delta.get(_THOUGHTS[0]):
                    pieces.append(Piece("thinking", thought))
        if details := delta.get("reasoning_details"):
            self._details.extend(details)
        if refusal := delta.get("refusal"):
            self._texts.add("refusal", refusal)
        for place, call in enumerate(entries(delta.get("tool_calls"))):
            self._call(call, place, pieces)

    def _call(self, call: dict[str, Any], place: int, pieces: list[Piece]) -> None:
        index = call.get("index")
        if type(index) is not int:
            # Gemini's and others' OpenAI faces leave it out: a call with an id is another call.
            index = len(self._calls) if call.get("id") else max(len(self._calls) - 1, place)
        told = table(call.get("function"))
        name, arguments = word(told.get("name")), told.get("arguments")
        if arguments is not None and type(arguments) is not str:
            arguments = ""
        known = self._calls.get(index)
        identity = None
        if known is None:
            identity = word(call.get("id"))
            beside = {key: value for key, value in call.items() if key not in ("index", "function")}
            function = {key: value for key, value in told.items() if key != "arguments"}
            known = self._calls[index] = ({"type": "function", **beside}, function, [])
        else:
            if not known[0].get("id") and (identity := word(call.get("id"))):
                known[0]["id"] = identity
            if name and not known[1].get("name"):
                known[1]["name"] = name
            else:
                name = None
        if arguments:
            known[2].append(arguments)
        if arguments or identity or name:
            pieces.append(Piece("tool_call", arguments or "", index, identity, name))

    def _content_parts(self, parts: list[dict[str, Any]], pieces: list[Piece]) -> None:
        """Take in content in parts, as Mistral's reasoning models send it."""
        for part in parts:
            text = part.get("text")
            if part.get("type") == "text" and type(text) is str:
                self._texts.add("content", text)
                pieces.append(Piece("text", text))
                continue
            self._parts.append(part)
            thoughts = [thought.get("text") for thought in entries(part.get("thinking"))]
            pieces.extend(Piece("thinking", thought) for thought in thoughts if type(thought) is str)

    def _body(self) -> dict[str, Any]:
        texts = self._texts.joined()
        message: dict[str, Any] = {"role": self._role, "content": None, "refusal": None, **texts}
        if self._parts:
            text = texts.get("content")
            message["content"] = [*self._parts, *([{"type": "text", "text": text}] if text else [])]
        if self._details:
            message["reasoning_details"] = self._details
        if self._calls:
            message["tool_calls"] = [
                {**call, "function": {**function, "arguments": "".join(arguments)}}
                for _, (call, function, arguments) in sorted(self._calls.items())
            ]
        choice = {
            "index": 0,
            "message": message,
            "logprobs": self._logprobs or None,
            "finish_reason": self._finish,
        }
        return {**self._about, "object": "chat.completion", "choices": [choice], "usage": self._usage}
