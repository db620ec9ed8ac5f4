"""Requests are what the providers' own SDKs take them to be: each is skipped where it is not installed.

They are no dependency: `pip install openai anthropic google-genai cohere`, and run this file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import orjson
import pytest
from pydantic import TypeAdapter

from dspex_actors.lm.content import Audio, File, Image, Message, Text, Thinking, ToolCall, ToolResult
from dspex_actors.lm.settings import messages
from dspex_actors.lm.wire import PROVIDERS, Provider, Responses

PNG = Image.of(b"\x89PNG\r\n\x1a\n...")
PDF = File.of(b"%PDF", name="a.pdf")
CALL = ToolCall("add", {"a": 1}, "call_1")
TOOL = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}}
FORM = {"type": "json_schema", "json_schema": {"name": "out", "schema": {"type": "object", "properties": {}}}}
PARAMS = {
    "temperature": 0.5,
    "max_tokens": 64,
    "top_p": 0.9,
    "stop": ["END"],
    "tools": [TOOL],
    "tool_choice": {"type": "function", "function": {"name": "add"}},
    "response_format": FORM,
    "parallel_tool_calls": False,
}
REASONING = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "Z0FB"}
CLAUDES = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}


def conversation(*thoughts: Thinking, user: Any = (PNG, PDF)) -> list[dict[str, Any]]:
    return messages(
        [
            Message("system", "Be brief."),
            Message("user", [Text("What is it?", cache="5m"), *user]),
            Message("assistant", [*thoughts, Text("Let me see."), CALL, ToolCall("add", {}, "call_2")]),
            ToolResult(CALL, "2"),
            ToolResult("call_2", [Text("none"), Text("at all")], name="add", is_error=True),
            Message("assistant", "It is 2."),
            Message("user", "Are you sure?"),
        ]
    )


def sent(wire: Provider, model: str, said: list[dict[str, Any]], **params: Any) -> dict[str, Any]:
    given = {name: value for name, value in {**PARAMS, **params}.items() if value is not None}
    data: dict[str, Any] = orjson.loads(wire.body(model, said, given))
    return data


def looked_at(value: Any) -> None:
    """Look at all of a validated value: what an SDK calls Iterable is validated while it is iterated."""
    if isinstance(value, dict):
        for inner in value.values():
            looked_at(inner)
    elif isinstance(value, Iterable) and not isinstance(value, str | bytes):
        for inner in value:
            looked_at(inner)


def strict(kind: Any, data: dict[str, Any]) -> None:
    """Check that some JSON is of an SDK's type, and that the type knows all its fields."""
    unknown = data.keys() - kind.__annotations__.keys() - kind.__required_keys__ - kind.__optional_keys__
    assert unknown == set()
    adapter = TypeAdapter(kind)
    looked_at(adapter.validate_python(data))


def test_openai_chat() -> None:
    types = pytest.importorskip("openai.types.chat.completion_create_params")
    told = sent(PROVIDERS["openai"], "gpt-4o", conversation(), logprobs=True, top_logprobs=2, seed=1)
    strict(types.CompletionCreateParamsNonStreaming, told)
    sound = conversation(user=[Audio.of(b"x", "wav")])
    strict(types.CompletionCreateParamsNonStreaming, sent(PROVIDERS["openai"], "gpt-audio", sound))


def test_openai_responses() -> None:
    types = pytest.importorskip("openai.types.responses.response_create_params")
    thought = Thinking("", "openai", json.dumps(REASONING))
    told = sent(
        Responses(), "gpt-5.2", conversation(thought), reasoning_effort="low", verbosity="low", prompt_cache_key="k"
    )
    strict(types.ResponseCreateParamsNonStreaming, told)


def test_anthropic_messages() -> None:
    types = pytest.importorskip("anthropic.types.message_create_params")
    thought = Thinking("hm", "anthropic", json.dumps(CLAUDES))
    told = sent(PROVIDERS["anthropic"], "claude-sonnet-5", conversation(thought), reasoning_effort="high", user="u")
    strict(types.MessageCreateParamsNonStreaming, told)
    alone: dict[str, Any] = {"tools": None, "tool_choice": None, "temperature": None, "top_p": None}
    older = sent(PROVIDERS["anthropic"], "claude-3-5-haiku", conversation(thought), **alone)
    strict(types.MessageCreateParamsNonStreaming, older)


def test_gemini_contents() -> None:
    types = pytest.importorskip("google.genai.types")
    told = sent(PROVIDERS["gemini"], "gemini-3-pro", conversation(), logprobs=True, reasoning_effort="low", seed=1)
    for content in (*told["contents"], told["systemInstruction"]):
        types.Content.model_validate(content)
    types.GenerationConfig.model_validate(told["generationConfig"])
    types.ToolConfig.model_validate(told["toolConfig"])
    for tool in told["tools"]:
        types.Tool.model_validate(tool)
    assert told.keys() == {"contents", "systemInstruction", "generationConfig", "toolConfig", "tools"}


def test_cohere_messages() -> None:
    cohere = pytest.importorskip("cohere")
    told = sent(
        PROVIDERS["cohere"], "command-a-vision", conversation(user=[PNG]), tool_choice="required", logprobs=True
    )
    kinds = {
        "system": cohere.SystemChatMessageV2,
        "user": cohere.UserChatMessageV2,
        "assistant": cohere.AssistantChatMessageV2,
        "tool": cohere.ToolChatMessageV2,
    }
    for message in told["messages"]:
        made = kinds[message["role"]].model_validate(message)
        assert message.keys() <= made.model_fields.keys()
    for tool in told["tools"]:
        cohere.ToolV2.model_validate(tool)
    assert told["tool_choice"] == "REQUIRED"
