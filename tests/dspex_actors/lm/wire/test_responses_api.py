"""OpenAI's Responses API: requests as documented, replies as recorded, and the embedded server's."""

from __future__ import annotations

import copy
import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_actors.embedded.wire import WIRES, Answer, Call, RequestError
from dspex_actors.embedded.wire.events import events_of
from dspex_actors.errors import ConfigError, ContentBlocked, InvalidRequest, LMError, Overloaded, RateLimited
from dspex_actors.lm.content import File, Image, Logprob, Message, Other, Text, Thinking, ToolCall, ToolResult
from dspex_actors.lm.content.pieces import Piece
from dspex_actors.lm.lm import LM
from dspex_actors.lm.settings import messages
from dspex_actors.lm.usage import Usage
from dspex_actors.lm.wire import PROVIDERS, Responses, wire_for
from dspex_actors.lm.wire.exchange import RawReply, WireReply
from dspex_actors.lm.wire.sse import EventReader

WIRE = Responses()
PNG = "data:image/png;base64,iVBORw0KGgo="
PDF = "data:application/pdf;base64,JVBERi0="
THOUGHT = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "First."}, {"type": "summary_text", "text": "Then."}],
    "encrypted_content": "Z0FBQUFB",
}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "add", "arguments": '{"a": 1}'}
SEARCH = {"type": "web_search_call", "id": "ws_1", "status": "completed"}


def sent(*said: Any, model: str = "m", **params: Any) -> dict[str, Any]:
    body = WIRE.body(model, messages(list(said)), params)
    data: dict[str, Any] = orjson.loads(body)
    return data


def text(*parts: Any) -> dict[str, Any]:
    content = [
        {"type": "output_text", "text": part, "annotations": []} if isinstance(part, str) else part for part in parts
    ]
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content}


def response(*output: Any, **more: Any) -> dict[str, Any]:
    about = {"id": "resp_1", "object": "response", "status": "completed", "model": "gpt-5-2025", "error": None}
    return {**about, "incomplete_details": None, "output": list(output), **more}


def read(body: Any) -> WireReply:
    return WIRE.read(RawReply(200, {}, json.dumps(body).encode()), now=0.0)


# --- requests -------------------------------------------------------------------------------------------------------


def test_a_whole_request_is_as_openai_documents_it() -> None:
    tool = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}}
    thought = Thinking("First.", "openai", json.dumps(THOUGHT))
    said = [
        Message("system", "Be brief."),
        Message("developer", "Be kind."),
        Message("user", ["What is it?", Image(PNG), Image("https://x/y.png", "low"), File(PDF, "a.pdf")]),
        Message("assistant", [thought, Text("So."), ToolCall("add", '{"a": 1}', "call_1")]),
        ToolResult("call_1", "2"),
    ]
    schema = {"type": "json_schema", "json_schema": {"name": "out", "strict": True, "schema": {"type": "object"}}}
    told = sent(
        *said,
        model="gpt-5.2",
        max_tokens=64,
        reasoning_effort="low",
        verbosity="high",
        response_format=schema,
        tools=[tool, {"type": "web_search"}],
        tool_choice={"type": "function", "function": {"name": "add"}},
        reasoning={"summary": "auto"},
        rollout_id=7,
        unknown={"a": 1},
    )
    assert told == {
        "model": "gpt-5.2",
        "instructions": "Be brief.\n\nBe kind.",
        "input": [
            {
                "type": "message",
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "What is it?"},
                    {"type": "input_image", "image_url": PNG, "detail": "auto"},
                    {"type": "input_image", "image_url": "https://x/y.png", "detail": "low"},
                    {"type": "input_file", "filename": "a.pdf", "file_data": PDF},
                ],
            },
            THOUGHT,
            {"type": "message", "role": "assistant", "content": "So."},
            {"type": "function_call", "call_id": "call_1", "name": "add", "arguments": '{"a": 1}'},
            {"type": "function_call_output", "call_id": "call_1", "output": "2"},
        ],
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "max_output_tokens": 64,
        "reasoning": {"effort": "low", "summary": "auto"},
        "text": {
            "verbosity": "high",
            "format": {"type": "json_schema", "name": "out", "strict": True, "schema": {"type": "object"}},
        },
        "tools": [
            {
                "type": "function",
                "name": "add",
                "description": "Adds.",
                "parameters": {"type": "object"},
                "strict": False,
            },
            {"type": "web_search"},
        ],
        "tool_choice": {"type": "function", "name": "add"},
        "unknown": {"a": 1},
    }


def test_openais_own_words_stand() -> None:
    own = {"store": True, "include": ["file_search_call.results"], "max_output_tokens": 5, "previous_response_id": "r"}
    told = sent(Message("user", "?"), model="gpt-5", **own)
    assert told["include"] == ["reasoning.encrypted_content", "file_search_call.results"]
    assert (told["store"], told["max_output_tokens"], told["previous_response_id"]) == (True, 5, "r")


def test_what_the_api_does_not_have_is_not_sent() -> None:
    params = {
        "stop": "END",
        "seed": 1,
        "frequency_penalty": 0.5,
        "logprobs": True,
        "top_logprobs": 2,
        "temperature": 0.5,
    }
    told = sent(Message("user", "?"), model="gpt-4o", **params)
    assert told == {
        "model": "gpt-4o",
        "input": [{"type": "message", "role": "user", "content": "?"}],
        "store": False,
        "include": ["message.output_text.logprobs"],
        "top_logprobs": 2,
        "temperature": 0.5,
    }


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ({"type": "json_object"}, {"type": "json_object"}),
        ({"type": "text"}, {"type": "text"}),
        (
            {"type": "json_schema", "json_schema": {"schema": {}}},
            {"type": "json_schema", "name": "reply", "schema": {}},
        ),
        (
            {"type": "json_schema", "name": "x", "schema": {}},  # its own words
            {"type": "json_schema", "name": "x", "schema": {}},
        ),
    ],
)
def test_formats_of_the_reply(form: Any, told: Any) -> None:
    assert sent(Message("user", "?"), response_format=form)["text"] == {"format": told}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            {"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]},
            "it takes no audio; use model_type=",
        ),
        ({"role": "tool", "content": "x"}, "a tool message needs a tool_call_id"),
        ({"role": "function", "content": "x"}, "no message of role 'function' can be sent"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": "x.png"}]}, "an image needs an http"),
    ],
)
def test_what_cannot_be_said_is_refused_before_the_call(message: Any, expected: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        sent(message)
    assert str(caught.value).startswith(f"openai's Responses API: {expected}")


def test_audio_and_modalities_are_refused_when_the_lm_is_made() -> None:
    with pytest.raises(ConfigError, match="modalities: the Responses API answers with text only at"):
        LM("openai/gpt-4o", model_type="responses", modalities=["audio"])


# --- replies --------------------------------------------------------------------------------------------------------


def test_a_reply_says_so_and_goes_back_unchanged() -> None:
    usage = {
        "input_tokens": 25,
        "input_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 2},
        "output_tokens": 110,
        "output_tokens_details": {"reasoning_tokens": 30},
        "total_tokens": 135,
    }
    reply = read(response(THOUGHT, text("Let me ", "see."), CALL, SEARCH, usage=usage, service_tier="flex"))
    assert reply == WireReply(
        "Let me see.",
        Usage(25, 5, 2, 110, 30),
        "tool_calls",
        "gpt-5-2025",
        "resp_1",
        "flex",
        (
            Thinking("First.\n\nThen.", "openai", orjson.dumps(THOUGHT).decode()),
            Text("Let me "),
            Text("see."),
            ToolCall("add", '{"a": 1}', "call_1"),
            Other(SEARCH),  # type: ignore[arg-type]
        ),
    )
    assert reply.parts is not None
    back = sent(Message("user", "?"), Message("assistant", reply.parts))["input"][1:]
    assert back[0] == THOUGHT
    assert back[-2:] == [{name: value for name, value in CALL.items() if name != "id"}, SEARCH]


def test_thoughts_between_calls_keep_their_place() -> None:
    second = {**CALL, "call_id": "call_2"}
    reply = read(response(THOUGHT, CALL, {**THOUGHT, "id": "rs_2"}, second))
    back = sent(Message("user", "?"), Message("assistant", reply.parts or ()))["input"][1:]
    assert [item.get("id") or item["call_id"] for item in back] == ["rs_1", "call_1", "rs_2", "call_2"]


def test_its_thoughts_are_not_told_in_a_chat_nor_a_chats_here() -> None:
    thought = Thinking("First.", "openai", json.dumps(THOUGHT))
    said = messages([Message("user", "?"), Message("assistant", [thought, Text("So.")])])
    assert orjson.loads(PROVIDERS["openai"].body("deepseek", said, {}))["messages"][1] == {
        "role": "assistant",
        "content": "So.",
    }
    assert sent(Message("user", "?"), Message("assistant", [Thinking("hm", "openai"), Text("So.")]))["input"][1:] == [
        {"type": "message", "role": "assistant", "content": "So."}
    ]


def test_a_text_alone_makes_no_parts_and_its_tokens_have_probabilities() -> None:
    likely = [{"token": "hi", "bytes": [], "logprob": -0.5, "top_logprobs": [{"token": "ho", "logprob": -1.5}]}]
    reply = read(response(text({"type": "output_text", "text": "hi", "logprobs": likely})))
    assert (reply.text, reply.parts, reply.finish_reason) == ("hi", None, "stop")
    assert reply.logprobs == (Logprob("hi", -0.5, (("ho", -1.5),)),)


def test_a_reply_that_was_cut_is_one() -> None:
    reply = read(response(text("half"), status="incomplete", incomplete_details={"reason": "max_output_tokens"}))
    assert (reply.text, reply.finish_reason) == ("half", "length")
    assert read(response(status="incomplete", incomplete_details={"reason": "max_output_tokens"})).text == ""


@pytest.mark.parametrize(
    ("body", "error", "status", "retryable"),
    [
        (response(text({"type": "refusal", "refusal": "No."})), ContentBlocked, 200, False),
        (
            response(text("ha"), status="incomplete", incomplete_details={"reason": "content_filter"}),
            ContentBlocked,
            200,
            False,
        ),
        (
            response(status="failed", error={"code": "server_error", "message": "Sorry."}),
            Overloaded,
            500,
            True,
        ),
        (
            response(status="failed", error={"code": "rate_limit_exceeded", "message": "Slow down."}),
            RateLimited,
            429,
            True,
        ),
        (
            response(status="failed", error={"code": "invalid_image", "message": "No picture."}),
            InvalidRequest,
            400,
            False,
        ),
        (response(status="in_progress"), Overloaded, 200, True),
        (response(output=None), Overloaded, 200, True),
    ],
)
def test_replies_that_are_none(body: Any, error: type[LMError], status: int, retryable: bool) -> None:
    with pytest.raises(error) as caught:
        read(body)
    assert (caught.value.status, caught.value.retryable) == (status, retryable)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
fields = st.sampled_from(["content", "text", "type", "arguments", "name", "call_id", "summary", "id", "logprobs"])


@given(st.sampled_from([THOUGHT, text("a"), CALL, SEARCH]), fields, anything, st.booleans())
def test_garbage_raises_nothing_but_lm_errors(item: Any, name: str, value: Any, inside: bool) -> None:
    changed = text({"type": "output_text", "text": "a", name: value}) if inside else {**item, name: value}
    try:
        reply = read(response(changed, **({"usage": value} if inside else {})))
    except LMError:
        return
    assert orjson.dumps([part.to_plain() for part in reply.parts or ()])


@given(st.sampled_from([(), (0,), (1,), (1, "content", 0), (2,)]), st.text(min_size=9, max_size=12), anything)
def test_fields_that_nobody_knows_change_nothing(place: tuple[Any, ...], name: str, value: Any) -> None:
    body = response(THOUGHT, text("a"), CALL)
    more = copy.deepcopy(body)
    found: Any = more if place == () else more["output"]
    for step in place:
        found = found[step]
    found[f"new {name}"] = value
    reply, before = read(more), read(body)
    if place == (0,):  # thoughts go back as they came, whatever is in them
        assert reply.parts is not None
        assert reply.parts[0].to_plain()["block"] == found
        assert reply.parts[1:] == (before.parts or ())[1:]
    else:
        assert reply == before


# --- the LM ---------------------------------------------------------------------------------------------------------


def test_it_is_the_same_deployment_and_another_lm() -> None:
    chat = LM("openai/gpt-5.2")
    responses = LM("openai/gpt-5.2", model_type="responses")
    assert (chat.model_type, responses.model_type) == ("chat", "responses")
    assert responses.deployment == chat.deployment
    assert responses != chat
    assert responses.parameters == {"model_type": "responses"}
    asked = messages("?")
    assert responses.request(asked, {}).cache_key != chat.request(asked, {}).cache_key
    assert LM("openai/gpt-5.2", model_type="chat") == chat
    assert LM.from_dict(responses.to_dict()) == responses
    assert LM.load_state(responses.dump_state()) == responses
    assert LM.load_state({**chat.dump_state(), "model_type": "chat"}) == chat
    assert isinstance(wire_for("openai", "responses"), Responses)


@pytest.mark.parametrize(
    ("model", "model_type", "expected"),
    [
        ("openai/gpt-5", "text", "model_type: 'text' is for models that complete texts, of which no provider is left"),
        ("openai/gpt-5", "completion", "model_type: expected 'chat' or 'responses' or 'embeddings', which openai has"),
        ("anthropic/claude-x", "responses", "model_type: expected 'chat', which anthropic has, got 'responses'"),
        ("gemini/gemini-3-pro", "responses", "model_type: expected 'chat' or 'embeddings', which gemini has, got"),
    ],
)
def test_a_model_type_that_there_is_not_is_refused(model: str, model_type: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        LM(model, model_type=model_type)
    assert str(caught.value).startswith(expected)


# --- streams, and the embedded server -------------------------------------------------------------------------------


def streamed(chunks: list[bytes]) -> tuple[WireReply, list[Piece]]:
    decoder, reader, pieces = WIRE.decoder(200, {}), EventReader(), list[Piece]()
    for chunk in chunks:
        for event in reader.feed(chunk):
            pieces += decoder.feed(event)
    return decoder.finish(), pieces


def test_a_stream_is_the_whole_reply() -> None:
    body = response(THOUGHT, CALL, text("Hello"))
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": response(status="in_progress")},
        {"type": "response.output_item.added", "output_index": 0, "item": {"type": "reasoning", "id": "rs_1"}},
        {"type": "response.reasoning_summary_text.delta", "output_index": 0, "delta": "First."},
        {"type": "response.output_item.done", "output_index": 0, "item": THOUGHT},
        {"type": "response.output_item.added", "output_index": 1, "item": {**CALL, "arguments": ""}},
        {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": '{"a": '},
        {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": "1}"},
        {"type": "response.output_text.delta", "output_index": 2, "delta": "Hel"},
        {"type": "response.new_thing", "delta": 5},
        {"type": "response.output_text.delta", "output_index": 2, "delta": "lo"},
        {"type": "response.completed", "response": body},
    ]
    reply, pieces = streamed([b"event: x\ndata: " + orjson.dumps(event) + b"\n\n" for event in events])
    assert reply == read(body)
    assert pieces == [
        Piece("thinking", "First."),
        Piece("tool_call", "", 0, "call_1", "add"),
        Piece("tool_call", '{"a": ', 0),
        Piece("tool_call", "1}", 0),
        Piece("text", "Hel"),
        Piece("text", "lo"),
    ]


def test_a_stream_without_its_end_is_truncated_and_one_that_failed_has() -> None:
    failed = response(status="failed", error={"code": "rate_limit_exceeded", "message": "Slow down."})
    with pytest.raises(RateLimited):
        streamed([b"data: " + orjson.dumps({"type": "response.failed", "response": failed}) + b"\n\n"])
    error = {"type": "error", "code": "rate_limit_exceeded", "message": "Slow down.", "param": None}
    with pytest.raises(RateLimited):
        streamed([b"data: " + orjson.dumps(error) + b"\n\n"])
    with pytest.raises(LMError, match="stream ended before its reply did"):
        streamed([b"data: " + orjson.dumps({"type": "response.created", "response": response()}) + b"\n\n"])


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40), st.sampled_from(["stop", "length"]))
def test_what_the_embedded_server_writes_is_read_whole_and_streamed(said: str, finish: Any) -> None:
    call, answer = Call("m", [("user", "hi")], stream=True), Answer([said], [finish], 5, 6)
    body = WIRES["openai-responses"].write(call, answer, "0001", 1000.0)
    reply, pieces = streamed(events_of("openai-responses", call, answer, body))
    assert reply == read(body) == WireReply(said, Usage(5, output_total=6), finish, "m", "resp_0001")
    assert "".join(piece.text for piece in pieces) == said


def test_the_embedded_server_reads_what_is_sent() -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "out", "schema": {"type": "object"}}}
    said = [
        Message("system", "Be brief."),
        Message("user", ["a", Image(PNG)]),
        Message("assistant", [Thinking("hm", "openai", json.dumps(THOUGHT)), Text("b"), ToolCall("f", id="1")]),
        ToolResult("1", "c"),
    ]
    call = WIRES["openai-responses"].read(sent(*said, response_format=schema, max_tokens=5), {}, "")
    assert call.messages == [("system", "Be brief."), ("user", "a"), ("assistant", "b"), ("user", "c")]
    assert (call.attachments, call.max_tokens, call.json, call.schema) == (1, 5, True, {"type": "object"})
    plain = WIRES["openai-responses"].read({"model": "m", "input": "hi", "stream": True}, {}, "")
    assert (plain.messages, plain.stream) == ([("user", "hi")], True)


@pytest.mark.parametrize(
    "body",
    [
        {"input": "hi"},
        {"model": "m"},
        {"model": "m", "input": []},
        {"model": "m", "input": 5},
        {"model": "m", "input": ["hi"]},
        {"model": "m", "input": [{"role": "nobody", "content": "x"}]},
        {"model": "m", "input": [{"type": 5}]},
        {"model": "m", "input": "hi", "instructions": 5},
        {"model": "m", "input": "hi", "previous_response_id": "r"},
        {"model": "m", "input": "hi", "max_output_tokens": 0},
        {"model": "m", "input": "hi", "temperature": 3},
        {"model": "m", "input": [{"role": "assistant", "content": "x"}]},
    ],
)
def test_the_embedded_server_refuses_what_openai_refuses(body: Any) -> None:
    with pytest.raises(RequestError):
        WIRES["openai-responses"].read(body, {}, "")
