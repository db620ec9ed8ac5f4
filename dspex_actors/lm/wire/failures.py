"""Reads a provider's refusal: its body in any of the known shapes, what it means, and when to come back."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from dspex_actors.errors import (
    AuthError,
    ContentBlocked,
    ContextWindowExceeded,
    InvalidRequest,
    LMError,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    Timeout,
)
from dspex_actors.foundation.secrets import scrub
from dspex_actors.lm.wire import bodies

#: Characters of a provider's words that go into an error message.
EXCERPT = 300
#: How much of a body is looked at for an excerpt. Scrubbed as a whole, and only then cut: half a key is
#: still a leak.
_SCAN = 64 * 1024

#: Providers' and local servers' words for "the prompt does not fit". Only looked at where the status is a
#: refusal.
_TOO_LONG = re.compile(
    r"maximum context length|context[ _-]?(?:window|length|size|limit)|prompt is too long|prompt is longer than"
    r"|input token count|too many (?:input )?tokens|maximum number of (?:input )?tokens|maximum prompt length"
    r"|exceeds the max_model_len|input is too long|exceed_context_size|reduce the length of the (?:messages|prompt)"
    r"|max_new_tokens` must be <=",
    re.IGNORECASE,
)
_BLOCKED = {"content_filter", "safety"}
#: Words for "this content is not wanted": in codes (content_policy_violation, cyber_policy, ...), and in messages.
_POLICY = re.compile(r"polic(?:y|ies)", re.IGNORECASE)
_UNWANTED = re.compile(
    r"(?:prompt|input|request) (?:was|has been) flagged|content[ _-]?(?:filter|polic|management)|usage polic"
    r"|blocked (?:input|output|by (?:our )?content)|requires moderation",
    re.IGNORECASE,
)
_NO_MONEY = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "billing_error"}
#: Server errors that asking again does not cure: not implemented, HTTP version not supported.
_PERMANENT = {501, 505}


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """A provider's error in one shape.

    Args:
        message: its words; the body's beginning when it is in no known shape.
        kind: OpenAI's and Anthropic's `type`, Gemini's `status`; lower case.
        code: the most specific code there is, as the provider writes it.
        details: Gemini's `details`.
    """

    message: str
    kind: str = ""
    code: str = ""
    details: tuple[dict[str, Any], ...] = ()


def excerpt(text: str, limit: int = EXCERPT) -> str:
    """Return `text` on one line, without keys, cut to `limit` characters."""
    line = " ".join(scrub(text[:_SCAN]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _text(value: object) -> str:
    return value if isinstance(value, str) else str(value) if isinstance(value, int) else ""


def _json(data: object) -> str:
    try:
        return bodies.dump(data).decode()
    except (TypeError, RecursionError):
        return "(unreadable)"


def error_body(data: object) -> ErrorBody | None:
    """Find the error in a parsed body; None when there is none.

    Known shapes: `{"error": {...}}` (all), `{"error": "text"}` (Ollama), `{"object": "error", "message"}`
    (older vLLM), `{"message"}` (Cohere), `{"detail"}` (FastAPI), and any of them as the only element of a
    list (Gemini).
    """
    if isinstance(data, list):
        data = data[0] if data else None
    if not isinstance(data, dict):
        return None
    error = data.get("error")
    if isinstance(error, str) and error:
        return ErrorBody(error, code=_text(data.get("code")))
    source = error if isinstance(error, dict) and error else data
    message = source.get("message")
    if not isinstance(message, str):
        message = source.get("detail")
        if isinstance(message, (list, dict)):
            message = _json(message)
    if source is data and not isinstance(message, str):
        return None
    metadata = source.get("metadata")
    if isinstance(metadata, dict) and isinstance(metadata.get("raw"), str):
        # A gateway's words ("Provider returned error"), and those of whom it asked.
        message = f"{message or ''}: {metadata['raw']}"
    kind = _text(source.get("status")) or _text(source.get("type"))
    details = source.get("details")
    return ErrorBody(
        message=message if isinstance(message, str) else "",
        kind=kind.lower(),
        code=_text(source.get("code")) or kind,
        details=tuple(item for item in details if isinstance(item, dict)) if isinstance(details, list) else (),
    )


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Read how long the provider asks us to wait.

    Args:
        headers: by lower-case name; `retry-after-ms`, then `retry-after` in seconds or as an HTTP date.
        now: the wall clock, in seconds since the epoch.

    Returns:
        Seconds, not negative; None when nothing usable is said. Nobody may trust it: the caller caps it.
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name, "").strip()
        if not text:
            continue
        try:
            seconds = float(text) * unit
        except ValueError:
            try:
                seconds = parsedate_to_datetime(text).timestamp() - now
            except (ValueError, TypeError, OverflowError):
                continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    return None


def is_context_overflow(error: ErrorBody) -> bool:
    """Tell whether the provider refused because the prompt does not fit the model's window."""
    return error.code == "context_length_exceeded" or bool(_TOO_LONG.search(error.message[:_SCAN]))


def is_unwanted(error: ErrorBody, words: set[str]) -> bool:
    """Tell whether the provider refused the content; `words` are the error's kind and code in lower case."""
    return bool(
        words & _BLOCKED or any(_POLICY.search(word) for word in words) or _UNWANTED.search(error.message[:_SCAN])
    )


def kind_of_failure(status: int, error: ErrorBody) -> tuple[type[LMError], bool]:
    """Return the error type for a status and body, and whether asking again may help.

    This is what all providers have in common; each corrects it where it differs.
    """
    words = {error.kind, error.code.lower()}
    if words & _NO_MONEY or status == 402:
        return QuotaExhausted, False
    if status in (400, 413, 422) and is_context_overflow(error):
        return ContextWindowExceeded, False
    if status in (400, 403, 422, 498) and is_unwanted(error, words):
        return ContentBlocked, False
    if status in (401, 403, 407):
        return AuthError, False
    if status == 408:
        return Timeout, True
    if status == 409:
        return Overloaded, True
    if status == 429:
        return RateLimited, True
    if status >= 500:
        return Overloaded, status not in _PERMANENT
    return InvalidRequest, False
