"""OpenAI's chat completions, and every server that speaks them (vLLM, Ollama, llama.cpp, gateways)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import urlsplit

from dspex_actors.errors import ContentBlocked, LMError, Overloaded, RateLimited
from dspex_actors.lm import rules
from dspex_actors.lm.content.messages import AT, plain_content
from dspex_actors.lm.content.parts import EXTRA, Part, Text
from dspex_actors.lm.usage import Usage
from dspex_actors.lm.wire.base import Provider, count, entries, standard, table, word
from dspex_actors.lm.wire.content import (
    are_texts,
    image_url,
    parts_of,
    refuse,
    refuse_media,
    thinking,
    without_document,
)
from dspex_actors.lm.wire.decoding import Decoder
from dspex_actors.lm.wire.exchange import WireReply
from dspex_actors.lm.wire.failures import ErrorBody, excerpt
from dspex_actors.lm.wire.finish import finish
from dspex_actors.lm.wire.openai_stream import OpenAIDecoder
from dspex_actors.lm.wire.said import calls_in, logprobs_in, other, said, thoughts

#: Models behind an OpenAI face that know Gemini's signatures.
_GEMINI = re.compile("gemini", re.IGNORECASE)
#: Fields of a message that says more than its content.
_MORE = frozenset({"tool_calls", "reasoning_content", "reasoning", "reasoning_details", "function_call", "audio"})


class OpenAI(Provider):
    """`POST {base}/chat/completions`; base_url ends in /v1."""

    name = "openai"
    default_base_url: ClassVar[str | None] = "https://api.openai.com/v1"
    default_key: ClassVar[str | None] = "env:OPENAI_API_KEY"
    knows_media: ClassVar[bool] = True

    def key(self, base_url: str) -> tuple[str, str]:
        """Return the bearer's header; Azure takes a bearer for a user's token, and has a header of its own for keys."""
        is_azure = (urlsplit(base_url).hostname or "").endswith(".azure.com")
        return ("api-key", "") if is_azure else super().key(base_url)

    def path(self, model: str) -> str:
        """Return the chat completions' path."""
        return "/chat/completions"

    def streamed(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Ask for the usage, too; `stream_options={}` does not, for servers that do not know the field."""
        payload = {**payload, "stream": True}
        if payload.get("stream_options") == {}:
            del payload["stream_options"]
        else:
            payload["stream_options"] = {"include_usage": True, **table(payload.get("stream_options"))}
        return payload

    def payload(self, model: str, messages: list[dict[str, Any]], params: dict[str, Any]) -> dict[str, Any]:
        """Return the call: our normal form is OpenAI's."""
        if not are_texts(messages):
            refuse_media(self.name, model, messages)
            told = [self._message(message, model) if isinstance(message, dict) else message for message in messages]
            messages = [message for message in told if message is not None]
        return {"model": model, "messages": messages, **params}

    def _message(self, message: dict[str, Any], model: str) -> dict[str, Any] | None:
        """Leave out of a message what others have said in their own words; None: nothing is left of it."""
        is_own = rules.is_openai_own(model)
        told = {name: value for name, value in message.items() if name != "is_error"}
        content = message.get("content")
        thought = ""
        if isinstance(content, list):
            told["content"] = parts = []
            for part in parts_of(content):
                if part.get("type") != "thinking" or "provider" not in part:
                    parts.append(self._part(part, is_own, model))
                elif (block := thinking(part, self.name)) is None:
                    thought += part["thinking"] if part["provider"] == self.name and "block" not in part else ""
                elif "reasoning_details" in block:
                    told.update(block)
                elif block.get("type") == "thinking":
                    parts.append(block)
            told["content"] = plain_content(parts)
            if content and not parts:
                if not message.get("tool_calls"):
                    return None
                told["content"] = None
        if message.get("tool_calls"):
            told["tool_calls"] = [_cleaned(call, {AT}, model) for call in message["tool_calls"]]
            if thought and not is_own:
                told["reasoning_content"] = thought  # DeepSeek's and others' models want it back with their calls
        return told

    def _part(self, part: dict[str, Any], is_own: bool, model: str) -> Any:
        part = without_document(part)
        kind = part.get("type")
        if kind == "image_url":
            image_url(self.name, part)
        elif kind == "input_audio" and is_own and part["input_audio"]["format"] not in ("wav", "mp3"):
            raise refuse(self.name, f"audio can be wav or mp3, got {excerpt(str(part['input_audio']['format']), 20)}")
        return _cleaned(part, {"cache_control"} if is_own else set(), model)

    def error_in(self, data: Any) -> Any:
        """Look into the first choice, too: gateways put there what failed at whom they asked."""
        choices = data.get("choices") if isinstance(data, dict) else None
        if choices and isinstance(choices, list) and isinstance(choices[0], dict) and choices[0].get("error"):
            return choices[0]
        return super().error_in(data)

    def decoder(self, status: int, headers: Mapping[str, str]) -> Decoder:
        """Return the reader of a stream."""
        return OpenAIDecoder(self, status, headers)

    def parse(self, data: dict[str, Any]) -> WireReply:
        """Read a chat completion."""
        choices = data["choices"]
        if not choices:
            raise Overloaded(f"{self.name} answered without a choice", retryable=True)
        choice = choices[0]
        message = choice["message"]
        content = message.get("content")
        refusal = message.get("refusal")
        reason = finish(choice.get("finish_reason"))
        if reason == "content_filter" or (refusal and not content):
            words = excerpt(refusal) if isinstance(refusal, str) and refusal else "by its content filter"
            raise ContentBlocked(f"{self.name} refused to reply: {words}", code=reason, retryable=False)
        if reason == "error":
            raise Overloaded(f"{self.name} failed in the middle of the reply", code=reason, retryable=True)
        told: dict[str, Any] = {"text": content} if type(content) is str else {}
        if not told or not _MORE.isdisjoint(message) or choice.get("logprobs"):
            told = self._said(message, choice)
        return WireReply(
            usage=self.usage(data),
            finish_reason=reason,
            model=word(data.get("model")),
            request_id=word(data.get("id")),
            tier=standard(data.get("service_tier"), "default", "auto", "standard", "on_demand"),
            **told,
        )

    def _said(self, message: dict[str, Any], choice: dict[str, Any]) -> dict[str, Any]:
        """Read a message that says more than a text: calls, and thoughts in the ways of those who speak like OpenAI."""
        parts: list[Part] = []
        details = entries(message.get("reasoning_details"))
        thought = word(message.get("reasoning_content")) or word(message.get("reasoning"))
        if thought or details:
            parts.append(thoughts(thought, self.name, {"reasoning_details": details} if details else None))
        for part in parts_of(message.get("content")):
            if part.get("type") == "thinking":
                texts = part.get("thinking")
                texts = (
                    texts if isinstance(texts, str) else "".join(str(each.get("text", "")) for each in entries(texts))
                )
                parts.append(thoughts(texts, self.name, part))
            elif part.get("type") == "text":
                parts.append(Text(str(part.get("text", ""))))
            else:
                parts.append(other(part))
        parts += calls_in(message.get("tool_calls"))
        if isinstance(called := message.get("function_call"), dict):
            parts += calls_in([{"function": called}])
        if isinstance(audio := message.get("audio"), dict):
            parts.append(other({"type": "audio", "audio": audio}))
        logprobs = logprobs_in(table(choice.get("logprobs")).get("content"), ("token", "logprob", "top_logprobs"))
        return {**said(parts), "logprobs": logprobs}

    def usage(self, data: dict[str, Any]) -> Usage | None:
        """Read `usage`; cached and reasoning tokens are inside its counts."""
        told = data.get("usage")
        if not isinstance(told, dict):
            return None
        total, output = count(told.get("prompt_tokens")), count(told.get("completion_tokens"))
        prompt = table(told.get("prompt_tokens_details"))
        reply = table(told.get("completion_tokens_details"))
        if not prompt and not reply:
            return Usage(input_total=total, output_total=output)
        return Usage(
            input_total=total,
            cache_read=count(prompt.get("cached_tokens")),
            cache_write=count(prompt.get("cache_write_tokens")),
            output_total=output,
            reasoning=count(reply.get("reasoning_tokens")),
            audio=count(prompt.get("audio_tokens")) + count(reply.get("audio_tokens")),
        )

    def classify(self, status: int, error: ErrorBody) -> tuple[type[LMError], bool, float | None]:
        """Tell a 429 that a wait cures from a request that is larger than a whole minute's budget."""
        cls, retryable, wait = super().classify(status, error)
        if cls is RateLimited and error.message.startswith("Request too large"):
            retryable = False  # no wait makes room for it
        return cls, retryable, wait


def _cleaned(part: Any, names: set[str], model: str) -> Any:
    """Return a part or a call without some of its fields, and without Gemini's signature where it is not for Gemini."""
    if not isinstance(part, dict):
        return part
    if EXTRA in part and not _GEMINI.search(model):
        names = {*names, EXTRA}
    return part if names.isdisjoint(part) else {name: value for name, value in part.items() if name not in names}


class Embedded(OpenAI):
    """The stand-in LM inside the node: OpenAI's format, at an address that only the worker knows."""

    name = "embedded"
    default_base_url = None
    default_key = None
