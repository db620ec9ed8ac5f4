"""Golden requests: what goes over the wire, per provider."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from dspex_actors.errors import InvalidRequest
from dspex_actors.lm.wire import PROVIDERS

PNG = "data:image/png;base64,iVBORw0="
PDF = "data:application/pdf;base64,JVBERi0="
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "What is it?"},
            {"type": "image_url", "image_url": {"url": PNG}},
        ],
    },
]
PARAMS = {
    "temperature": 0.5,
    "max_tokens": 64,
    "stop": "END",
    "top_p": 0.9,
    "rollout_id": 3,
    "unknown": {"a": 1},
}

GOLDEN: dict[str, tuple[str, dict[str, Any]]] = {
    "openai": (
        "/chat/completions",
        {
            "model": "m-1",
            "messages": CHAT,
            "temperature": 0.5,
            "max_tokens": 64,
            "stop": "END",
            "top_p": 0.9,
            "unknown": {"a": 1},
        },
    ),
    "embedded": (
        "/chat/completions",
        {
            "model": "m-1",
            "messages": CHAT,
            "temperature": 0.5,
            "max_tokens": 64,
            "stop": "END",
            "top_p": 0.9,
            "unknown": {"a": 1},
        },
    ),
    "anthropic": (
        "/v1/messages",
        {
            "model": "m-1",
            "system": "Be brief.",
            "max_tokens": 64,
            "temperature": 0.5,
            "top_p": 0.9,
            "stop_sequences": ["END"],
            "unknown": {"a": 1},
            "messages": [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Hello"},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is it?"},
                        {
                            "type": "image",
                            "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0="},
                        },
                    ],
                },
            ],
        },
    ),
    "gemini": (
        "/v1beta/models/m-1:generateContent",
        {
            "systemInstruction": {"parts": [{"text": "Be brief."}]},
            "contents": [
                {"role": "user", "parts": [{"text": "Hi"}]},
                {"role": "model", "parts": [{"text": "Hello"}]},
                {
                    "role": "user",
                    "parts": [
                        {"text": "What is it?"},
                        {"inlineData": {"mimeType": "image/png", "data": "iVBORw0="}},
                    ],
                },
            ],
            "generationConfig": {
                "temperature": 0.5,
                "maxOutputTokens": 64,
                "stopSequences": ["END"],
                "topP": 0.9,
            },
            "unknown": {"a": 1},
        },
    ),
    "cohere": (
        "/v2/chat",
        {
            "model": "m-1",
            "messages": CHAT,
            "temperature": 0.5,
            "max_tokens": 64,
            "stop_sequences": ["END"],
            "p": 0.9,
            "unknown": {"a": 1},
        },
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_a_whole_request_is_as_the_provider_documents_it(name: str) -> None:
    request = PROVIDERS[name].build("m-1", CHAT, PARAMS)
    path, body = GOLDEN[name]
    assert request.path == path
    assert orjson.loads(request.body) == body
    assert request.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("name", "header", "prefix"),
    [
        ("openai", "authorization", "Bearer "),
        ("cohere", "authorization", "Bearer "),
        ("anthropic", "x-api-key", ""),
        ("gemini", "x-goog-api-key", ""),
    ],
)
def test_the_key_goes_into_a_header_and_never_into_the_address(name: str, header: str, prefix: str) -> None:
    request = PROVIDERS[name].build("m", CHAT[:2], {})
    assert (request.key_header, request.key_prefix) == (header, prefix)
    assert header not in request.headers
    assert "?" not in request.path


@pytest.mark.parametrize(
    ("model", "field"),
    [
        ("gpt-4o", "max_tokens"),
        ("o3-mini", "max_completion_tokens"),
        ("gpt-5-nano", "max_completion_tokens"),
        ("openai/o4-mini", "max_completion_tokens"),
        ("ft:gpt-4o:me", "max_tokens"),
        ("phi-o3", "max_tokens"),
    ],
)
def test_reasoning_models_get_the_new_name_of_max_tokens(model: str, field: str) -> None:
    body = orjson.loads(PROVIDERS["openai"].build(model, CHAT[:2], {"max_tokens": 9}).body)
    assert {k: v for k, v in body.items() if k.startswith("max")} == {field: 9}


def test_anthropic_always_gets_max_tokens_and_its_version() -> None:
    request = PROVIDERS["anthropic"].build("m", CHAT[1:2], {})
    body = orjson.loads(request.body)
    assert body["max_tokens"] == 4096
    assert "system" not in body
    assert request.headers["anthropic-version"] == "2023-06-01"


def test_a_model_in_a_path_cannot_lead_elsewhere() -> None:
    assert PROVIDERS["gemini"].path("../../evil?x=1#") == "/v1beta/models/..%2F..%2Fevil%3Fx%3D1%23:generateContent"
    assert PROVIDERS["gemini"].path("models/gemini-2.5-pro") == "/v1beta/models/gemini-2.5-pro:generateContent"


def test_gemini_takes_json_output_audio_and_files() -> None:
    parts = [
        {"type": "input_audio", "input_audio": {"data": "AAA", "format": "wav"}},
        {"type": "file", "file": {"file_data": PDF}},
        {"fileData": {"mimeType": "video/mp4", "fileUri": "https://files/x"}},
    ]
    params = {
        "response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}},
        "generationConfig": {"thinkingConfig": {"thinkingBudget": 0}},
    }
    body = orjson.loads(PROVIDERS["gemini"].build("m", [{"role": "user", "content": parts}], params).body)
    assert body["contents"][0]["parts"] == [
        {"inlineData": {"mimeType": "audio/wav", "data": "AAA"}},
        {"inlineData": {"mimeType": "application/pdf", "data": "JVBERi0="}},
        parts[2],
    ]
    assert body["generationConfig"] == {
        "responseMimeType": "application/json",
        "responseJsonSchema": {"type": "object"},
        "thinkingConfig": {"thinkingBudget": 0},
    }


def test_anthropic_takes_image_addresses_documents_and_its_own_parts() -> None:
    own = {"type": "text", "text": "long", "cache_control": {"type": "ephemeral"}}
    parts = [
        {"type": "image_url", "image_url": "https://x/y.png"},
        {"type": "file", "file": {"file_data": PDF}},
        own,
    ]
    body = orjson.loads(PROVIDERS["anthropic"].build("m", [{"role": "user", "content": parts}], {}).body)
    assert body["messages"][0]["content"] == [
        {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
        },
        own,
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("anthropic", {"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}),
        ("anthropic", {"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}),
        ("anthropic", {"role": "tool", "content": "x"}),
        ("gemini", {"role": "tool", "content": "x"}),
        (
            "gemini",
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://10.0.0.1/x"}}]},
        ),
        ("cohere", {"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}),
        ("openai", {"role": "user", "content": object()}),
        ("openai", {"role": "user", "content": "\ud800"}),
        ("gemini", {"role": "user", "content": 5}),
        ("gemini", {"role": "user", "content": [{"type": "image_url"}]}),
        ("gemini", {"role": "user", "content": [5]}),
        ("anthropic", {"content": "no role"}),
    ],
)
def test_what_a_provider_cannot_be_told_is_an_invalid_request_before_anything_is_sent(name: str, message: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        PROVIDERS[name].build("m", [message], {})
    assert caught.value.retryable is False
    assert caught.value.__context__ is None
