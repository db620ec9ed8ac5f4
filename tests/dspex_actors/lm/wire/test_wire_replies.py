"""Answers as the providers document them, and answers that nobody documents."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

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
    reply = read("anthropic", body)
    assert (reply.text, reply.usage, reply.finish_reason) == ("ab", Usage(135, 100, 10, 7), "length")
    assert (reply.model, reply.request_id) == ("claude-x", "msg_1")


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
    reply = read("gemini", body)
    assert (reply.text, reply.usage, reply.finish_reason) == ("ab", Usage(12, 4, 0, 12, 5, 3), "stop")
    assert (reply.model, reply.request_id) == ("gemini-2.5-flash", "r1")


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
    reply = read("cohere", body)
    assert (reply.text, reply.usage, reply.finish_reason) == ("hi", Usage(11, output_total=7), "stop")
    assert (reply.model, reply.request_id) == (None, "co1")


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
        ("gemini", {"candidates": [{"finishReason": "STOP"}]}, Overloaded, "answered nothing: STOP"),
        ("gemini", {"candidates": [{"finishReason": "STOP", "content": {"role": "model"}}]}, Overloaded, "nothing"),
        ("gemini", {"candidates": [{"content": {"parts": []}}]}, Overloaded, "no reason given"),
        (
            "gemini",
            {"candidates": [{"finishReason": "STOP", "content": {"parts": [{"text": "hm", "thought": True}]}}]},
            Overloaded,
            "answered nothing",
        ),
        (
            "openai",
            {"choices": [{"message": {"content": "half"}, "finish_reason": "error"}]},
            Overloaded,
            "in the middle",
        ),
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


TOLD = {
    "openai": {"usage": {"prompt_tokens": 9, "completion_tokens": 4}},
    "anthropic": {"usage": {"input_tokens": 9, "output_tokens": 4}},
    "gemini": {"usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 1, "thoughtsTokenCount": 3}},
    "cohere": {"usage": {"billed_units": {"input_tokens": 9, "output_tokens": 4}}},
}
TOLD["embedded"] = TOLD["openai"]
#: Replies that are refusals, by provider.
REFUSALS: dict[str, dict[str, Any]] = {
    "openai": {"choices": [{"message": {"content": ""}, "finish_reason": "content_filter"}]},
    "anthropic": {"content": [], "stop_reason": "refusal"},
    "gemini": {"promptFeedback": {"blockReason": "SAFETY"}},
    "cohere": {"message": {"content": []}, "finish_reason": "ERROR_TOXIC"},
}
REFUSALS["embedded"] = REFUSALS["openai"]


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize(
    ("status", "body"), [(200, None), (200, {"error": {"message": "upstream", "code": 502}}), (500, {"message": "x"})]
)
def test_what_failed_and_was_billed_says_so(name: str, status: int, body: dict[str, Any] | None) -> None:
    data = {**(REFUSALS[name] if body is None else body), **TOLD[name]}
    with pytest.raises(LMError) as caught:
        PROVIDERS[name].read(RawReply(status, {}, orjson.dumps(data)), now=0.0)
    usage = Usage.from_dict(caught.value.usage or {})
    assert (usage.input_total, usage.output_total, usage.estimated) == (9, 4, False)
    assert LMError("x").usage is None


def test_cohere_calls_a_tool_without_saying_anything() -> None:
    body = {"message": {"role": "assistant", "tool_calls": [{"id": "f"}], "tool_plan": "I will"}, "id": "c"}
    reply = read("cohere", {**body, "finish_reason": "TOOL_CALL"})
    assert (reply.text, reply.finish_reason) == ("", "tool_calls")
    assert read("cohere", {"message": {"role": "assistant"}, "finish_reason": "MAX_TOKENS"}).finish_reason == "length"


CUT: dict[str, dict[str, Any]] = {
    "openai": {"choices": [{"message": {"content": "x"}, "finish_reason": "length"}]},
    "anthropic": {"content": [{"type": "text", "text": "x"}], "stop_reason": "max_tokens"},
    "gemini": {"candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": "MAX_TOKENS"}]},
    "cohere": {"message": {"content": [{"type": "text", "text": "x"}]}, "finish_reason": "MAX_TOKENS"},
}
CUT["embedded"] = CUT["openai"]


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_reply_that_was_cut_has_the_same_word_for_it_everywhere(name: str) -> None:
    assert (read(name, CUT[name]).text, read(name, CUT[name]).finish_reason) == ("x", "length")


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("STOP", "stop"),
        ("end_turn", "stop"),
        ("eos", "stop"),
        ("COMPLETE", "stop"),
        ("model_length", "length"),
        ("max_tokens", "length"),
        ("MAX_TOKENS", "length"),
        ("tool_use", "tool_calls"),
        ("Abort", "abort"),
        ("", None),
        (7, None),
    ],
)
def test_servers_that_speak_openais_format_keep_other_words(said: Any, means: str | None) -> None:
    assert read("openai", {"choices": [{"message": {"content": "x"}, "finish_reason": said}]}).finish_reason == means


def test_a_function_call_of_gemini_is_a_tool_call() -> None:
    parts = [{"functionCall": {"name": "f", "args": {}}}]
    reply = read("gemini", {"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}]})
    assert (reply.text, reply.finish_reason) == ("", "tool_calls")


@pytest.mark.parametrize(
    ("name", "more", "tier"),
    [
        ("openai", {"service_tier": "default"}, None),
        ("openai", {"service_tier": None}, None),
        ("openai", {"service_tier": "flex"}, "flex"),
        ("openai", {"service_tier": "priority"}, "priority"),
        ("anthropic", {"usage": {"service_tier": "standard"}}, None),
        ("anthropic", {"usage": {"service_tier": "batch"}}, "batch"),
        ("anthropic", {"usage": {"service_tier": "standard", "speed": "fast"}}, "fast"),
        ("gemini", {"usageMetadata": {"serviceTier": "FLEX"}}, "flex"),
    ],
)
def test_how_a_reply_is_billed(name: str, more: dict[str, Any], tier: str | None) -> None:
    assert read(name, {**CUT[name], **more}).tier == tier


def test_an_hour_in_anthropics_cache_is_counted_apart() -> None:
    usage = {
        "input_tokens": 5,
        "cache_creation_input_tokens": 30,
        "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
        "output_tokens": 7,
    }
    told = read("anthropic", {**CUT["anthropic"], "usage": usage}).usage
    assert told == Usage(35, cache_write=30, cache_write_1h=20, output_total=7)


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_reply_is_read_as_the_sdks_read_it(name: str) -> None:
    text = orjson.dumps(CUT[name]).decode().replace('"x"', r'"a\ud83d b \ud83d\ude00"')
    odd = text[:-1] + ', "extra": NaN, "more": [-Infinity, 1e400, 123456789012345678901234567890]}'
    for data in (odd.encode(), b"\xef\xbb\xbf" + odd.encode(), odd.encode("utf-16"), b"\n" + odd.encode() + b"\r\n"):
        assert read(name, data).text == "a\ufffd b \U0001f600"
    broken = orjson.dumps(CUT[name]).replace(b'"x"', b'"\xff"')
    assert read(name, broken).text == "\ufffd"
