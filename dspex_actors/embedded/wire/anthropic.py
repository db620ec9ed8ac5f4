"""Anthropic's ``POST /v1/messages``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from dspex_actors.embedded.wire.base import (
    Answer,
    Call,
    LimitState,
    RequestError,
    Trouble,
    bearer,
    flag,
    model_of,
    number,
    read_messages,
    stops,
    text_of,
    whole,
)

_ROLES = {"user": "user", "assistant": "assistant"}
#: The first version takes the sampling parameters; the second has none.
_SAMPLING_VERSION = "2023-06-01"
_VERSIONS = (_SAMPLING_VERSION, "2026-10-21")
_STATUS: dict[str, tuple[int, str]] = {
    "invalid": (400, "invalid_request_error"),
    "auth": (401, "authentication_error"),
    "not_found": (404, "not_found_error"),
    "too_large": (413, "request_too_large"),
    "rate_limit": (429, "rate_limit_error"),
    "server_error": (500, "api_error"),
    "overloaded": (529, "overloaded_error"),
}
_FINISH = {"stop": "end_turn", "length": "max_tokens", "stop_sequence": "stop_sequence"}


class Anthropic:
    """The messages format."""

    name = "anthropic"

    def key(self, headers: Mapping[str, str]) -> str | None:
        """Return ``x-api-key``, or the bearer token where there is none."""
        return headers.get("x-api-key") or bearer(headers)

    def read(self, body: dict[str, Any], headers: Mapping[str, str], model: str) -> Call:
        """Read a messages request; version header and max_tokens are required."""
        version = headers.get("anthropic-version")
        if version not in _VERSIONS:
            raise RequestError(
                "anthropic-version: header is required"
                if version is None
                else f"anthropic-version: expected one of {', '.join(_VERSIONS)}; got {version!r}",
                "anthropic-version",
            )
        model = model_of(body)
        max_tokens = whole(body, "max_tokens", 1)
        if max_tokens is None:
            raise RequestError("max_tokens: Field required", "max_tokens")
        messages, attachments = read_messages(body, _ROLES)
        if version != _SAMPLING_VERSION:
            for name in ("temperature", "top_p", "top_k"):
                if body.get(name) is not None:
                    raise RequestError(f"{name}: not permitted with anthropic-version {version}", name)
        system, others = text_of(body.get("system"), "system")
        if system:
            messages.insert(0, ("system", system))
        return Call(
            model=model,
            messages=messages,
            attachments=attachments + others,
            max_tokens=max_tokens,
            temperature=number(body, "temperature", 0, 1) or 0.0,
            stop=stops(body, "stop_sequences"),
            stream=flag(body, "stream"),
        )

    def write(self, call: Call, answer: Answer, request_id: str, now: float) -> dict[str, Any]:
        """Return a message."""
        return {
            "id": f"msg_{request_id}",
            "type": "message",
            "role": "assistant",
            "model": call.model,
            "content": [{"type": "text", "text": answer.texts[0]}],
            "stop_reason": _FINISH[answer.finishes[0]],
            "stop_sequence": answer.stop_sequence,
            "usage": {
                "input_tokens": answer.input_tokens,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": answer.output_tokens,
                "service_tier": "standard",
            },
        }

    def refuse(self, trouble: Trouble, request_id: str) -> tuple[int, dict[str, Any]]:
        """Return an error object."""
        status, kind = _STATUS[trouble.kind]
        error = {"type": kind, "message": trouble.message}
        return status, {"type": "error", "error": error, "request_id": request_id}

    def headers(self, request_id: str, limits: Mapping[str, LimitState], now: float) -> dict[str, str]:
        """Return the request's id and the ``anthropic-ratelimit-*`` family; resets are times."""
        found = {"request-id": request_id}
        for name, state in limits.items():
            at = datetime.fromtimestamp(now + state.reset_after, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            found[f"anthropic-ratelimit-{name}-limit"] = str(state.limit)
            found[f"anthropic-ratelimit-{name}-remaining"] = str(state.remaining)
            found[f"anthropic-ratelimit-{name}-reset"] = at
        return found
