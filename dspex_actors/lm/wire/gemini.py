"""Google's generateContent."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from dspex_actors.errors import AuthError, ContentBlocked, LMError, Overloaded, QuotaExhausted, RateLimited
from dspex_actors.lm.content.messages import in_order
from dspex_actors.lm.usage import Usage
from dspex_actors.lm.wire.base import Provider, count, entries, standard, table, word
from dspex_actors.lm.wire.content import refuse, split_system
from dspex_actors.lm.wire.decoding import Decoder
from dspex_actors.lm.wire.exchange import WireReply
from dspex_actors.lm.wire.failures import ErrorBody, excerpt
from dspex_actors.lm.wire.finish import finish
from dspex_actors.lm.wire.gemini_parts import let_unsigned_calls_pass, logprobs_said, part_told, parts_said
from dspex_actors.lm.wire.gemini_stream import GeminiDecoder
from dspex_actors.lm.wire.gemini_tools import gemini_choice, gemini_result, gemini_tools
from dspex_actors.lm.wire.said import said

#: Our parameters' names in `generationConfig`. Any other goes beside it, as the API's top-level fields do.
_CONFIG = {
    "temperature": "temperature",
    "max_tokens": "maxOutputTokens",
    "top_p": "topP",
    "top_k": "topK",
    "seed": "seed",
    "frequency_penalty": "frequencyPenalty",
    "presence_penalty": "presencePenalty",
}
_BLOCKED = frozenset(
    {
        "SAFETY",
        "RECITATION",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
    }
)
#: Models that refuse calls in a conversation which they have not signed.
_SIGNS = re.compile(r"(?:^|/)gemini-(?:[3-9]|\d\d)")
_SECONDS = re.compile(r"(\d+(?:\.\d+)?)s")


class Gemini(Provider):
    """`POST {base}/v1beta/models/{model}:generateContent`; base_url has no path."""

    name = "gemini"
    default_base_url = "https://generativelanguage.googleapis.com"
    default_key = "env:GEMINI_API_KEY"
    # Never `?key=`: addresses end up in logs.
    key_header = "x-goog-api-key"
    takes_addresses = False
    key_prefix = ""

    def path(self, model: str) -> str:
        """Return the model's own path."""
        return f"/v1beta/models/{quote(model.removeprefix('models/'), safe='')}:generateContent"

    def stream_path(self, model: str) -> str:
        """Return the model's own path for streams of events."""
        return self.path(model).removesuffix(":generateContent") + ":streamGenerateContent?alt=sse"

    def streamed(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Return it as it is: the path says it."""
        return payload

    def payload(self, model: str, messages: list[dict[str, Any]], params: dict[str, Any]) -> dict[str, Any]:
        """Translate roles and parts; put sampling parameters into `generationConfig`."""
        system, rest = split_system(self.name, messages)
        config: dict[str, Any] = {}
        payload: dict[str, Any] = {"contents": self._contents(rest)}
        if _SIGNS.search(model):
            for content in payload["contents"]:
                let_unsigned_calls_pass(content["parts"])
        if system:
            texts = [system] if isinstance(system, str) else [part["text"] for part in system]
            payload["systemInstruction"] = {"parts": [{"text": text} for text in texts]}
        for name, value in params.items():
            if name in _CONFIG:
                config[_CONFIG[name]] = value
            elif name == "stop":
                config["stopSequences"] = [value] if isinstance(value, str) else value
            elif name == "response_format":
                config.update(_response_format(value))
            elif name == "tools":
                payload["tools"] = gemini_tools(value)
            elif name == "tool_choice":
                payload["toolConfig"] = gemini_choice(value)
            elif name == "generationConfig":
                config.update(value)
            else:
                payload[name] = value
        if config:
            payload["generationConfig"] = config
        return payload

    def _contents(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        written: list[dict[str, Any]] = []
        names: dict[str, str] = {}  # of the tools that were called, by the calls' ids
        results: list[dict[str, Any]] | None = None  # of the tool messages before; all belong into one content
        for message in messages:
            role = message["role"]
            if role == "tool":
                if results is None:
                    results = []
                    written.append({"role": "user", "parts": results})
                results.append(gemini_result(message, names))
                continue
            results = None
            if role not in ("user", "assistant"):
                raise refuse(self.name, f"no message of role '{role}' can be sent; use system, user, assistant or tool")
            content = message.get("content")
            if isinstance(content, str) and not message.get("tool_calls"):
                parts: list[dict[str, Any]] = [{"text": content}]
            else:
                told = in_order(message)
                parts = [part for each in told if (part := part_told(each, names)) is not None]
                if told and not parts:
                    continue  # another provider's thoughts, and nothing else
            written.append({"role": "model" if role == "assistant" else "user", "parts": parts})
        return written

    def decoder(self, status: int, headers: Mapping[str, str]) -> Decoder:
        """Return the reader of a stream."""
        return GeminiDecoder(self, status, headers)

    def parse(self, data: dict[str, Any]) -> WireReply:
        """Read a GenerateContentResponse; one without candidates is a blocked prompt."""
        candidates = entries(data.get("candidates"))
        if not candidates:
            if "promptFeedback" not in data and "usageMetadata" not in data:
                raise KeyError("candidates")
            why = word(table(data.get("promptFeedback")).get("blockReason")) or "no reason given"
            raise ContentBlocked(f"{self.name} blocked the prompt: {excerpt(why, 80)}", code=why[:80], retryable=False)
        reason = word(candidates[0].get("finishReason")) or ""
        parts = entries(table(candidates[0].get("content")).get("parts"))
        spoken = [part for part in parts if not part.get("thought")]
        if reason in _BLOCKED:
            raise ContentBlocked(f"{self.name} blocked the reply: {reason}", code=reason, retryable=False)
        if not spoken and reason != "MAX_TOKENS":
            # STOP after nothing, or nothing but thoughts; OTHER, MALFORMED_RESPONSE: sampling again often answers.
            why = excerpt(reason, 80) or "no reason given"
            raise Overloaded(f"{self.name} answered nothing: {why}", code=reason[:80] or None, retryable=True)
        called = any("functionCall" in part for part in spoken)
        request_id = word(data.get("responseId"))
        return WireReply(
            **said(parts_said(parts, request_id)),
            logprobs=logprobs_said(table(candidates[0].get("logprobsResult"))),
            usage=self.usage(data),
            finish_reason="tool_calls" if called and reason == "STOP" else finish(reason),
            model=word(data.get("modelVersion")),
            request_id=request_id,
            tier=standard(table(data.get("usageMetadata")).get("serviceTier"), "standard"),
        )

    def usage(self, data: dict[str, Any]) -> Usage | None:
        """Read `usageMetadata`; thoughts and the results of tools are outside its counts."""
        told = data.get("usageMetadata")
        if not isinstance(told, dict):
            return None
        thoughts = count(told.get("thoughtsTokenCount"))
        audio = [
            count(item.get("tokenCount"))
            for name in ("promptTokensDetails", "candidatesTokensDetails")
            for item in entries(told.get(name))
            if item.get("modality") == "AUDIO"
        ]
        return Usage(
            input_total=count(told.get("promptTokenCount")) + count(told.get("toolUsePromptTokenCount")),
            cache_read=count(told.get("cachedContentTokenCount")),
            output_total=count(told.get("candidatesTokenCount")) + thoughts,
            reasoning=thoughts,
            audio=sum(audio),
        )

    def classify(self, status: int, error: ErrorBody) -> tuple[type[LMError], bool, float | None]:
        """The wait, the daily quota and a bad key are told in the body's details only."""
        cls, retryable, wait = super().classify(status, error)
        for detail in error.details:
            kind = word(detail.get("@type")) or ""
            if kind.endswith("RetryInfo") and (match := _SECONDS.fullmatch(word(detail.get("retryDelay")) or "")):
                seconds = float(match[1])
                wait = seconds if math.isfinite(seconds) else wait
            elif kind.endswith("ErrorInfo") and detail.get("reason") == "API_KEY_INVALID":
                cls, retryable = AuthError, False
            elif kind.endswith("QuotaFailure") and cls is RateLimited:
                quotas = [word(v.get("quotaId")) or "" for v in entries(detail.get("violations"))]
                if any("PerDay" in quota for quota in quotas):
                    cls, retryable = QuotaExhausted, False
        return cls, retryable, wait


def _response_format(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or value.get("type") == "text":
        return {}
    config: dict[str, Any] = {"responseMimeType": "application/json"}
    if schema := table(value.get("json_schema")).get("schema"):
        config["responseJsonSchema"] = schema
    return config
