"""Answers as the providers document them, and answers that nobody documents."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_actors.errors import ContentBlocked, LMError, Overloaded, StreamTruncated, Timeout
from dspex_actors.lm.usage import Usage
from dspex_actors.lm.wire import PROVIDERS
from dspex_actors.lm.wire.exchange import RawReply, WireReply


def read(name: str, body: Any, headers: dict[str, str] | None = None) -> WireReply:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    return PROVIDERS[name].read(RawReply(200, headers or {}, data), now=0.0)


def openai(message: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": "c1", "model": "m-2024", "choices": [{"message": message, "finish_reason": "stop"}], **more}


def test_openai() -> None:
    usage = {
        "prompt_tokens": 25,
        "completion_tokens": 110,
        "total_tokens": 135,
        "prompt_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 2, "audio_tokens": 1},
        "completion_tokens_details": {"reasoning_tokens": 30, "audio_tokens": 2},
    }
    reply = read("openai", openai({"content": "hi", "refusal": None}, usage=usage), {"x-request-id": "req_1"})
    assert reply == WireReply("hi", Usage(25, 5, 2, 110, 30, 3), "stop", "m-2024", "req_1")


def test_anthropic_counts_cached_tokens_outside_of_its_input() -> None:
    body = {
        "id": "msg_1",
        "type": "message",
        "model": "claude-x",
        "stop_reason": "max_tokens",
        "content": [
            {"type": "thinking", "thinking": "hm"},
            {"type": "text", "text": "a"},
            {"type": "text", "text": "b"},
            {"type": "tool_use", "id": "t", "name": "f", "input": {}},
            {"type": "new"},
        ],
        "usage": {
            "input_tokens": 25,
            "cache_creation_input_tokens": 10,
            "cache_read_input_tokens": 100,
            "output_tokens": 7,
        },
    }
    assert read("anthropic", body) == WireReply("ab", Usage(135, 100, 10, 7), "length", "claude-x", "msg_1")


def test_gemini_counts_thoughts_outside_of_its_candidates() -> None:
    body = {
        "candidates": [
            {
                "content": {
                    "role": "model",
                    "parts": [{"text": "think", "thought": True}, {"text": "a"}, {"text": "b"}],
                },
                "finishReason": "STOP",
            }
        ],
        "usageMetadata": {
            "promptTokenCount": 11,
            "cachedContentTokenCount": 4,
            "candidatesTokenCount": 7,
            "thoughtsTokenCount": 5,
            "toolUsePromptTokenCount": 1,
            "totalTokenCount": 24,
            "promptTokensDetails": [
                {"modality": "AUDIO", "tokenCount": 3},
                {"modality": "TEXT", "tokenCount": 8},
            ],
        },
        "modelVersion": "gemini-2.5-flash",
        "responseId": "r1",
    }
    assert read("gemini", body) == WireReply("ab", Usage(12, 4, 0, 12, 5, 3), "stop", "gemini-2.5-flash", "r1")


def test_cohere_is_counted_as_billed() -> None:
    body = {
        "id": "co1",
        "finish_reason": "COMPLETE",
        "message": {
            "role": "assistant",
            "content": [{"type": "thinking", "thinking": "x"}, {"type": "text", "text": "hi"}],
        },
        "usage": {
            "billed_units": {"input_tokens": 11.0, "output_tokens": 7.0},
            "tokens": {"input_tokens": 80, "output_tokens": 9},
        },
    }
    assert read("cohere", body) == WireReply("hi", Usage(11, output_total=7), "stop", None, "co1")


@pytest.mark.parametrize(
    ("body", "text", "finish"),
    [
        (openai({"content": None}), "", "stop"),
        (openai({}), "", "stop"),
        (openai({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}), "ab", "stop"),
        ({"choices": [{"message": {"content": "x"}, "finish_reason": ""}]}, "x", None),
        (
            {"choices": [{"message": {"content": "x"}, "finish_reason": "function_call"}], "usage": None},
            "x",
            "tool_calls",
        ),
        ({"choices": [{"message": {"content": "x"}}], "error": None}, "x", None),
    ],
)
def test_compatible_servers_may_leave_things_out(body: Any, text: str, finish: str | None) -> None:
    reply = read("openai", body)
    assert (reply.text, reply.finish_reason, reply.usage) == (text, finish, None)


@pytest.mark.parametrize("value", [None, -1, "12", True, 1e300, [], {}])
def test_a_count_that_is_none_is_zero(value: Any) -> None:
    reply = read("openai", openai({"content": "x"}, usage={"prompt_tokens": value, "completion_tokens": 3}))
    assert reply.usage == Usage(0, output_total=3)


@pytest.mark.parametrize(
    ("name", "body", "error", "words"),
    [
        (
            "openai",
            {"choices": [{"message": {"content": ""}, "finish_reason": "content_filter"}]},
            ContentBlocked,
            "filter",
        ),
        ("openai", openai({"content": None, "refusal": "I cannot"}), ContentBlocked, "I cannot"),
        ("openai", {"choices": []}, Overloaded, "without a choice"),
        ("anthropic", {"content": [], "stop_reason": "refusal"}, ContentBlocked, "refused"),
        (
            "gemini",
            {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {}},
            ContentBlocked,
            "SAFETY",
        ),
        ("gemini", {"usageMetadata": {"promptTokenCount": 4}}, ContentBlocked, "no reason"),
        ("gemini", {"candidates": [{"finishReason": "PROHIBITED_CONTENT"}]}, ContentBlocked, "PROHIBITED"),
        (
            "gemini",
            {"candidates": [{"finishReason": "RECITATION", "content": {"parts": [{"text": "x"}]}}]},
            ContentBlocked,
            "RECI",
        ),
        ("gemini", {"candidates": [{"finishReason": "MALFORMED_RESPONSE"}]}, Overloaded, "MALFORMED"),
        ("cohere", {"message": {"content": []}, "finish_reason": "ERROR"}, Overloaded, "failed"),
        ("cohere", {"message": {"content": []}, "finish_reason": "TIMEOUT"}, Timeout, "in time"),
    ],
)
def test_a_refusal_may_come_with_status_200(name: str, body: Any, error: type[LMError], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        read(name, body)
    assert caught.value.status == 200
    assert caught.value.retryable is not (error is ContentBlocked)


def test_gemini_out_of_room_while_thinking_is_an_empty_reply() -> None:
    assert read("gemini", {"candidates": [{"finishReason": "MAX_TOKENS", "content": {}}]}).finish_reason == "length"


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        (
            b"<!doctype html><title>Welcome</title>",
            Overloaded,
            "not JSON: '<!doctype html><title>.*base_url right",
        ),
        (b"", Overloaded, "empty body"),
        (b"\xff\xfe\x00", Overloaded, "not JSON"),
        (b"[]", Overloaded, "not one of its replies"),
        (b"5", Overloaded, "not one of its replies"),
        (b"{}", Overloaded, "not one of its replies"),
        (
            b'{"choices": "x", "content": 5, "candidates": 5, "message": 7}',
            Overloaded,
            "not one of its replies|answered",
        ),
        (b'{"choices": [{"message": {"content": "half of a rep', StreamTruncated, "ends in the middle"),
        (b'{"a": 1}}}', Overloaded, "not JSON"),
        (b"[" * 100_000 + b"]" * 100_000, Overloaded, "not JSON"),
    ],
)
def test_what_is_no_reply_is_said_so_and_may_be_asked_again(name: str, body: bytes, error: Any, words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        read(name, body)
    assert caught.value.retryable is True
    assert caught.value.__context__ is None
    assert len(caught.value.message) < 400


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 10**12)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "message",
                    "content",
                    "text",
                    "type",
                    "candidates",
                    "parts",
                    "usage",
                    "error",
                    "finish_reason",
                    "promptFeedback",
                    "finishReason",
                    "code",
                    "status",
                    "details",
                    "billed_units",
                    "refusal",
                    "stop_reason",
                    "usageMetadata",
                    "id",
                    "model",
                    "modelVersion",
                    "responseId",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@given(st.sampled_from(list(PROVIDERS)), json_values, st.sampled_from([200, 400, 429, 500]))
def test_no_json_at_all_does_anything_but_answer_or_raise_an_lm_error(name: str, value: Any, status: int) -> None:
    reply = error = None
    try:
        reply = PROVIDERS[name].read(RawReply(status, {}, orjson.dumps(value)), now=0.0)
    except LMError as exc:
        error = exc
    if error is not None:
        assert error.to_record()["message"]
        assert error.retryable is not None
    assert reply is None or isinstance(reply.text, str)
    for told in (reply.finish_reason, reply.model, reply.request_id) if reply else ():
        assert told is None or isinstance(told, str)
