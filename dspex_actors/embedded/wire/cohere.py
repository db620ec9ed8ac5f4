"""Cohere's ``POST /v2/chat``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspex_actors.embedded.wire.base import (
    Answer,
    Call,
    LimitState,
    Trouble,
    bearer,
    flag,
    model_of,
    number,
    read_messages,
    stops,
    whole,
)

_ROLES = {"system": "system", "user": "user", "assistant": "assistant", "tool": "user"}
_STATUS = {
    "invalid": 400,
    "auth": 401,
    "not_found": 404,
    "too_large": 413,
    "rate_limit": 429,
    "server_error": 500,
    "overloaded": 503,
}
_FINISH = {"stop": "COMPLETE", "length": "MAX_TOKENS", "stop_sequence": "STOP_SEQUENCE"}


class Cohere:
    """The v2 chat format."""

    name = "cohere"

    def key(self, headers: Mapping[str, str]) -> str | None:
        """Return the bearer token."""
        return bearer(headers)

    def read(self, body: dict[str, Any], headers: Mapping[str, str], model: str) -> Call:
        """Read a v2 chat request."""
        model = model_of(body)
        messages, attachments = read_messages(body, _ROLES)
        form = body.get("response_format")
        form = form if isinstance(form, dict) else {}
        return Call(
            model=model,
            messages=messages,
            attachments=attachments,
            max_tokens=whole(body, "max_tokens", 1),
            temperature=number(body, "temperature", 0, 1) or 0.0,
            seed=whole(body, "seed", 0),
            stop=stops(body, "stop_sequences"),
            json=form.get("type") == "json_object",
            schema=form.get("json_schema", form.get("schema")),
            stream=flag(body, "stream"),
        )

    def write(self, call: Call, answer: Answer, request_id: str, now: float) -> dict[str, Any]:
        """Return a v2 chat response; billed and real tokens are the same here."""
        tokens = {"input_tokens": answer.input_tokens, "output_tokens": answer.output_tokens}
        return {
            "id": request_id,
            "finish_reason": _FINISH[answer.finishes[0]],
            "message": {"role": "assistant", "content": [{"type": "text", "text": answer.texts[0]}]},
            "usage": {"billed_units": tokens, "tokens": tokens, "cached_tokens": 0},
        }

    def refuse(self, trouble: Trouble, request_id: str) -> tuple[int, dict[str, Any]]:
        """Return a message and an id; Cohere has no codes."""
        return _STATUS[trouble.kind], {"id": request_id, "message": trouble.message}

    def headers(self, request_id: str, limits: Mapping[str, LimitState], now: float) -> dict[str, str]:
        """Return the two headers that Cohere has: no family per limit, and a reset in seconds."""
        found = {"x-request-id": request_id}
        requests = limits.get("requests")
        if requests:
            found["x-ratelimit-limit"] = str(requests.limit)
            found["x-ratelimit-remaining"] = str(requests.remaining)
        return found
