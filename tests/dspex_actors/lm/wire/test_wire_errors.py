"""Refusals as providers and local servers send them, and what each of them means to us."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

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
from dspex_actors.lm.wire import PROVIDERS
from dspex_actors.lm.wire.exchange import RawReply

NOW = 1_800_000_000.0


def refusal(name: str, status: int, body: Any, headers: dict[str, str] | None = None) -> LMError:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    with pytest.raises(LMError) as caught:
        PROVIDERS[name].read(RawReply(status, headers or {}, data), now=NOW)
    assert caught.value.__context__ is None
    return caught.value


def oa(message: str, code: Any = None, kind: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def an(kind: str, message: str = "words") -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_9"}


def ge(status: str, *details: dict[str, Any], message: str = "words") -> dict[str, Any]:
    return {"error": {"code": 0, "message": message, "status": status, "details": list(details)}}


def quota(quota_id: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": quota_id}]}


RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "22.5s"}
BAD_KEY = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}

TABLE: list[tuple[str, int, Any, type[LMError], bool]] = [
    ("openai", 400, oa("bad field"), InvalidRequest, False),
    ("openai", 400, oa("too long", "context_length_exceeded"), ContextWindowExceeded, False),
    ("openai", 400, oa("This model's maximum context length is 8192 tokens"), ContextWindowExceeded, False),
    ("openai", 400, oa("no", "content_policy_violation"), ContentBlocked, False),
    ("openai", 400, oa("no", "content_filter"), ContentBlocked, False),
    ("openai", 401, oa("Incorrect API key", "invalid_api_key"), AuthError, False),
    ("openai", 402, oa("pay"), QuotaExhausted, False),
    ("openai", 403, oa("no"), AuthError, False),
    ("openai", 404, oa("no such", "model_not_found"), InvalidRequest, False),
    ("openai", 408, oa("slow"), Timeout, True),
    ("openai", 409, oa("lock"), Overloaded, True),
    ("openai", 413, oa("big"), InvalidRequest, False),
    ("openai", 422, oa("odd"), InvalidRequest, False),
    ("openai", 429, oa("slow down", "rate_limit_exceeded", "tokens"), RateLimited, True),
    (
        "openai",
        429,
        oa("Request too large for gpt-4o on tokens per min (TPM)", "rate_limit_exceeded"),
        RateLimited,
        False,
    ),
    (
        "openai",
        429,
        oa("You exceeded your current quota", "insufficient_quota", "insufficient_quota"),
        QuotaExhausted,
        False,
    ),
    ("openai", 500, oa("oops", None, "server_error"), Overloaded, True),
    ("openai", 501, oa("never"), Overloaded, False),
    ("openai", 502, b"<html>Bad Gateway</html>", Overloaded, True),
    ("openai", 503, b"", Overloaded, True),
    ("openai", 504, oa("late"), Overloaded, True),
    ("openai", 529, oa("busy"), Overloaded, True),
    ("openai", 200, oa("upstream", 502), Overloaded, True),
    ("openai", 200, oa("slow", 429), RateLimited, True),
    ("openai", 200, oa("slow", "rate_limit_exceeded", "rate_limit_exceeded"), RateLimited, True),
    ("openai", 200, {"error": "it broke"}, Overloaded, True),
    ("openai", 404, {"error": "model 'x' not found"}, InvalidRequest, False),
    (
        "openai",
        400,
        {"object": "error", "message": "maximum context length", "code": 40303},
        ContextWindowExceeded,
        False,
    ),
    ("openai", 422, {"detail": [{"loc": ["body"], "msg": "bad"}]}, InvalidRequest, False),
    (
        "openai",
        400,
        oa("the request exceeds the available context size", None, "exceed_context_size_error"),
        ContextWindowExceeded,
        False,
    ),
    ("openai", 307, b"", InvalidRequest, False),
    ("anthropic", 400, an("invalid_request_error"), InvalidRequest, False),
    (
        "anthropic",
        400,
        an("invalid_request_error", "prompt is too long: 9 tokens > 8 maximum"),
        ContextWindowExceeded,
        False,
    ),
    ("anthropic", 400, an("invalid_request_error", "Your credit balance is too low"), QuotaExhausted, False),
    ("anthropic", 401, an("authentication_error"), AuthError, False),
    ("anthropic", 402, an("billing_error"), QuotaExhausted, False),
    ("anthropic", 403, an("permission_error"), AuthError, False),
    ("anthropic", 404, an("not_found_error"), InvalidRequest, False),
    ("anthropic", 413, an("request_too_large"), InvalidRequest, False),
    ("anthropic", 429, an("rate_limit_error"), RateLimited, True),
    ("anthropic", 500, an("api_error"), Overloaded, True),
    ("anthropic", 504, an("timeout_error"), Overloaded, True),
    ("anthropic", 529, an("overloaded_error"), Overloaded, True),
    ("anthropic", 200, an("overloaded_error"), Overloaded, True),
    ("gemini", 400, ge("INVALID_ARGUMENT"), InvalidRequest, False),
    (
        "gemini",
        400,
        ge("INVALID_ARGUMENT", message="The input token count (9) exceeds the maximum number of tokens"),
        ContextWindowExceeded,
        False,
    ),
    ("gemini", 400, ge("INVALID_ARGUMENT", BAD_KEY), AuthError, False),
    ("gemini", 403, ge("PERMISSION_DENIED"), AuthError, False),
    ("gemini", 404, ge("NOT_FOUND"), InvalidRequest, False),
    (
        "gemini",
        429,
        ge("RESOURCE_EXHAUSTED", quota("GenerateRequestsPerMinutePerProjectPerModel"), RETRY_INFO),
        RateLimited,
        True,
    ),
    (
        "gemini",
        429,
        ge("RESOURCE_EXHAUSTED", quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier")),
        QuotaExhausted,
        False,
    ),
    ("gemini", 429, ge("RESOURCE_EXHAUSTED", message="You exceeded your current quota"), RateLimited, True),
    ("gemini", 500, ge("INTERNAL"), Overloaded, True),
    ("gemini", 503, [ge("UNAVAILABLE")], Overloaded, True),
    ("gemini", 504, ge("DEADLINE_EXCEEDED"), Overloaded, True),
    ("cohere", 400, {"message": "too many tokens: 9"}, ContextWindowExceeded, False),
    ("cohere", 401, {"message": "invalid api token"}, AuthError, False),
    ("cohere", 402, {"message": "billing"}, QuotaExhausted, False),
    ("cohere", 429, {"message": "Please wait", "id": "co9"}, RateLimited, True),
    (
        "cohere",
        429,
        {"message": "You are using a Trial key, which is limited to 1000 API calls / month"},
        QuotaExhausted,
        False,
    ),
    ("cohere", 503, {"message": "busy"}, Overloaded, True),
    ("cohere", 498, {"message": "blocked output: please try again"}, ContentBlocked, False),
    (
        "anthropic",
        400,
        an(
            "invalid_request_error",
            "input length and `max_tokens` exceed context limit: 178959 + 64000 > 200000, decrease input length",
        ),
        ContextWindowExceeded,
        False,
    ),
    (
        "anthropic",
        400,
        an("invalid_request_error", "max_tokens: 99999 > 8192, which is the maximum allowed number of output tokens"),
        InvalidRequest,
        False,
    ),
    (
        "anthropic",
        400,
        an("invalid_request_error", "Output blocked by content filtering policy"),
        ContentBlocked,
        False,
    ),
    ("openai", 400, oa("Invalid prompt: your prompt was flagged", "invalid_prompt"), ContentBlocked, False),
    ("openai", 400, oa("Invalid prompt: it is empty", "invalid_prompt"), InvalidRequest, False),
    ("openai", 400, oa("no", "cyber_policy_violation"), ContentBlocked, False),
    (
        "openai",
        403,
        oa("Your chosen model requires moderation and your input was flagged for violence", 403),
        ContentBlocked,
        False,
    ),
    ("openai", 403, oa("Your account has been suspended", 403), AuthError, False),
    (
        "openai",
        400,
        oa("This model's maximum prompt length is 131072 but the request contains 537812 tokens."),
        ContextWindowExceeded,
        False,
    ),
    ("openai", 200, {"choices": [{"error": {"code": 502, "message": "upstream died"}}]}, Overloaded, True),
    (
        "openai",
        200,
        {
            "choices": [
                {
                    "error": {"code": 429, "message": "Provider returned error", "metadata": {"raw": "slow down"}},
                    "finish_reason": "error",
                    "message": {"role": "assistant", "content": "half"},
                }
            ]
        },
        RateLimited,
        True,
    ),
    (
        "openai",
        400,
        {"error": {"message": "Provider returned error", "metadata": {"raw": "prompt is too long: 9 > 8"}}},
        ContextWindowExceeded,
        False,
    ),
]


@pytest.mark.parametrize(("name", "status", "body", "cls", "retryable"), TABLE)
def test_refusals(name: str, status: int, body: Any, cls: type[LMError], retryable: bool) -> None:
    error = refusal(name, status, body)
    assert type(error) is cls
    assert error.retryable is retryable
    assert error.status == status or status == 200
    assert "\n" not in error.message
    assert error.message.startswith(name)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "x", "retry-after": "9"}, 9.0),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Fri, 15 Jan 2027 08:00:30 GMT"}, 30.0),
        ({"retry-after": "Fri, 15 Jan 2027 07:00:00 GMT"}, 0.0),
        ({"retry-after": "Fri, 99 Jan 99999 07:00:00 GMT"}, None),
        ({}, None),
    ],
)
def test_the_wait_a_provider_asks_for(headers: dict[str, str], seconds: float | None) -> None:
    assert refusal("openai", 429, oa("x"), headers).retry_after == seconds


def test_gemini_says_its_wait_in_the_body() -> None:
    assert refusal("gemini", 429, ge("RESOURCE_EXHAUSTED", RETRY_INFO)).retry_after == 22.5
    for delay in ("-5s", "9" * 400 + "s", 5, [[]]):
        odd = {**RETRY_INFO, "retryDelay": delay}
        assert refusal("gemini", 429, ge("RESOURCE_EXHAUSTED", odd)).retry_after is None


@pytest.mark.parametrize(("advice", "retryable"), [("true", True), ("false", False), ("maybe", True)])
def test_a_provider_may_overrule_whether_to_ask_again(advice: str, retryable: bool) -> None:
    assert refusal("openai", 500, oa("x"), {"x-should-retry": advice}).retryable is retryable
    assert refusal("openai", 429, oa("x", "insufficient_quota"), {"x-should-retry": "true"}).retryable is False


def test_ids_and_codes_are_kept_for_the_providers_support() -> None:
    error = refusal("anthropic", 529, an("overloaded_error"))
    assert (error.request_id, error.code) == ("req_9", "overloaded_error")
    assert refusal("anthropic", 529, an("overloaded_error"), {"request-id": "h"}).request_id == "h"
    assert refusal("openai", 500, oa("x", "c"), {"x-request-id": "r"}).request_id == "r"


def test_a_redirect_is_named_without_its_path_and_query() -> None:
    error = refusal("openai", 307, b"", {"location": "https://evil.example/x?key=AIzaSyAbcdefghijklmnop"})
    assert "https://evil.example:" in error.message.replace("evil.example: ", "evil.example:")
    assert "AIza" not in error.message
    assert "base_url" in error.message


def test_a_wrong_path_hints_at_base_url() -> None:
    assert "base_url" in refusal("openai", 404, {"detail": "Not Found"}).message
    assert "base_url" in refusal("openai", 404, b"404 page not found").message


def test_long_and_many_line_words_become_one_short_line() -> None:
    error = refusal("openai", 500, oa("line\n" * 10_000))
    assert len(error.message) < 400
    assert "\n" not in error.message
