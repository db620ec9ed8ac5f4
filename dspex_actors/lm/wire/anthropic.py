"""Anthropic's messages."""

from __future__ import annotations

from typing import Any

from dspex_actors.errors import ContentBlocked, InvalidRequest, LMError, QuotaExhausted
from dspex_actors.lm.usage import Usage
from dspex_actors.lm.wire.base import Provider, count, entries, standard, table, word
from dspex_actors.lm.wire.content import data_url, image_url, parts_of, refuse, split_system
from dspex_actors.lm.wire.exchange import WireReply
from dspex_actors.lm.wire.failures import ErrorBody
from dspex_actors.lm.wire.finish import finish
from dspex_actors.lm.wire.tools import anthropic_choice, anthropic_result, anthropic_tools, calls_of

#: `max_tokens` is required; this is sent when the user sets none.
DEFAULT_MAX_TOKENS = 4096


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
        """Move system messages to the top, translate parts and tool calls, fill in `max_tokens`."""
        system, rest = split_system(self.name, messages)
        payload: dict[str, Any] = {
            "model": model,
            "max_tokens": DEFAULT_MAX_TOKENS,
            "messages": self._messages(rest),
            **params,
        }
        if system:
            payload["system"] = system
        if (stop := payload.pop("stop", None)) is not None:
            payload["stop_sequences"] = [stop] if isinstance(stop, str) else stop
        if "tools" in payload:
            payload["tools"] = anthropic_tools(payload["tools"])
        if "tool_choice" in payload:
            payload["tool_choice"] = anthropic_choice(payload["tool_choice"])
        return payload

    def _messages(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        written: list[dict[str, Any]] = []
        results: list[dict[str, Any]] | None = None  # of the tool messages before; all belong into one message
        for message in messages:
            role = message["role"]
            if role == "tool":
                if results is None:
                    results = []
                    written.append({"role": "user", "content": results})
                results.append(anthropic_result(message, self._content(message.get("content"))))
                continue
            results = None
            if role not in ("user", "assistant"):
                raise refuse(self.name, f"no message of role '{role}' can be sent; use system, user, assistant or tool")
            content = self._content(message.get("content"))
            if message.get("tool_calls"):
                said = [{"type": "text", "text": content}] if isinstance(content, str) and content else content or []
                calls = [
                    {"type": "tool_use", "id": call, "name": name, "input": arguments}
                    for call, name, arguments in calls_of(self.name, message)
                ]
                content = [*said, *calls]
            written.append({"role": role, "content": content})
        return written

    def _content(self, content: object) -> str | list[dict[str, Any]]:
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
        usage = table(data.get("usage"))
        return WireReply(
            text="".join(str(block["text"]) for block in entries(blocks) if block.get("type") == "text"),
            usage=self.usage(data),
            finish_reason=finish(reason),
            model=word(data.get("model")),
            request_id=word(data.get("id")),
            tier=standard(usage.get("speed"), "standard")
            or standard(usage.get("service_tier"), "standard")
            or standard(usage.get("inference_geo"), "global", "not_available"),
        )

    def usage(self, data: dict[str, Any]) -> Usage | None:
        """Read `usage`; its input_tokens are only what comes after the last cache mark."""
        told = data.get("usage")
        if not isinstance(told, dict):
            return None
        read = count(told.get("cache_read_input_tokens"))
        kept = table(told.get("cache_creation"))
        hour = count(kept.get("ephemeral_1h_input_tokens"))
        written = count(told.get("cache_creation_input_tokens")) or sum(count(value) for value in kept.values())
        return Usage(
            input_total=count(told.get("input_tokens")) + read + written,
            cache_read=read,
            cache_write=written,
            cache_write_1h=hour,
            output_total=count(told.get("output_tokens")),
        )

    def classify(self, status: int, error: ErrorBody) -> tuple[type[LMError], bool, float | None]:
        """An empty account is a 400 here, told only by its words."""
        cls, retryable, wait = super().classify(status, error)
        words = error.message.lower()
        if cls is InvalidRequest and ("credit balance" in words or "usage limits" in words):
            return QuotaExhausted, False, None
        return cls, retryable, wait
