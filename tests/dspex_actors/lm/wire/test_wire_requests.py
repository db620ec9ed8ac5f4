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
    ("name", "url", "expected"),
    [
        ("openai", "https://api.openai.com/v1", ("authorization", "Bearer ")),
        ("openai", "https://me.openai.azure.com/openai/deployments/d?api-version=1", ("api-key", "")),
        ("openai", "https://evil.example/.azure.com", ("authorization", "Bearer ")),
        ("anthropic", "https://me.services.ai.azure.com/anthropic", ("x-api-key", "")),
    ],
)
def test_azure_has_a_header_of_its_own_for_keys(name: str, url: str, expected: tuple[str, str]) -> None:
    assert PROVIDERS[name].key(url) == expected


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
        ("anthropic", {"role": "user", "content": [{"type": "file", "file": {"filename": "f"}}]}),
        ("anthropic", {"role": "tool", "content": "x"}),
        ("gemini", {"role": "tool", "content": "x"}),
        (
            "gemini",
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://10.0.0.1/x"}}]},
        ),
        ("cohere", {"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}),
        ("openai", {"role": "user", "content": object()}),
        ("anthropic", {"role": "system", "content": [{"type": "image_url", "image_url": {"url": PNG}}]}),
        ("gemini", {"role": "system", "content": [{"type": "image_url", "image_url": {"url": PNG}}]}),
        ("anthropic", {"role": "assistant", "tool_calls": [{"id": "1"}]}),
        ("gemini", {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[1]"}}]}),
        ("anthropic", {"role": "function", "content": "x"}),
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


CACHED = {"type": "text", "text": "long", "cache_control": {"type": "ephemeral"}}


def body(name: str, messages: list[Any], **params: Any) -> dict[str, Any]:
    data: dict[str, Any] = orjson.loads(PROVIDERS[name].build("m", messages, params).body)
    return data


def test_a_cache_mark_in_a_system_message_gets_to_anthropic_and_to_nobody_who_does_not_know_it() -> None:
    chat = [{"role": "system", "content": "a"}, {"role": "system", "content": [CACHED]}, CHAT[1]]
    assert body("anthropic", chat)["system"] == [{"type": "text", "text": "a"}, CACHED]
    assert body("gemini", chat)["systemInstruction"] == {"parts": [{"text": "a"}, {"text": "long"}]}
    assert body("cohere", chat)["messages"][1] == {"role": "system", "content": [{"type": "text", "text": "long"}]}
    assert body("openai", chat)["messages"] == chat
    plain = [{"role": "system", "content": "a"}, {"role": "developer", "content": [{"type": "text", "text": "b"}]}]
    assert body("anthropic", [*plain, CHAT[1]])["system"] == "a\n\nb"


CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
TOOL_CHAT = [
    {"role": "user", "content": "1+1?"},
    {"role": "assistant", "content": "let me see", "tool_calls": [CALL, {**CALL, "id": "c2"}]},
    {"role": "tool", "tool_call_id": "c1", "content": '{"sum": 2}'},
    {"role": "tool", "tool_call_id": "c2", "content": "two"},
]


def test_tool_calls_and_their_results_are_told_to_everybody() -> None:
    assert body("openai", TOOL_CHAT)["messages"] == TOOL_CHAT
    assert body("cohere", TOOL_CHAT)["messages"] == TOOL_CHAT
    use = {"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 1}}
    assert body("anthropic", TOOL_CHAT)["messages"][1:] == [
        {"role": "assistant", "content": [{"type": "text", "text": "let me see"}, use, {**use, "id": "c2"}]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": '{"sum": 2}'},
                {"type": "tool_result", "tool_use_id": "c2", "content": "two"},
            ],
        },
    ]
    call = {"functionCall": {"id": "c1", "name": "add", "args": {"a": 1}}}
    other = {"functionCall": {"id": "c2", "name": "add", "args": {"a": 1}}}
    assert body("gemini", TOOL_CHAT)["contents"][1:] == [
        {"role": "model", "parts": [{"text": "let me see"}, call, other]},
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "c1", "name": "add", "response": {"sum": 2}}},
                {"functionResponse": {"id": "c2", "name": "add", "response": {"result": "two"}}},
            ],
        },
    ]
    for nothing in (None, "", []):
        silent = [{"role": "assistant", "content": nothing, "tool_calls": [CALL]}]
        assert body("anthropic", silent)["messages"][0]["content"] == [use]
        assert body("gemini", silent)["contents"][0]["parts"] == [call]


def test_a_tool_may_answer_with_a_picture_where_that_can_be_said() -> None:
    seen = [TOOL_CHAT[1], {"role": "tool", "tool_call_id": "c1", "content": CHAT[3]["content"]}]
    result = body("anthropic", seen)["messages"][1]["content"][0]
    assert [part["type"] for part in result["content"]] == ["text", "image"]
    with pytest.raises(InvalidRequest, match="only be text"):
        body("gemini", seen)


def test_tools_are_declared_in_each_providers_words() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    tool = {"type": "function", "function": {"name": "add", "description": "adds", "parameters": schema}}
    chosen = {"type": "function", "function": {"name": "add"}}
    own = {"type": "web_search_20250305", "name": "web_search"}
    sent = body("anthropic", CHAT[1:2], tools=[tool, own], tool_choice=chosen)
    assert sent["tools"] == [{"name": "add", "description": "adds", "input_schema": schema}, own]
    assert sent["tool_choice"] == {"type": "tool", "name": "add"}
    assert body("anthropic", CHAT[1:2], tools=[tool], tool_choice="required")["tool_choice"] == {"type": "any"}
    sent = body("gemini", CHAT[1:2], tools=[tool, {"googleSearch": {}}], tool_choice=chosen)
    declared = {"name": "add", "description": "adds", "parametersJsonSchema": schema}
    assert sent["tools"] == [{"functionDeclarations": [declared]}, {"googleSearch": {}}]
    assert sent["toolConfig"] == {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["add"]}}
    with pytest.raises(InvalidRequest, match="tool_choice can be auto"):
        body("gemini", CHAT[1:2], tools=[tool], tool_choice=5)


@pytest.mark.parametrize("name", PROVIDERS)
def test_half_a_surrogate_pair_is_sent_as_a_replacement_and_two_halves_as_one_character(name: str) -> None:
    data = PROVIDERS[name].body("m", [{"role": "user", "content": "a\ud83d b \ud83d\ude00"}], {"user": "\udc00"})
    assert "a\ufffd b \U0001f600" in data.decode()
    assert "\ud83d" not in data.decode()
