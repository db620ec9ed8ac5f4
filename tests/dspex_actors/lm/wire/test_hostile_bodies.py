"""Bodies that no provider would send, and some that one did: a reply comes out of them, or an LMError, quickly."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex_actors.errors import LMError
from dspex_actors.lm.wire import PROVIDERS
from dspex_actors.lm.wire.exchange import RawReply, WireReply

#: Every name that one of the parsers looks for.
NAMES = [
    "choices", "message", "content", "text", "type", "candidates", "parts", "usage", "error", "finish_reason",
    "promptFeedback", "finishReason", "code", "status", "details", "billed_units", "refusal", "stop_reason",
    "usageMetadata", "id", "model", "modelVersion", "responseId", "metadata", "raw", "detail", "tool_calls",
    "service_tier", "speed", "thought", "functionCall", "blockReason", "@type", "retryDelay", "violations", "quotaId",
    "cache_creation",
    "promptTokensDetails", "prompt_tokens_details", "request_id", "serviceTier", "tokens",
]  # fmt: skip
#: One value of each JSON type, and the odd ones of each.
ODD: list[Any] = [
    None, True, False, 0, -1, 2**63, 1.5, 1e308, "", "text", "\u0000", "error", "9" * 400 + "s", [], [[]], [None], [5],
    {}, {"": {}}, {"message": []}, [{"text": {}}],
]  # fmt: skip
#: A body of each provider that says as much as it can.
FULL: dict[str, dict[str, Any]] = {
    "openai": {
        "id": "c1",
        "model": "m",
        "service_tier": "flex",
        "choices": [
            {"message": {"content": [{"type": "text", "text": "a"}], "refusal": None}, "finish_reason": "stop"}
        ],
        "usage": {
            "prompt_tokens": 1,
            "completion_tokens": 1,
            "prompt_tokens_details": {"cached_tokens": 1},
            "completion_tokens_details": {"reasoning_tokens": 1},
        },
    },
    "anthropic": {
        "id": "m1",
        "type": "message",
        "model": "m",
        "content": [{"type": "text", "text": "a"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 1, "cache_creation": {"ephemeral_1h_input_tokens": 1}, "speed": "fast"},
    },
    "gemini": {
        "candidates": [{"content": {"parts": [{"text": "a", "thought": False}]}, "finishReason": "STOP"}],
        "promptFeedback": {"blockReason": "x"},
        "usageMetadata": {"promptTokenCount": 1, "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 1}]},
        "modelVersion": "m",
        "responseId": "r",
    },
    "cohere": {
        "id": "c",
        "finish_reason": "COMPLETE",
        "message": {"content": [{"type": "text", "text": "a"}], "tool_calls": []},
        "usage": {"billed_units": {"input_tokens": 1}, "tokens": {"input_tokens": 1}, "cached_tokens": 0},
    },
}
FULL["embedded"] = FULL["openai"]
REFUSALS: list[Any] = [
    {
        "error": {
            "code": 429,
            "message": "m",
            "status": "S",
            "type": "t",
            "metadata": {"raw": "r"},
            "details": [
                {"@type": "x/google.rpc.RetryInfo", "retryDelay": "1s"},
                {"@type": "x/google.rpc.QuotaFailure", "violations": [{"quotaId": "PerDay"}]},
            ],
        },
        "request_id": "r",
    },
    [{"error": {"code": 400, "message": "m"}}],
    {"detail": [{"loc": ["a"], "msg": "b"}]},
]


def outcome(name: str, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
    """Read a body; whatever comes out must be a whole reply or a whole error."""
    reply: WireReply | None = None
    error: LMError | None = None
    try:
        reply = PROVIDERS[name].read(RawReply(status, headers or {}, body), now=0.0)
    except LMError as caught:
        error = caught
    if error is not None:
        record = error.to_record()
        assert record["message"]
        assert len(record["message"]) < 1000
        assert error.retryable is not None
        assert error.__context__ is None
        assert error.__cause__ is None
        orjson.dumps(record)  # it can be kept
        return
    assert reply is not None
    assert status == 200
    assert isinstance(reply.text, str)
    orjson.dumps(reply)  # no half surrogate, no number that is none
    for told in (reply.finish_reason, reply.model, reply.request_id, reply.tier):
        assert told is None or (isinstance(told, str) and told)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Return the way to every value within a value."""
    yield path
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(item, (*path, key))


def with_at(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """Return a copy of a value with another one in one place; `...` takes the place away."""
    if not path:
        return None if new is ... else new
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    if len(path) == 1 and new is ...:
        del copy[path[0]]
    else:
        copy[path[0]] = with_at(value[path[0]], path[1:], new)
    return copy


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_json_type_in_every_place(name: str) -> None:
    for body, statuses in ((FULL[name], (200,)), *((refusal, (200, 400, 403, 429, 503)) for refusal in REFUSALS)):
        for path in places(body):
            for new in (..., *ODD):
                data = orjson.dumps(with_at(body, path, new))
                for status in statuses:
                    outcome(name, data, status)


@pytest.mark.parametrize("name", PROVIDERS)
def test_cut_off_anywhere(name: str) -> None:
    for body in (FULL[name], *REFUSALS):
        data = orjson.dumps(body)
        for end in range(len(data)):
            outcome(name, data[:end])
            outcome(name, data[:end], 500)
            outcome(name, data[end:])


DEEP = 100_000
BYTES: dict[str, bytes] = {
    "empty": b"",
    "blanks": b" \n\t ",
    "NUL": b"\0" * 1000,
    "BOM only": b"\xef\xbb\xbf",
    "UTF-16 BOM only": b"\xff\xfe",
    "UTF-32": '{"a": 1}'.encode("utf-32"),
    "NaN": b"NaN",
    "infinity": b"[-Infinity]",
    "1e400": b'{"usage": {"prompt_tokens": 1e400}, "choices": [{"message": {"content": 1e400}}]}',
    "long number": b'{"code": ' + b"9" * 10_000 + b"}",
    "deep lists": b"[" * DEEP + b"]" * DEEP,
    "deep objects": b'{"error":' * DEEP + b"1" + b"}" * DEEP,
    "deep in a place": b'{"error": {"message": ' + b"[" * DEEP + b"]" * DEEP + b"}}",
    "rather deep": b'{"error": {"detail": ' + b"[" * 900 + b"]" * 900 + b"}}",
    "rather deep text": b'{"choices": [{"message": {"content": [{"type": "text", "text": '
    + b"[" * 900 + b"]" * 900 + b"}]}}]}",
    "rather deep and odd": b'{"detail": ' + b"[" * 900 + b"NaN" + b"]" * 900 + b"}",
    "many braces": b"{" * 1_000_000,
    "large page": b"<html>" + b"x" * 5_000_000 + b"</html>",
    "large text": b'"' + b"x" * 5_000_000 + b'"',
    "large and odd": b"[NaN" + b",1" * 300_000 + b"]",
    "half surrogates": rb'{"error": {"message": "\ud83d", "code": "\udc00", "\ud800": 1}}',
    "raw surrogate": b'{"error": "\xed\xa0\xbd"}',
    "binary": bytes(range(256)) * 100,
    "gzip": b"\x1f\x8b\x08\x00" + bytes(100),
    "event stream": b'data: {"choices": []}\n\ndata: [DONE]\n\n',
    "twice": b'{"a": 1}{"b": 2}',
    "duplicate keys": b'{"choices": [], "choices": 5}',
}  # fmt: skip


@pytest.mark.parametrize("kind", BYTES)
@pytest.mark.parametrize("name", PROVIDERS)
def test_odd_bytes(name: str, kind: str) -> None:
    began = time.process_time()
    for status in (200, 400, 401, 429, 500, 302):
        outcome(name, BYTES[kind], status, {"content-type": "text/html; charset=x", "retry-after": "\x00"})
    assert time.process_time() - began < 5.0


json_values = st.recursive(
    st.sampled_from(ODD) | st.floats(allow_nan=True, allow_infinity=True) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=15,
)


@settings(deadline=None)
@given(st.sampled_from(list(PROVIDERS)), json_values, st.sampled_from([200, 400, 429, 500]))
def test_any_json(name: str, value: Any, status: int) -> None:
    outcome(name, json.dumps(value).encode(), status)


@settings(deadline=None)
@given(st.sampled_from(list(PROVIDERS)), st.binary(max_size=200), st.sampled_from([200, 400, 503]))
def test_any_bytes(name: str, body: bytes, status: int) -> None:
    outcome(name, body, status)
