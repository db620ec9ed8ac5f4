"""OpenAI's chat completions, and every server that speaks them (vLLM, Ollama, llama.cpp, gateways)."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from dspex_actors.errors import ContentBlocked, LMError, Overloaded, RateLimited
from dspex_actors.lm.usage import Usage
from dspex_actors.lm.wire.base import Provider, count, table, word
from dspex_actors.lm.wire.content import parts_of
from dspex_actors.lm.wire.exchange import WireReply
from dspex_actors.lm.wire.failures import ErrorBody, excerpt

#: Models that refuse `max_tokens`. Others get it: compatible servers often know only the old name.
_REASONING = re.compile(r"(?:^|[/:])(?:o\d|gpt-5)")


class OpenAI(Provider):
    """`POST {base}/chat/completions`; base_url ends in /v1."""

    name = "openai"
    default_base_url: ClassVar[str | None] = "https://api.openai.com/v1"
    default_key: ClassVar[str | None] = "env:OPENAI_API_KEY"

    def path(self, model: str) -> str:
        """Return the chat completions' path."""
        return "/chat/completions"

    def payload(self, model: str, messages: list[dict[str, Any]], params: dict[str, Any]) -> dict[str, Any]:
        """Our normal form is OpenAI's; only `max_tokens` has two names."""
        payload = {"model": model, "messages": messages, **params}
        if "max_tokens" in payload and _REASONING.search(model):
            payload.setdefault("max_completion_tokens", payload.pop("max_tokens"))
        return payload

    def parse(self, data: dict[str, Any]) -> WireReply:
        """Read a chat completion."""
        choices = data["choices"]
        if not choices:
            raise Overloaded(f"{self.name} answered without a choice", retryable=True)
        choice = choices[0]
        message = choice["message"]
        content = message.get("content")
        refusal = message.get("refusal")
        finish = word(choice.get("finish_reason"))
        if finish == "content_filter" or (refusal and not content):
            words = excerpt(refusal) if isinstance(refusal, str) and refusal else "by its content filter"
            raise ContentBlocked(f"{self.name} refused to reply: {words}", code=finish, retryable=False)
        text = (
            content
            if isinstance(content, str)
            else "".join(str(part.get("text", "")) for part in parts_of(content) if part.get("type") == "text")
        )
        return WireReply(
            text=text,
            usage=_usage(data.get("usage")),
            finish_reason="tool_calls" if finish == "function_call" else finish,
            model=word(data.get("model")),
            request_id=word(data.get("id")),
        )

    def classify(self, status: int, error: ErrorBody) -> tuple[type[LMError], bool, float | None]:
        """Tell a 429 that a wait cures from a request that is larger than a whole minute's budget."""
        cls, retryable, wait = super().classify(status, error)
        if cls is RateLimited and error.message.startswith("Request too large"):
            retryable = False  # no wait makes room for it
        return cls, retryable, wait


class Embedded(OpenAI):
    """The stand-in LM inside the node: OpenAI's format, at an address that only the worker knows."""

    name = "embedded"
    default_base_url = None
    default_key = None


def _usage(data: object) -> Usage | None:
    if not isinstance(data, dict):
        return None
    prompt = table(data.get("prompt_tokens_details"))
    reply = table(data.get("completion_tokens_details"))
    return Usage(
        input_total=count(data.get("prompt_tokens")),
        cache_read=count(prompt.get("cached_tokens")),
        cache_write=count(prompt.get("cache_write_tokens")),
        output_total=count(data.get("completion_tokens")),
        reasoning=count(reply.get("reasoning_tokens")),
        audio=count(prompt.get("audio_tokens")) + count(reply.get("audio_tokens")),
    )
