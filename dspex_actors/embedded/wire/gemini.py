"""Gemini's ``POST /{version}/models/{model}:generateContent``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspex_actors.embedded.wire.base import (
    Answer,
    Call,
    LimitState,
    RequestError,
    Trouble,
    number,
    stops,
    text_of,
    whole,
)

_ROLES = {"user": "user", "model": "assistant", "function": "user", None: "user"}
_STATUS: dict[str, tuple[int, str]] = {
    "invalid": (400, "INVALID_ARGUMENT"),
    "auth": (401, "UNAUTHENTICATED"),
    "not_found": (404, "NOT_FOUND"),
    "too_large": (413, "INVALID_ARGUMENT"),
    "rate_limit": (429, "RESOURCE_EXHAUSTED"),
    "server_error": (500, "INTERNAL"),
    "overloaded": (503, "UNAVAILABLE"),
}
_TYPES = "type.googleapis.com/google.rpc."
_MOST_CANDIDATES = 8


class Gemini:
    """The generateContent format."""

    name = "gemini"

    def key(self, headers: Mapping[str, str]) -> str | None:
        """Return ``x-goog-api-key``; a key in the address is not looked at."""
        return headers.get("x-goog-api-key")

    def read(self, body: dict[str, Any], headers: Mapping[str, str], model: str) -> Call:
        """Read a generateContent request; the model stands in the path."""
        contents = body.get("contents")
        if not isinstance(contents, list) or not contents:
            raise RequestError("* GenerateContentRequest.contents: contents is not specified", "contents")
        messages: list[tuple[str, str]] = []
        attachments = 0
        system = body.get("systemInstruction", body.get("system_instruction"))
        if isinstance(system, dict):
            text, attachments = text_of(system.get("parts"), "system_instruction.parts")
            messages.append(("system", text))
        for at, content in enumerate(contents):
            role = content.get("role") if isinstance(content, dict) else ""
            if role not in _ROLES:
                raise RequestError(f"contents[{at}].role: please use a valid role: user, model; got {role!r}")
            text, others = text_of(content.get("parts"), f"contents[{at}].parts")
            attachments += others
            messages.append((_ROLES[role], text))
        settings = body.get("generationConfig", body.get("generation_config")) or {}
        if not isinstance(settings, dict):
            raise RequestError("generation_config: expected an object")
        candidates = whole(settings, "candidateCount", 1) or 1
        if candidates > _MOST_CANDIDATES:
            raise RequestError(f"generation_config.candidate_count: expected at most {_MOST_CANDIDATES}")
        schema = settings.get("responseJsonSchema")
        return Call(
            model=model,
            messages=messages,
            attachments=attachments,
            max_tokens=whole(settings, "maxOutputTokens", 1),
            temperature=number(settings, "temperature", 0, 2) or 0.0,
            seed=whole(settings, "seed", -(2**31)),
            stop=stops(settings, "stopSequences"),
            choices=candidates,
            json=settings.get("responseMimeType") == "application/json",
            schema=_plain_schema(settings.get("responseSchema")) if schema is None else schema,
        )

    def write(self, call: Call, answer: Answer, request_id: str, now: float) -> dict[str, Any]:
        """Return a generateContent response."""
        return {
            "candidates": [
                {
                    "content": {"role": "model", "parts": [{"text": text}]},
                    "finishReason": "MAX_TOKENS" if finish == "length" else "STOP",
                    "index": at,
                }
                for at, (text, finish) in enumerate(zip(answer.texts, answer.finishes, strict=True))
            ],
            "usageMetadata": {
                "promptTokenCount": answer.input_tokens,
                "candidatesTokenCount": answer.output_tokens,
                "totalTokenCount": answer.input_tokens + answer.output_tokens,
            },
            "modelVersion": call.model,
            "responseId": request_id,
        }

    def refuse(self, trouble: Trouble, request_id: str) -> tuple[int, dict[str, Any]]:
        """Return an error object; the time to wait stands in its details, and in no header."""
        status, name = _STATUS[trouble.kind]
        error: dict[str, Any] = {"code": status, "message": trouble.message, "status": name}
        if trouble.kind == "rate_limit":
            quota = {"quotaId": f"Generate{trouble.limit.title()}PerMinutePerProjectPerModel"}
            error["details"] = [{"@type": f"{_TYPES}QuotaFailure", "violations": [quota]}]
            if trouble.retry_after is not None:
                wait = {"@type": f"{_TYPES}RetryInfo", "retryDelay": f"{trouble.retry_after:.3f}s"}
                error["details"].append(wait)
        return status, {"error": error}

    def headers(self, request_id: str, limits: Mapping[str, LimitState], now: float) -> dict[str, str]:
        """Return nothing: Gemini tells no limits in headers."""
        return {}


def _plain_schema(schema: Any) -> Any:
    """Turn Gemini's schema dialect (types in capitals) into JSON schema."""
    if isinstance(schema, dict):
        return {
            key: value.lower() if key == "type" and isinstance(value, str) else _plain_schema(value)
            for key, value in schema.items()
        }
    return [_plain_schema(one) for one in schema] if isinstance(schema, list) else schema
