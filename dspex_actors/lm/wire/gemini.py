"""Google's generateContent."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from dspex_actors.errors import AuthError, ContentBlocked, LMError, Overloaded, QuotaExhausted, RateLimited
from dspex_actors.lm.usage import Usage
from dspex_actors.lm.wire.base import Provider, count, entries, table, word
from dspex_actors.lm.wire.content import data_url, image_url, parts_of, refuse, split_system
from dspex_actors.lm.wire.exchange import WireReply
from dspex_actors.lm.wire.failures import ErrorBody, excerpt

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
_FINISH = {"STOP": "stop", "MAX_TOKENS": "length"}
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
_SECONDS = re.compile(r"(\d+(?:\.\d+)?)s")


class Gemini(Provider):
    """`POST {base}/v1beta/models/{model}:generateContent`; base_url has no path."""

    name = "gemini"
    default_base_url = "https://generativelanguage.googleapis.com"
    default_key = "env:GEMINI_API_KEY"
    # Never `?key=`: addresses end up in logs.
    key_header = "x-goog-api-key"
    key_prefix = ""

    def path(self, model: str) -> str:
        """Return the model's own path."""
        return f"/v1beta/models/{quote(model.removeprefix('models/'), safe='')}:generateContent"

    def payload(self, model: str, messages: list[dict[str, Any]], params: dict[str, Any]) -> dict[str, Any]:
        """Translate roles and parts; put sampling parameters into `generationConfig`."""
        system, rest = split_system(messages)
        config: dict[str, Any] = {}
        payload: dict[str, Any] = {
            "contents": [
                {"role": _role(m["role"]), "parts": [self._part(p) for p in parts_of(m.get("content"))]} for m in rest
            ]
        }
        if system:
            payload["systemInstruction"] = {"parts": [{"text": system}]}
        for name, value in params.items():
            if name in _CONFIG:
                config[_CONFIG[name]] = value
            elif name == "stop":
                config["stopSequences"] = [value] if isinstance(value, str) else value
            elif name == "response_format":
                config.update(_response_format(value))
            elif name == "generationConfig":
                config.update(value)
            else:
                payload[name] = value
        if config:
            payload["generationConfig"] = config
        return payload

    def _part(self, part: dict[str, Any]) -> dict[str, Any]:
        kind = part.get("type")
        if kind == "text":
            return {"text": part["text"]}
        if kind == "image_url":
            inline = data_url(image_url(part))
            if inline is None:
                # Fetching it for the user would make this process a way into the network it runs in.
                raise refuse(self.name, "it takes no image addresses; give the image as a base64 data: URL")
            return {"inlineData": {"mimeType": inline[0], "data": inline[1]}}
        if kind == "input_audio":
            audio = part["input_audio"]
            return {"inlineData": {"mimeType": f"audio/{audio['format']}", "data": audio["data"]}}
        if kind == "file":
            inline = data_url(str(part["file"].get("file_data", "")))
            if inline is None:
                raise refuse(self.name, "a file part needs file_data as a base64 data: URL")
            return {"inlineData": {"mimeType": inline[0], "data": inline[1]}}
        return part  # Gemini's own parts as they are

    def parse(self, data: dict[str, Any]) -> WireReply:
        """Read a GenerateContentResponse; one without candidates is a blocked prompt."""
        candidates = entries(data.get("candidates"))
        if not candidates:
            if "promptFeedback" not in data and "usageMetadata" not in data:
                raise KeyError("candidates")
            why = str(table(data.get("promptFeedback")).get("blockReason") or "no reason given")
            raise ContentBlocked(f"{self.name} blocked the prompt: {excerpt(why, 80)}", code=why[:80], retryable=False)
        reason = str(candidates[0].get("finishReason") or "")
        parts = entries(table(candidates[0].get("content")).get("parts"))
        text = "".join(str(part["text"]) for part in parts if "text" in part and not part.get("thought"))
        if reason in _BLOCKED:
            raise ContentBlocked(f"{self.name} blocked the reply: {reason}", code=reason, retryable=False)
        if not text and not parts and reason not in ("STOP", "MAX_TOKENS", ""):
            # OTHER, MALFORMED_RESPONSE and the like: sampling again often answers.
            raise Overloaded(f"{self.name} answered nothing: {excerpt(reason, 80)}", code=reason[:80], retryable=True)
        return WireReply(
            text=text,
            usage=_usage(data.get("usageMetadata")),
            finish_reason=_FINISH.get(reason, reason.lower()) or None,
            model=word(data.get("modelVersion")),
            request_id=word(data.get("responseId")),
        )

    def classify(self, status: int, error: ErrorBody) -> tuple[type[LMError], bool, float | None]:
        """The wait, the daily quota and a bad key are told in the body's details only."""
        cls, retryable, wait = super().classify(status, error)
        for detail in error.details:
            kind = str(detail.get("@type", ""))
            if kind.endswith("RetryInfo") and (match := _SECONDS.fullmatch(str(detail.get("retryDelay", "")))):
                wait = float(match[1])
            elif kind.endswith("ErrorInfo") and detail.get("reason") == "API_KEY_INVALID":
                cls, retryable = AuthError, False
            elif kind.endswith("QuotaFailure") and cls is RateLimited:
                quotas = [str(v.get("quotaId", "")) for v in entries(detail.get("violations"))]
                if any("PerDay" in quota for quota in quotas):
                    cls, retryable = QuotaExhausted, False
        return cls, retryable, wait


def _role(role: str) -> str:
    if role == "assistant":
        return "model"
    if role != "user":
        raise refuse("gemini", f"no message of role '{role}' can be sent; use system, user or assistant")
    return role


def _response_format(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or value.get("type") == "text":
        return {}
    config: dict[str, Any] = {"responseMimeType": "application/json"}
    if schema := table(value.get("json_schema")).get("schema"):
        config["responseJsonSchema"] = schema
    return config


def _usage(data: object) -> Usage | None:
    if not isinstance(data, dict):
        return None
    thoughts = count(data.get("thoughtsTokenCount"))
    audio = [
        count(item.get("tokenCount"))
        for name in ("promptTokensDetails", "candidatesTokensDetails")
        for item in entries(data.get(name))
        if item.get("modality") == "AUDIO"
    ]
    return Usage(
        input_total=count(data.get("promptTokenCount")) + count(data.get("toolUsePromptTokenCount")),
        cache_read=count(data.get("cachedContentTokenCount")),
        output_total=count(data.get("candidatesTokenCount")) + thoughts,
        reasoning=thoughts,
        audio=sum(audio),
    )
