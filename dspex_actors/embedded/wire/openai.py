"""OpenAI's ``POST /v1/chat/completions``, and ``GET /v1/models``."""

from __future__ import annotations

from collections.abc import Mapping
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
    whole,
)

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "user",
}
_STATUS: dict[str, tuple[int, str, str | None]] = {
    "invalid": (400, "invalid_request_error", None),
    "auth": (401, "invalid_request_error", "invalid_api_key"),
    "not_found": (404, "invalid_request_error", "unknown_url"),
    "too_large": (413, "invalid_request_error", "request_too_large"),
    "rate_limit": (429, "requests", "rate_limit_exceeded"),
    "server_error": (500, "server_error", None),
    "overloaded": (503, "server_error", "service_unavailable"),
}
_MOST_CHOICES = 128


class OpenAI:
    """The chat completions format."""

    name = "openai"

    def key(self, headers: Mapping[str, str]) -> str | None:
        """Return the bearer token, or the key where Azure's SDK puts it."""
        return bearer(headers) or headers.get("api-key")

    def read(self, body: dict[str, Any], headers: Mapping[str, str], model: str) -> Call:
        """Read a chat completion request; the model may stand in the path, as Azure has it."""
        model = model if model and body.get("model") is None else model_of(body)
        messages, attachments = read_messages(body, ROLES)
        choices = whole(body, "n", 1) or 1
        if choices > _MOST_CHOICES:
            raise RequestError(f"n: expected at most {_MOST_CHOICES}, got {choices}", "n")
        form = body.get("response_format")
        kind = form.get("type") if isinstance(form, dict) else None
        holder = form.get("json_schema") if isinstance(form, dict) else None
        return Call(
            model=model,
            messages=messages,
            attachments=attachments,
            max_tokens=whole(body, "max_completion_tokens", 1) or whole(body, "max_tokens", 1),
            temperature=number(body, "temperature", 0, 2) or 0.0,
            seed=whole(body, "seed", -(2**63)),
            stop=stops(body, "stop"),
            choices=choices,
            json=kind in ("json_object", "json_schema"),
            schema=holder.get("schema") if isinstance(holder, dict) else None,
            stream=flag(body, "stream"),
            stream_usage=_wants_usage(body),
        )

    def write(self, call: Call, answer: Answer, request_id: str, now: float) -> dict[str, Any]:
        """Return a chat completion."""
        return {
            "id": f"chatcmpl-{request_id}",
            "object": "chat.completion",
            "created": int(now),
            "model": call.model,
            "choices": [
                {
                    "index": at,
                    "message": {"role": "assistant", "content": text, "refusal": None},
                    "logprobs": None,
                    "finish_reason": "length" if finish == "length" else "stop",
                }
                for at, (text, finish) in enumerate(zip(answer.texts, answer.finishes, strict=True))
            ],
            "usage": {
                "prompt_tokens": answer.input_tokens,
                "completion_tokens": answer.output_tokens,
                "total_tokens": answer.input_tokens + answer.output_tokens,
                "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
            },
            "service_tier": "default",
            "system_fingerprint": "embedded-nearest",
        }

    def refuse(self, trouble: Trouble, request_id: str) -> tuple[int, dict[str, Any]]:
        """Return an error object; a rate limit's type is the limit that was met."""
        status, kind, code = _STATUS[trouble.kind]
        if trouble.kind == "rate_limit":
            kind = trouble.limit
        error = {"message": trouble.message, "type": kind, "param": trouble.param, "code": code}
        return status, {"error": error}

    def headers(self, request_id: str, limits: Mapping[str, LimitState], now: float) -> dict[str, str]:
        """Return the request's id and the ``x-ratelimit-*`` family; resets are durations."""
        found = {"x-request-id": request_id}
        for name, state in limits.items():
            found[f"x-ratelimit-limit-{name}"] = str(state.limit)
            found[f"x-ratelimit-remaining-{name}"] = str(state.remaining)
            found[f"x-ratelimit-reset-{name}"] = duration(state.reset_after)
        return found


def _wants_usage(body: dict[str, Any]) -> bool:
    options = body.get("stream_options")
    if options is None:
        return False
    if not body.get("stream"):
        raise RequestError("stream_options: only allowed when stream is enabled", "stream_options")
    return isinstance(options, dict) and flag(options, "include_usage")


def models(created: int) -> dict[str, Any]:
    """Return the list of models: the one there is, though every other name is answered too."""
    return {
        "object": "list",
        "data": [{"id": "nearest", "object": "model", "created": created, "owned_by": "embedded"}],
    }


def duration(seconds: float) -> str:
    """Write seconds as OpenAI's headers do: ``6ms``, ``1.5s``, ``6m0s``, ``1h0m0s``."""
    if seconds < 1:
        return f"{int(seconds * 1000)}ms"
    if seconds < 60:
        return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s"
