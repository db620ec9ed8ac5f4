"""What replies say beside a text, and how it goes back: to who gave it unchanged, to nobody else."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from property_kit import examples

from dspex_actors.errors import InvalidRequest, LMError
from dspex_actors.lm.content import (
    Audio,
    File,
    Image,
    Logprob,
    Message,
    Other,
    Part,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from dspex_actors.lm.settings import messages
from dspex_actors.lm.wire import PROVIDERS
from dspex_actors.lm.wire.exchange import RawReply, WireReply
from dspex_actors.lm.wire.sse import Event

PNG = "data:image/png;base64,iVBORw0KGgo="
PDF = "data:application/pdf;base64,JVBERi0="


def read(name: str, body: Any) -> WireReply:
    return PROVIDERS[name].read(RawReply(200, {}, json.dumps(body).encode()), now=0.0)


def sent(name: str, *said: Any, model: str = "m", **params: Any) -> dict[str, Any]:
    data: dict[str, Any] = orjson.loads(PROVIDERS[name].build(model, messages(list(said)), params).body)
    return data


def openai(message: dict[str, Any], **choice: Any) -> dict[str, Any]:
    return {"id": "c1", "model": "m", "choices": [{"message": message, "finish_reason": "stop", **choice}]}


def anthropic(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"id": "m1", "type": "message", "content": list(blocks), "stop_reason": "end_turn"}


def gemini(*parts: dict[str, Any], **candidate: Any) -> dict[str, Any]:
    told = {"content": {"role": "model", "parts": list(parts)}, "finishReason": "STOP", **candidate}
    return {"candidates": [told], "responseId": "r1"}


def cohere(**message: Any) -> dict[str, Any]:
    return {"id": "c1", "finish_reason": "COMPLETE", "message": {"role": "assistant", **message}}


def as_json(data: Any) -> str:
    return orjson.dumps(data).decode()


THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "c2ln", "new": 1}
HIDDEN = {"type": "redacted_thinking", "data": "ZW5j"}
SERVER = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "x"}}
DETAILS = [{"type": "reasoning.encrypted", "data": "ZW5j"}, {"type": "reasoning.text", "text": "hm", "signature": "s"}]
MISTRAL = {"type": "thinking", "thinking": [{"type": "text", "text": "h"}, {"type": "text", "text": "m"}]}
GEMINI_CALL = {"functionCall": {"id": "g1", "name": "f", "args": {"a": 1}}, "thoughtSignature": "c2ln"}
PICTURE = {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}
CALLS = [
    {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},
    {"id": "2", "type": "function", "function": {"name": "g", "arguments": '{"a": '}},
]

#: Provider, the answer as recorded, what it says, and the assistant's message with which it goes back.
REPLIES: list[tuple[str, dict[str, Any], list[Part], Any]] = [
    (
        "openai",
        openai({"content": None, "tool_calls": CALLS}),
        [ToolCall("f", '{"a": 1}', "1"), ToolCall("g", '{"a": ', "2")],
        {"role": "assistant", "content": None, "tool_calls": CALLS},
    ),
    (
        "openai",
        openai({"content": "so", "reasoning_content": "hm", "tool_calls": CALLS[:1]}),
        [Thinking("hm", "openai"), Text("so"), ToolCall("f", '{"a": 1}', "1")],
        {"role": "assistant", "content": "so", "tool_calls": CALLS[:1], "reasoning_content": "hm"},
    ),
    (
        "openai",
        openai({"content": "so", "reasoning": "hm", "reasoning_details": DETAILS}),
        [Thinking("hm", "openai", as_json({"reasoning_details": DETAILS})), Text("so")],
        {"role": "assistant", "content": "so", "reasoning_details": DETAILS},
    ),
    (
        "openai",
        openai({"content": [MISTRAL, {"type": "text", "text": "so"}]}),
        [Thinking("hm", "openai", as_json(MISTRAL)), Text("so")],
        {"role": "assistant", "content": [MISTRAL, {"type": "text", "text": "so"}]},
    ),
    (
        "openai",
        openai({"content": "", "function_call": {"name": "f", "arguments": ""}}),
        [ToolCall("f", "")],
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "", "type": "function", "function": {"name": "f", "arguments": ""}}],
        },
    ),
    (
        "anthropic",
        anthropic(
            THOUGHT,
            HIDDEN,
            {"type": "text", "text": "a"},
            {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
            {"type": "tool_use", "id": "t2", "name": "g", "input": {}},
            THOUGHT,
            {"type": "text", "text": "b"},
            SERVER,
        ),
        [
            Thinking("hm", "anthropic", as_json(THOUGHT)),
            Thinking("", "anthropic", as_json(HIDDEN)),
            Text("a"),
            ToolCall("f", {"a": 1}, "t1"),
            ToolCall("g", {}, "t2"),
            Thinking("hm", "anthropic", as_json(THOUGHT)),
            Text("b"),
            Other(SERVER),  # type: ignore[arg-type]
        ],
        {
            "role": "assistant",
            "content": [
                THOUGHT,
                HIDDEN,
                {"type": "text", "text": "a"},
                {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
                {"type": "tool_use", "id": "t2", "name": "g", "input": {}},
                THOUGHT,
                {"type": "text", "text": "b"},
                SERVER,
            ],
        },
    ),
    (
        "gemini",
        gemini(
            {"text": "h", "thought": True},
            {"text": "m", "thought": True},
            {"text": "a"},
            {"text": "b"},
            {"text": "c", "thoughtSignature": "dA=="},
            GEMINI_CALL,
            {"functionCall": {"name": "g"}},
            {"executableCode": {"language": "PYTHON", "code": "1"}},
        ),
        [
            Thinking("hm", "gemini"),
            Text("ab"),
            Text("c", signature="dA=="),
            ToolCall("f", {"a": 1}, "g1", "c2ln"),
            ToolCall("g", {}, "dspex_call_r1_1"),
            Other({"executableCode": {"language": "PYTHON", "code": "1"}}),  # type: ignore[arg-type]
        ],
        {
            "role": "model",
            "parts": [
                {"text": "ab"},
                {"text": "c", "thoughtSignature": "dA=="},
                GEMINI_CALL,
                {"functionCall": {"name": "g", "args": {}}},
                {"executableCode": {"language": "PYTHON", "code": "1"}},
            ],
        },
    ),
    (
        "gemini",
        gemini(
            {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}, {"text": "", "thoughtSignature": "s"}
        ),
        [Image(PNG), Text("", signature="s")],
        {
            "role": "model",
            "parts": [
                PICTURE,
                {"text": "", "thoughtSignature": "s"},
            ],
        },
    ),
    (
        "cohere",
        cohere(tool_plan="first f", tool_calls=CALLS[:1]),
        [Thinking("first f", "cohere", '{"tool_plan":"first f"}'), ToolCall("f", '{"a": 1}', "1")],
        {"role": "assistant", "content": [], "tool_plan": "first f", "tool_calls": CALLS[:1]},
    ),
    (
        "cohere",
        cohere(content=[{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "so"}]),
        [Thinking("hm", "cohere", '{"type":"thinking","thinking":"hm"}'), Text("so")],
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "so"}]},
    ),
]


@pytest.mark.parametrize(("name", "body", "parts", "back"), REPLIES)
def test_a_reply_says_so_and_goes_back_unchanged(name: str, body: Any, parts: list[Part], back: Any) -> None:
    reply = read(name, body)
    assert reply.parts == tuple(parts)
    assert reply.text == "".join(part.text for part in parts if isinstance(part, Text))
    message = Message("assistant", reply.parts)
    assert sent(name, Message("user", "?"), message).get("messages" if name != "gemini" else "contents")[-1] == back  # type: ignore[index]
    assert sent(name, Message("user", "?"), message.to_plain()) == sent(name, Message("user", "?"), message)


SECRETS = ("c2ln", "ZW5j", "dA==", "hm", "first f", "dspex", "google", '"at"')


@pytest.mark.parametrize("other", ["openai", "anthropic", "gemini", "cohere"])
@pytest.mark.parametrize(("name", "body", "parts", "back"), REPLIES)
def test_what_one_provider_has_thought_and_signed_goes_to_no_other(
    other: str, name: str, body: Any, parts: list[Part], back: Any
) -> None:
    if other == name:
        return
    kept = [part for part in parts if not isinstance(part, Other) and getattr(part, "error", None) is None]
    told = as_json(sent(other, Message("user", "?"), Message("assistant", kept)))
    told = told.replace("dspex_call_r1_1", "")  # the id of a call, which others need
    assert [secret for secret in SECRETS if secret in told] == []


def test_thoughts_alone_of_another_provider_are_no_message() -> None:
    alone = Message("user", "?"), Message("assistant", [Thinking("hm", "nobody", "{}")]), Message("user", "!")
    for name in ("openai", "anthropic"):
        assert [message["role"] for message in sent(name, *alone)["messages"]] == ["user", "user"]
    assert [content["role"] for content in sent("gemini", *alone)["contents"]] == ["user", "user"]


def test_openais_own_models_get_no_field_that_they_do_not_know() -> None:
    said = [
        Message("user", [Text("a", cache="5m"), Image(PNG)]),
        Message("assistant", [Thinking("hm", "openai"), ToolCall("f", id="1", signature="sig")]),
        ToolResult("1", "no", is_error=True),
    ]
    assert sent("openai", *said, model="gpt-5.2")["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": PNG}}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "no"},
    ]
    kept = sent("openai", *said, model="google/gemini-3-pro")["messages"]
    assert kept[0]["content"][0]["cache_control"] == {"type": "ephemeral"}
    assert kept[1]["tool_calls"][0]["extra_content"] == {"google": {"thought_signature": "sig"}}


def test_gemini_3_takes_the_calls_that_other_models_have_made() -> None:
    others = Message("user", "?"), Message("assistant", [ToolCall("f", id="1"), ToolCall("g", id="2")])
    parts = sent("gemini", *others, model="gemini-3-pro")["contents"][1]["parts"]
    assert [part.get("thoughtSignature") for part in parts] == ["skip_thought_signature_validator", None]
    assert "thoughtSignature" not in as_json(sent("gemini", *others, model="gemini-2.5-pro"))
    own = Message("user", "?"), Message("assistant", [ToolCall("f", id="1", signature="c2ln"), ToolCall("g", id="2")])
    parts = sent("gemini", *own, model="gemini-3-pro")["contents"][1]["parts"]
    assert [part.get("thoughtSignature") for part in parts] == ["c2ln", None]


@pytest.mark.parametrize("name", ["openai", "anthropic", "cohere"])
def test_a_text_among_parts_is_told_as_a_part(name: str) -> None:
    said = [{"role": "user", "content": ["look:", Image(PNG).to_plain()]}]
    body = orjson.loads(PROVIDERS[name].body("m", said, {}))
    assert body["messages"][0]["content"][0] == {"type": "text", "text": "look:"}
    with pytest.raises(InvalidRequest, match="a part of a message must be a text or a dict"):
        PROVIDERS[name].body("m", [{"role": "user", "content": [5]}], {})


def test_cache_marks_stand_where_anthropic_wants_them() -> None:
    said = Message("user", [Text("a", cache="1h"), Image(PNG, cache="5m"), File(PDF, name="r.pdf", cache="5m")])
    blocks = sent("anthropic", said)["messages"][0]["content"]
    assert [block["cache_control"] for block in blocks] == [
        {"type": "ephemeral", "ttl": "1h"},
        {"type": "ephemeral"},
        {"type": "ephemeral"},
    ]
    assert blocks[2]["title"] == "r.pdf"
    for name in ("gemini", "cohere"):
        without = said if name == "gemini" else Message("user", said.parts[:2])
        assert "cache_control" not in as_json(sent(name, without))


def test_a_failed_tool_says_so_where_that_can_be_said() -> None:
    said = Message("user", "?"), Message("assistant", ToolCall("f", id="1")), ToolResult("1", "no", is_error=True)
    assert sent("anthropic", *said)["messages"][2]["content"][0]["is_error"] is True
    assert sent("gemini", *said)["contents"][2]["parts"][0]["functionResponse"]["response"] == {"error": "no"}
    assert "is_error" not in as_json([sent("openai", *said), sent("cohere", *said)])


@pytest.mark.parametrize(
    ("name", "part", "expected"),
    [
        ("anthropic", File.of(b"hi", "text/plain"), {"type": "text", "media_type": "text/plain", "data": "hi"}),
        ("anthropic", File(PDF), {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}),
        ("anthropic", File(id="file_1"), {"type": "file", "file_id": "file_1"}),
        ("anthropic", File(PNG), {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}),
        ("gemini", File(PDF), {"inlineData": {"mimeType": "application/pdf", "data": "JVBERi0="}}),
        ("gemini", File(id="gs://b/x"), {"fileData": {"fileUri": "gs://b/x"}}),
        (
            "gemini",
            File(id="files/x"),
            {"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/x"}},
        ),
        ("gemini", Audio.of(b"hi", "mp3"), {"inlineData": {"mimeType": "audio/mp3", "data": "aGk="}}),
        ("openai", File(PDF, "a.pdf"), {"type": "file", "file": {"filename": "a.pdf", "file_data": PDF}}),
        ("cohere", Image(PNG, "low"), {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}}),
    ],
)
def test_media_are_told_in_each_providers_words(name: str, part: Part, expected: Any) -> None:
    told = sent(name, Message("user", part))
    found = told["contents"][0]["parts"][0] if name == "gemini" else told["messages"][0]["content"][0]
    assert (found["source"] if name == "anthropic" else found) == expected


@pytest.mark.parametrize(
    ("name", "model", "part", "expected"),
    [
        ("anthropic", "m", Audio.of(b"hi", "wav"), "anthropic: it takes no audio; use an openai or gemini model"),
        ("anthropic", "m", Image.of(b"hi", "image/bmp"), "anthropic: it takes no pictures of type image/bmp; use png,"),
        ("anthropic", "m", File.of(b"hi", "application/zip"), "anthropic: it takes no files of type application/zip;"),
        ("gemini", "m", Image("https://x/y.png"), "gemini: it takes no image addresses; give the image as a base64"),
        ("gemini", "m", File(id="file_1"), "gemini: a file_id is the uri of an uploaded file, such as"),
        ("cohere", "m", Audio.of(b"hi", "wav"), "cohere: it takes no input_audio part; only text and image_url"),
        ("cohere", "m", File(PDF), "cohere: it takes no file part; only text and image_url"),
        ("openai", "gpt-audio", Audio.of(b"hi", "flac"), "openai: audio can be wav or mp3, got flac"),
        ("openai", "m", {"type": "image_url", "image_url": {"url": "cat.png"}}, "openai: an image needs an http(s)"),
        ("cohere", "m", {"type": "image_url", "image_url": {"url": "ftp://x"}}, "cohere: an image needs an http(s)"),
        ("gemini", "m", {"type": "image_url", "image_url": {"url": PDF}}, "gemini: an image needs an http(s) address"),
    ],
)
def test_what_a_provider_has_no_way_to_say_is_refused_before_the_call(
    name: str, model: str, part: Any, expected: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        sent(name, {"role": "user", "content": [part, "?"]}, model=model)
    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)


def test_anthropic_can_be_told_to_call_one_tool_at_a_time() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    one = {"parallel_tool_calls": False}
    choice = sent("anthropic", Message("user", "?"), tools=tools, **one)["tool_choice"]
    assert choice == {"type": "auto", "disable_parallel_tool_use": True}
    choice = sent("anthropic", Message("user", "?"), tools=tools, tool_choice="required", **one)["tool_choice"]
    assert choice == {"type": "any", "disable_parallel_tool_use": True}
    assert "tool_choice" not in sent("anthropic", Message("user", "?"), **one)


SCHEMA = {"properties": {"a": {"type": "integer"}}, "required": ["a"]}
FORM = {"type": "json_schema", "json_schema": {"name": "out", "schema": SCHEMA}}


def test_an_older_claude_writes_json_as_the_arguments_of_a_tool() -> None:
    told = sent("anthropic", Message("user", "?"), model="claude-3-5-haiku", response_format=FORM)
    [tool] = told["tools"]
    assert tool["input_schema"] == {"type": "object", **SCHEMA}
    assert told["tool_choice"] == {"type": "tool", "name": tool["name"]}
    use = {"type": "tool_use", "id": "t1", "name": tool["name"], "input": {"a": 1}}
    reply = read("anthropic", {**anthropic(use), "stop_reason": "tool_use"})
    assert (reply.text, reply.parts, reply.finish_reason) == ('{"a":1}', None, "stop")
    newer = sent("anthropic", Message("user", "?"), model="claude-sonnet-4-5", response_format=FORM)
    assert "tools" not in newer
    assert newer["output_config"] == {"format": {"type": "json_schema", "schema": SCHEMA}}
    tools = [{"type": "function", "function": {"name": "f"}}]
    both = sent("anthropic", Message("user", "?"), model="claude-3-5-haiku", response_format=FORM, tools=tools)
    assert [tool["name"] for tool in both["tools"]] == ["f"]
    for form in ({"type": "json_object"}, {"type": "json_schema", "json_schema": {"schema": {"type": "array"}}}):
        assert "tools" not in sent("anthropic", Message("user", "?"), model="claude-3-5-haiku", response_format=form)


def test_the_json_of_an_older_claude_streams_as_a_text() -> None:
    name = sent("anthropic", Message("user", "?"), model="claude-3-5-haiku", response_format=FORM)["tools"][0]["name"]
    decoder = PROVIDERS["anthropic"].decoder(200, {})
    use = {"type": "tool_use", "id": "t1", "name": name, "input": {}}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": anthropic()},
        {"type": "content_block_start", "index": 0, "content_block": use},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": '{"a": '}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "1}"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    ]
    pieces = [piece for event in events for piece in decoder.feed(Event(orjson.dumps(event)))]
    assert [(piece.kind, piece.text) for piece in pieces] == [("text", '{"a": '), ("text", "1}")]
    reply = decoder.finish()
    assert (reply.text, reply.parts, reply.finish_reason) == ('{"a": 1}', None, "stop")


LIKELY = (Logprob("a", -0.5, (("a", -0.5), ("b", -2.0))), Logprob("c", 0.0))


def test_log_probabilities() -> None:
    top = [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": -2}]
    rows = [
        {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": top},
        {"token": "c", "logprob": 0, "top_logprobs": []},
        {"token": None, "logprob": 1},
        None,
    ]
    assert read("openai", openai({"content": "ac"}, logprobs={"content": rows})).logprobs == LIKELY
    told = {
        "chosenCandidates": [{"token": "a", "logProbability": -0.5}, {"token": "c", "logProbability": 0}],
        "topCandidates": [
            {"candidates": [{"token": "a", "logProbability": -0.5}, {"token": "b", "logProbability": -2.0}]},
            {"candidates": []},
        ],
    }
    assert read("gemini", gemini({"text": "ac"}, logprobsResult=told)).logprobs == LIKELY
    chunks = [{"text": "ab", "token_ids": [1, 2], "logprobs": [-0.5, -0.25]}, {"text": "c", "token_ids": [3]}]
    reply = read("cohere", {**cohere(content=[{"type": "text", "text": "abc"}]), "logprobs": chunks})
    assert reply.logprobs == (Logprob("ab", -0.75),)
    assert read("openai", openai({"content": "a"}, logprobs={"content": None})).logprobs is None


def test_log_probabilities_of_a_stream_are_those_of_all_its_events() -> None:
    decoder = PROVIDERS["gemini"].decoder(200, {})
    for text in ("a", "c"):
        chosen = {"chosenCandidates": [{"token": text, "logProbability": -0.5}]}
        candidate = {"content": {"parts": [{"text": text}]}, "logprobsResult": chosen}
        end = {"finishReason": "STOP"} if text == "c" else {}
        decoder.feed(Event(orjson.dumps({"candidates": [candidate | end]})))
    assert decoder.finish().logprobs == (Logprob("a", -0.5), Logprob("c", -0.5))


def test_log_probabilities_are_asked_for_in_each_providers_words() -> None:
    asked = {"logprobs": True, "top_logprobs": 3}
    assert sent("gemini", Message("user", "?"), **asked)["generationConfig"] == {
        "responseLogprobs": True,
        "logprobs": 3,
    }
    assert sent("cohere", Message("user", "?"), **asked)["logprobs"] is True
    told = sent("openai", Message("user", "?"), **asked)
    assert (told["logprobs"], told["top_logprobs"]) == (True, 3)


def test_a_text_alone_makes_no_parts() -> None:
    for name, body in (
        ("openai", openai({"content": "hi", "refusal": None, "annotations": []}, logprobs=None)),
        ("openai", openai({"content": [{"type": "text", "text": "hi"}]})),
        ("anthropic", anthropic({"type": "text", "text": "hi"}, {"type": "text", "text": ""})),
        ("gemini", gemini({"text": "h"}, {"text": "i"})),
        ("cohere", cohere(content=[{"type": "text", "text": "hi"}])),
    ):
        reply = read(name, body)
        assert (reply.text, reply.parts, reply.logprobs) == ("hi", None, None)


def test_numbers_of_any_size_go_back_in_arguments() -> None:
    large = ToolCall("f", '{"a": 123456789012345678901234567890}', "1")
    body = PROVIDERS["anthropic"].build("m", messages([Message("user", "?"), Message("assistant", large)]), {}).body
    assert b'{"a":123456789012345678901234567890}' in body


def test_a_document_is_what_it_was() -> None:
    data = bytes(range(256))
    told = sent("anthropic", Message("user", File.of(data)))["messages"][0]["content"][0]["source"]["data"]
    assert base64.b64decode(told) == data


# --- what nobody documents ------------------------------------------------------------------------------------------

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all values in JSON."""
    inside = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path, *(place for name, value in inside for place in places(value, (*path, name)))]


def changed(data: Any, path: tuple[Any, ...], change: Any) -> Any:
    """Return JSON with the value at a path changed."""
    if not path:
        return change(data)
    twin = dict(data) if isinstance(data, dict) else list(data)
    twin[path[0]] = changed(twin[path[0]], path[1:], change)
    return twin


RECORDED = [(name, {**body, "usage": {"prompt_tokens": 1}}) for name, body, _, _ in REPLIES]


@given(st.sampled_from(RECORDED), st.data())
def test_fields_that_nobody_knows_change_nothing(recorded: tuple[str, Any], data: st.DataObject) -> None:
    name, body = recorded
    # Parts of a provider's own are kept as they are, and the arguments of a call are the user's.
    kept = ("args", "input", "executableCode", "inlineData", "reasoning_details", "content", "parts", "tool_plan")
    paths = [path for path in places(body) if not set(path) & set(kept)]
    path = data.draw(st.sampled_from(paths))
    value = data.draw(anything)
    more = changed(body, path, lambda old: {**old, "unheard_of": value} if isinstance(old, dict) else old)
    assert read(name, more) == read(name, body)


@settings(max_examples=examples(200))
@given(st.sampled_from(RECORDED), st.data())
def test_garbage_of_the_right_type_raises_nothing_but_lm_errors(recorded: tuple[str, Any], data: st.DataObject) -> None:
    name, body = recorded
    path = data.draw(st.sampled_from(places(body)[1:]))
    value = data.draw(anything)
    try:
        reply = read(name, changed(body, path, lambda _: value))
    except LMError:
        return
    # What was read can be told: to its user, and back to the provider.
    content = reply.parts if reply.parts is not None else (Text(reply.text),)
    assert orjson.dumps([part.to_plain() for part in content])
    with contextlib.suppress(InvalidRequest):
        sent(name, Message("user", "?"), Message("assistant", content))
