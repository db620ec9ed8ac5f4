"""Anthropic's messages."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from dspex_actors.errors import ContentBlocked, InvalidRequest, LMError, QuotaExhausted
from dspex_actors.lm.content.messages import in_order
from dspex_actors.lm.content.parts import EXTRA, Part, Text
from dspex_actors.lm.rules.translations import REPLY
from dspex_actors.lm.usage import Usage
from dspex_actors.lm.wire import bodies
from dspex_actors.lm.wire.anthropic_stream import AnthropicDecoder
from dspex_actors.lm.wire.base import Provider, count, entries, standard, table, word
from dspex_actors.lm.wire.content import data_url, image_url, parts_of, refuse, split_system, thinking
from dspex_actors.lm.wire.decoding import Decoder
from dspex_actors.lm.wire.exchange import WireReply
from dspex_actors.lm.wire.failures import ErrorBody, excerpt
from dspex_actors.lm.wire.finish import finish
from dspex_actors.lm.wire.prompt_cache import mark_beginning, mark_messages
from dspex_actors.lm.wire.said import call, other, said, thoughts
from dspex_actors.lm.wire.tools import anthropic_choice, anthropic_result, anthropic_tools, call_of, is_call

#: `max_tokens` is required; this is sent when the user sets none.
DEFAULT_MAX_TOKENS = 4096
_PICTURES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})


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
        wanted = params.get("prompt_cache")
        if wanted is not None:
            rest = mark_messages(rest, wanted)
            params = {name: value for name, value in params.items() if name != "prompt_cache"}
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
        if (schema := payload.pop(REPLY, None)) is not None:
            tool = {"name": REPLY, "description": "Reply with this.", "input_schema": {"type": "object", **schema}}
            payload.update(tools=[tool], tool_choice={"type": "tool", "name": REPLY})
        if "tools" in payload:
            payload["tools"] = anthropic_tools(payload["tools"])
        if "tool_choice" in payload:
            payload["tool_choice"] = anthropic_choice(payload["tool_choice"])
        is_parallel = payload.pop("parallel_tool_calls", None)
        if is_parallel is False and payload.get("tools"):
            choice = payload.get("tool_choice") or {"type": "auto"}
            if choice.get("type") != "none":
                payload["tool_choice"] = {**choice, "disable_parallel_tool_use": True}
        if wanted is not None:
            mark_beginning(payload, wanted)
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
            content = message.get("content")
            if not isinstance(content, str) or message.get("tool_calls"):
                parts = in_order(message)
                content = [block for part in parts if (block := self._part(part)) is not None]
                if parts and not content:
                    continue  # another provider's thoughts, and nothing else
            written.append({"role": role, "content": content})
        return written

    def _content(self, content: object) -> str | list[dict[str, Any]]:
        if isinstance(content, str):
            return content
        return [block for part in parts_of(content) if (block := self._part(part)) is not None]

    def _part(self, part: dict[str, Any]) -> dict[str, Any] | None:
        kind = part.get("type")
        mark = {"cache_control": part["cache_control"]} if part.get("cache_control") else {}
        if is_call(part):
            number, name, arguments = call_of(self.name, part)
            return {"type": "tool_use", "id": number, "name": name, "input": arguments, **mark}
        if kind == "image_url":
            url = image_url(self.name, part)
            if inline := data_url(url):
                return self._picture(*inline) | mark
            return {"type": "image", "source": {"type": "url", "url": url}, **mark}
        if kind == "file" and isinstance(part.get("file"), dict):
            return self._file(part["file"]) | mark
        if kind == "input_audio":
            raise refuse(self.name, "it takes no audio; use an openai or gemini model for this prompt")
        if kind == "thinking" and "provider" in part:
            return thinking(part, self.name)
        if EXTRA in part:
            return {name: value for name, value in part.items() if name != EXTRA}
        return part  # text, and Anthropic's own parts as they are

    def _picture(self, media: str, data: str) -> dict[str, Any]:
        if media not in _PICTURES:
            raise refuse(self.name, f"it takes no pictures of type {excerpt(media, 40)}; use png, jpeg, gif or webp")
        return {"type": "image", "source": {"type": "base64", "media_type": media, "data": data}}

    def _file(self, file: dict[str, Any]) -> dict[str, Any]:
        title = {"title": file["filename"]} if file.get("filename") else {}
        if file.get("file_id"):
            return {"type": "document", "source": {"type": "file", "file_id": file["file_id"]}, **title}
        inline = data_url(str(file.get("file_data", "")))
        if inline is None:
            raise refuse(self.name, "a file part needs file_data as a base64 data: URL, or a file_id")
        media, data = inline
        if media in _PICTURES:
            return self._picture(media, data)
        if media.startswith("text/"):
            text = base64.b64decode(data).decode("utf-8", "replace")
            return {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": text}, **title}
        if media != "application/pdf":
            raise refuse(self.name, f"it takes no files of type {excerpt(media, 40)}; use a PDF or a text")
        return {"type": "document", "source": {"type": "base64", "media_type": media, "data": data}, **title}

    def decoder(self, status: int, headers: Mapping[str, str]) -> Decoder:
        """Return the reader of a stream."""
        return AnthropicDecoder(self, status, headers)

    def parse(self, data: dict[str, Any]) -> WireReply:
        """Read a message."""
        blocks = data["content"]
        if not isinstance(blocks, list):
            raise TypeError("content")
        reason = word(data.get("stop_reason"))
        if reason == "refusal":
            raise ContentBlocked(f"{self.name} refused to reply", code=reason, retryable=False)
        usage = table(data.get("usage"))
        if reason == "tool_use" and any(block.get("name") == REPLY for block in entries(blocks)):
            reason = "end_turn"
        return WireReply(
            **said(part for block in entries(blocks) if (part := self._said(block)) is not None),
            usage=self.usage(data),
            finish_reason=finish(reason),
            model=word(data.get("model")),
            request_id=word(data.get("id")),
            tier=standard(usage.get("speed"), "standard")
            or standard(usage.get("service_tier"), "standard")
            or standard(usage.get("inference_geo"), "global", "not_available"),
        )

    def _said(self, block: dict[str, Any]) -> Part | None:
        kind = block.get("type")
        if kind == "text":
            return Text(str(block["text"]))
        if kind == "tool_use" and block.get("name") == REPLY:
            told = block.get("input")
            return Text(told if isinstance(told, str) else bodies.dump(told).decode())
        if kind == "tool_use":
            return call(block.get("name"), block.get("input"), block.get("id"))
        if kind in ("thinking", "redacted_thinking"):
            return thoughts(block.get("thinking"), self.name, block)
        return other(block)

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
