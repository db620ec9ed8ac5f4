"""Cohere's chat, version 2."""

from __future__ import annotations

from typing import Any

from dspex_actors.errors import ContentBlocked, LMError, Overloaded, QuotaExhausted, RateLimited, Timeout
from dspex_actors.lm.usage import Usage
from dspex_actors.lm.wire.base import Provider, count, entries, table, word
from dspex_actors.lm.wire.content import SYSTEM_ROLES, refuse
from dspex_actors.lm.wire.exchange import WireReply
from dspex_actors.lm.wire.failures import ErrorBody

_NAMES = {"top_p": "p", "top_k": "k", "stop": "stop_sequences"}
_FINISH = {"COMPLETE": "stop", "STOP_SEQUENCE": "stop", "MAX_TOKENS": "length", "TOOL_CALL": "tool_calls"}


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
        return {**message, "role": "system"} if message["role"] in SYSTEM_ROLES else message

    def parse(self, data: dict[str, Any]) -> WireReply:
        """Read a chat reply; some failures come as its finish_reason."""
        message = data["message"]
        reason = str(data.get("finish_reason") or "")
        if reason == "TIMEOUT":
            raise Timeout(f"{self.name} did not finish the reply in time", code=reason, retryable=True)
        if reason == "ERROR_TOXIC":
            raise ContentBlocked(f"{self.name} blocked the reply", code=reason, retryable=False)
        if reason.startswith("ERROR"):
            raise Overloaded(f"{self.name} failed in the middle of the reply", code=reason[:80], retryable=True)
        return WireReply(
            text="".join(str(part["text"]) for part in entries(message["content"]) if part.get("type") == "text"),
            usage=_usage(data.get("usage")),
            finish_reason=_FINISH.get(reason, reason.lower()) or None,
            model=word(data.get("model")),
            request_id=word(data.get("id")),
        )

    def classify(self, status: int, error: ErrorBody) -> tuple[type[LMError], bool, float | None]:
        """A trial key's monthly limit is a 429 too, told only by its words."""
        cls, retryable, wait = super().classify(status, error)
        if cls is RateLimited and "/ month" in error.message:
            return QuotaExhausted, False, None
        return cls, retryable, wait


def _usage(data: object) -> Usage | None:
    if not isinstance(data, dict):
        return None
    # The bill is on billed_units; `tokens` counts the prompt template too.
    units = table(data.get("billed_units")) or table(data.get("tokens"))
    return Usage(
        input_total=count(units.get("input_tokens")),
        cache_read=count(data.get("cached_tokens")),
        output_total=count(units.get("output_tokens")),
    )
