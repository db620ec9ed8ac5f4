"""OpenAI's chat completions, and every server that speaks them (vLLM, Ollama, llama.cpp, gateways)."""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import urlsplit

from dspex_actors.errors import ContentBlocked, LMError, Overloaded, RateLimited
from dspex_actors.lm.usage import Usage
from dspex_actors.lm.wire.base import Provider, count, standard, table, word
from dspex_actors.lm.wire.content import parts_of
from dspex_actors.lm.wire.exchange import WireReply
from dspex_actors.lm.wire.failures import ErrorBody, excerpt
from dspex_actors.lm.wire.finish import finish


class OpenAI(Provider):
    """`POST {base}/chat/completions`; base_url ends in /v1."""

    name = "openai"
    default_base_url: ClassVar[str | None] = "https://api.openai.com/v1"
    default_key: ClassVar[str | None] = "env:OPENAI_API_KEY"

    def key(self, base_url: str) -> tuple[str, str]:
        """Return the bearer's header; Azure takes a bearer for a user's token, and has a header of its own for keys."""
        is_azure = (urlsplit(base_url).hostname or "").endswith(".azure.com")
        return ("api-key", "") if is_azure else super().key(base_url)

    def path(self, model: str) -> str:
        """Return the chat completions' path."""
        return "/chat/completions"

    def payload(self, model: str, messages: list[dict[str, Any]], params: dict[str, Any]) -> dict[str, Any]:
        """Return the call: our normal form is OpenAI's."""
        return {"model": model, "messages": messages, **params}

    def error_in(self, data: Any) -> Any:
        """Look into the first choice, too: gateways put there what failed at whom they asked."""
        choices = data.get("choices") if isinstance(data, dict) else None
        if choices and isinstance(choices, list) and isinstance(choices[0], dict) and choices[0].get("error"):
            return choices[0]
        return super().error_in(data)

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
        text = (
            content
            if isinstance(content, str)
            else "".join(str(part.get("text", "")) for part in parts_of(content) if part.get("type") == "text")
        )
        return WireReply(
            text=text,
            usage=self.usage(data),
            finish_reason=reason,
            model=word(data.get("model")),
            request_id=word(data.get("id")),
            tier=standard(data.get("service_tier"), "default", "auto", "standard", "on_demand"),
        )

    def usage(self, data: dict[str, Any]) -> Usage | None:
        """Read `usage`; cached and reasoning tokens are inside its counts."""
        told = data.get("usage")
        if not isinstance(told, dict):
            return None
        prompt = table(told.get("prompt_tokens_details"))
        reply = table(told.get("completion_tokens_details"))
        return Usage(
            input_total=count(told.get("prompt_tokens")),
            cache_read=count(prompt.get("cached_tokens")),
            cache_write=count(prompt.get("cache_write_tokens")),
            output_total=count(told.get("completion_tokens")),
            reasoning=count(reply.get("reasoning_tokens")),
            audio=count(prompt.get("audio_tokens")) + count(reply.get("audio_tokens")),
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
