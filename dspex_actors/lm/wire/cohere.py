"""Cohere's chat, version 2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspex_actors.errors import ContentBlocked, LMError, Overloaded, QuotaExhausted, RateLimited, Timeout
from dspex_actors.lm.content.logprobs import Logprob
from dspex_actors.lm.content.messages import AT
from dspex_actors.lm.content.parts import EXTRA, Part, Text
from dspex_actors.lm.usage import Usage
from dspex_actors.lm.wire.base import Provider, count, entries, table, word
from dspex_actors.lm.wire.cohere_stream import CohereDecoder
from dspex_actors.lm.wire.content import SYSTEM_ROLES, image_url, parts_of, refuse, thinking, without_document
from dspex_actors.lm.wire.decoding import Decoder
from dspex_actors.lm.wire.exchange import WireReply
from dspex_actors.lm.wire.failures import ErrorBody
from dspex_actors.lm.wire.finish import finish
from dspex_actors.lm.wire.said import calls_in, other, said, thoughts

_NAMES = {"top_p": "p", "top_k": "k", "stop": "stop_sequences"}


class Cohere(Provider):
    """`POST {base}/v2/chat`; base_url has no path."""

    name = "cohere"
    default_base_url = "https://api.cohere.com"
    default_key = "env:CO_API_KEY"
    request_id_header = "x-debug-trace-id"

    def path(self, model: str) -> str:
        """Return the chat's path."""
        return "/v2/chat"

    def payload(self, model: str, messages: list[dict[str, Any]], params: dict[str, Any]) -> dict[str, Any]:
        """Rename parameters; messages are nearly OpenAI's."""
        payload: dict[str, Any] = {
            "model": model,
            "messages": [self._message(message) for message in messages],
        }
        for name, value in params.items():
            payload[_NAMES.get(name, name)] = [value] if name == "stop" and isinstance(value, str) else value
        return payload

    def _message(self, message: dict[str, Any]) -> dict[str, Any]:
        role, content = message["role"], message.get("content")
        told = {name: value for name, value in message.items() if name not in ("name", "is_error")}
        if isinstance(content, list):
            told["content"] = []
            for part in parts_of(content):
                self._part(part, told)
        if message.get("tool_calls"):
            told["tool_calls"] = [
                {name: value for name, value in each.items() if name not in (AT, EXTRA)}
                for each in message["tool_calls"]
            ]
        return {**told, "role": "system"} if role in SYSTEM_ROLES else told

    def _part(self, part: dict[str, Any], told: dict[str, Any]) -> None:
        """Add a part to the message that is told."""
        part = without_document(part)
        kind = part.get("type")
        if kind in ("input_audio", "file"):
            raise refuse(self.name, f"it takes no {kind} part; only text and image_url")
        if kind == "image_url":
            image_url(self.name, part)
        if kind == "thinking" and "provider" in part:
            block = thinking(part, self.name) or {}
            if "tool_plan" in block:
                told["tool_plan"] = block["tool_plan"]
            elif block:
                told["content"].append(block)
            return
        # A hint for Anthropic's cache, and Gemini's signature, which nobody else knows.
        told["content"].append({name: value for name, value in part.items() if name not in ("cache_control", EXTRA)})

    def decoder(self, status: int, headers: Mapping[str, str]) -> Decoder:
        """Return the reader of a stream."""
        return CohereDecoder(self, status, headers)

    def parse(self, data: dict[str, Any]) -> WireReply:
        """Read a chat reply; some failures come as its finish_reason."""
        message = data["message"]
        reason = word(data.get("finish_reason")) or ""
        if reason == "TIMEOUT":
            raise Timeout(f"{self.name} did not finish the reply in time", code=reason, retryable=True)
        if reason == "ERROR_TOXIC":
            raise ContentBlocked(f"{self.name} blocked the reply", code=reason, retryable=False)
        if reason.startswith("ERROR"):
            raise Overloaded(f"{self.name} failed in the middle of the reply", code=reason[:80], retryable=True)
        # A reply that only calls tools, or was cut while thinking, has no content.
        content = message.get("content") if reason else message["content"]
        parts: list[Part] = []
        if plan := word(message.get("tool_plan")):
            parts.append(thoughts(plan, self.name, {"tool_plan": plan}))
        if isinstance(content, str):
            parts.append(Text(content))
        for part in entries(content):
            if part.get("type") == "text":
                parts.append(Text(str(part["text"])))
            elif part.get("type") == "thinking":
                parts.append(thoughts(part.get("thinking"), self.name, part))
            else:
                parts.append(other(part))
        parts += calls_in(message.get("tool_calls"))
        return WireReply(
            **said(parts),
            logprobs=_logprobs(data.get("logprobs")),
            usage=self.usage(data),
            finish_reason=finish(reason),
            model=word(data.get("model")),
            request_id=word(data.get("id")),
        )

    def usage(self, data: dict[str, Any]) -> Usage | None:
        """Read `usage`: the bill is on billed_units; `tokens` counts the prompt template too."""
        told = data.get("usage")
        if not isinstance(told, dict):
            return None
        units = table(told.get("billed_units")) or table(told.get("tokens"))
        return Usage(
            input_total=count(units.get("input_tokens")),
            cache_read=count(told.get("cached_tokens")),
            output_total=count(units.get("output_tokens")),
        )

    def classify(self, status: int, error: ErrorBody) -> tuple[type[LMError], bool, float | None]:
        """A trial key's monthly limit is a 429 too, told only by its words."""
        cls, retryable, wait = super().classify(status, error)
        if cls is RateLimited and "/ month" in error.message:
            return QuotaExhausted, False, None
        return cls, retryable, wait


def _logprobs(told: object) -> tuple[Logprob, ...] | None:
    """Return the log probabilities of chunks of text, each of one token or more."""
    rows = []
    for each in entries(told):
        values, text = each.get("logprobs"), each.get("text")
        if isinstance(text, str) and isinstance(values, list) and all(type(value) is float for value in values):
            rows.append(Logprob(text, sum(values)))
    return tuple(rows) or None
