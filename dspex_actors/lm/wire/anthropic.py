"""Anthropic's messages."""

from __future__ import annotations

from typing import Any

from dspex_actors.errors import ContentBlocked, InvalidRequest, LMError, QuotaExhausted
from dspex_actors.lm.usage import Usage
from dspex_actors.lm.wire.base import Provider, count, entries, table, word
from dspex_actors.lm.wire.content import data_url, image_url, parts_of, refuse, split_system
from dspex_actors.lm.wire.exchange import WireReply
from dspex_actors.lm.wire.failures import ErrorBody

#: `max_tokens` is required; this is sent when the user sets none.
DEFAULT_MAX_TOKENS = 4096

_FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
}


class Anthropic(Provider):
    """`POST {base}/v1/messages`; base_url has no path."""

    name = "anthropic"
    default_base_url = "https://api.anthropic.com"
    default_key = "env:ANTHROPIC_API_KEY"
    key_header = "x-api-key"
    key_prefix = ""
    # The later version refuses temperature, top_p and top_k.
    extra_headers = {"anthropic-version": "2023-06-01"}  # noqa: RUF012 - read-only by its declaration
    request_id_header = "request-id"

    def path(self, model: str) -> str:
        """Return the messages' path."""
        return "/v1/messages"

    def payload(self, model: str, messages: list[dict[str, Any]], params: dict[str, Any]) -> dict[str, Any]:
        """Move system messages to the top, translate parts, rename `stop`, fill in `max_tokens`."""
        system, rest = split_system(messages)
        payload: dict[str, Any] = {
            "model": model,
            "max_tokens": DEFAULT_MAX_TOKENS,
            "messages": [{"role": _role(m["role"]), "content": self._content(m.get("content"))} for m in rest],
            **params,
        }
        if system:
            payload["system"] = system
        if (stop := payload.pop("stop", None)) is not None:
            payload["stop_sequences"] = [stop] if isinstance(stop, str) else stop
        return payload

    def _content(self, content: object) -> object:
        if isinstance(content, str):
            return content
        return [self._part(part) for part in parts_of(content)]

    def _part(self, part: dict[str, Any]) -> dict[str, Any]:
        kind = part.get("type")
        if kind == "image_url":
            url = image_url(part)
            if inline := data_url(url):
                return {
                    "type": "image",
                    "source": {"type": "base64", "media_type": inline[0], "data": inline[1]},
                }
            return {"type": "image", "source": {"type": "url", "url": url}}
        if kind == "file" and isinstance(part.get("file"), dict):
            inline = data_url(str(part["file"].get("file_data", "")))
            if inline is None:
                raise refuse(self.name, "a file part needs file_data as a base64 data: URL")
            return {
                "type": "document",
                "source": {"type": "base64", "media_type": inline[0], "data": inline[1]},
            }
        if kind == "input_audio":
            raise refuse(self.name, "it takes no audio; use an openai or gemini model for this prompt")
        return part  # text, and Anthropic's own parts as they are

    def parse(self, data: dict[str, Any]) -> WireReply:
        """Read a message."""
        blocks = data["content"]
        if not isinstance(blocks, list):
            raise TypeError("content")
        reason = word(data.get("stop_reason"))
        if reason == "refusal":
            raise ContentBlocked(f"{self.name} refused to reply", code=reason, retryable=False)
        return WireReply(
            text="".join(str(block["text"]) for block in entries(blocks) if block.get("type") == "text"),
            usage=_usage(data.get("usage")),
            finish_reason=_FINISH.get(reason, reason) if reason else None,
            model=word(data.get("model")),
            request_id=word(data.get("id")),
        )

    def classify(self, status: int, error: ErrorBody) -> tuple[type[LMError], bool, float | None]:
        """An empty account is a 400 here, told only by its words."""
        cls, retryable, wait = super().classify(status, error)
        words = error.message.lower()
        if cls is InvalidRequest and ("credit balance" in words or "usage limits" in words):
            return QuotaExhausted, False, None
        return cls, retryable, wait


def _role(role: str) -> str:
    if role not in ("user", "assistant"):
        raise refuse("anthropic", f"no message of role '{role}' can be sent; use system, user or assistant")
    return role


def _usage(data: object) -> Usage | None:
    if not isinstance(data, dict):
        return None
    read = count(data.get("cache_read_input_tokens"))
    written = count(data.get("cache_creation_input_tokens")) or sum(
        count(value) for value in table(data.get("cache_creation")).values()
    )
    return Usage(
        # input_tokens is only what comes after the last cache mark.
        input_total=count(data.get("input_tokens")) + read + written,
        cache_read=read,
        cache_write=written,
        output_total=count(data.get("output_tokens")),
    )
