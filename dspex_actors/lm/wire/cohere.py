"""Cohere's chat, version 2."""

from __future__ import annotations

from typing import Any

from dspex_actors.errors import ContentBlocked, LMError, Overloaded, QuotaExhausted, RateLimited, Timeout
from dspex_actors.lm.usage import Usage
from dspex_actors.lm.wire.base import Provider, count, entries, table, word
from dspex_actors.lm.wire.content import SYSTEM_ROLES, refuse
from dspex_actors.lm.wire.exchange import WireReply
from dspex_actors.lm.wire.failures import ErrorBody
from dspex_actors.lm.wire.finish import finish

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
        content = message.get("content")
        if isinstance(content, list):
            for part in entries(content):
                if part.get("type") in ("input_audio", "file"):
                    raise refuse(self.name, f"it takes no {part['type']} part; only text and image_url")
            # A hint for Anthropic's cache, which nobody else knows.
            message = {
                **message,
                "content": [
                    {name: value for name, value in part.items() if name != "cache_control"}
                    if isinstance(part, dict)
                    else part
                    for part in content
                ],
            }
        return {**message, "role": "system"} if message["role"] in SYSTEM_ROLES else message

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
        return WireReply(
            text=content
            if isinstance(content, str)
            else "".join(str(part["text"]) for part in entries(content) if part.get("type") == "text"),
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
