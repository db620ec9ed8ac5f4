"""Streams as providers send them: each is read to the reply that `parse` reads from the whole answer."""
# ruff: noqa: E501 - what a provider sends stands on one line

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_actors.embedded.wire import WIRES
from dspex_actors.embedded.wire.base import Answer, Call
from dspex_actors.embedded.wire.events import events_of
from dspex_actors.errors import ContentBlocked, InvalidRequest, LMError, Overloaded, RateLimited, StreamTruncated
from dspex_actors.lm.content.pieces import Piece, packed, text_of, unpacked
from dspex_actors.lm.wire import PROVIDERS
from dspex_actors.lm.wire.exchange import RawReply, WireReply
from dspex_actors.lm.wire.sse import Event, EventReader

WIRED = ["anthropic", "cohere", "gemini", "openai"]


class Read:
    """What a stream was read to."""

    def __init__(self, provider: str, chunks: list[bytes], headers: dict[str, str] | None = None) -> None:
        self.decoder = PROVIDERS[provider].decoder(200, headers or {})
        reader = EventReader()
        self.pieces: list[Piece] = []
        for chunk in [*chunks, None]:
            for event in reader.end() if chunk is None else reader.feed(chunk):
                self.pieces += self.decoder.feed(event)

    @property
    def reply(self) -> WireReply:
        return self.decoder.finish()

    def joined(self, kind: str) -> str:
        return "".join(piece.text for piece in self.pieces if piece.kind == kind)


def sse(*data: Any, named: bool = False) -> list[bytes]:
    """Return events as bytes; what is no text is sent as JSON."""
    chunks = []
    for each in data:
        name = f"event: {each['type']}\n" if named else ""
        chunks.append(f"{name}data: {each if isinstance(each, str) else json.dumps(each)}\n\n".encode())
    return chunks


def whole(provider: str, body: Any) -> WireReply:
    return PROVIDERS[provider].read(RawReply(200, {}, json.dumps(body).encode()), 0.0)


# --- OpenAI and those that speak like it ---------------------------------------------------------------------------


def openai(delta: dict[str, Any], finish: str | None = None, **beside: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion.chunk", "model": "gpt-x", "choices": [choice], **beside}


CALL = {"id": "call_1", "type": "function", "function": {"name": "find", "arguments": '{"word": "a\\"b"}'}}
USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 12,
    "total_tokens": 21,
    "completion_tokens_details": {"reasoning_tokens": 3},
}
OPENAI_STREAM = sse(
    openai({"role": "assistant", "content": "", "refusal": None}),
    openai({"reasoning_content": "Let me "}),
    openai({"reasoning_content": "see."}),
    openai({"content": "Hel"}, obfuscation="xyz"),
    openai({"content": "lo"}),
    openai(
        {
            "tool_calls": [
                {"index": 0, "id": "call_1", "type": "function", "function": {"name": "find", "arguments": ""}}
            ]
        }
    ),
    openai({"tool_calls": [{"index": 0, "function": {"arguments": '{"word": '}}]}),
    openai({"tool_calls": [{"index": 0, "function": {"arguments": '"a\\"b"}'}}]}),
    openai({}, "tool_calls"),
    {"id": "c1", "model": "gpt-x", "choices": [], "usage": USAGE, "service_tier": "flex"},
    "[DONE]",
)
OPENAI_WHOLE = {
    "id": "c1",
    "model": "gpt-x",
    "service_tier": "flex",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "Hello",
                "reasoning_content": "Let me see.",
                "tool_calls": [CALL],
            },
            "finish_reason": "tool_calls",
        }
    ],
    "usage": USAGE,
}


def test_openai_with_thoughts_and_a_tool_call():
    read = Read("openai", OPENAI_STREAM)
    assert read.reply == whole("openai", OPENAI_WHOLE)
    assert (read.joined("text"), read.joined("thinking")) == ("Hello", "Let me see.")
    first, *rest = [piece for piece in read.pieces if piece.kind == "tool_call"]
    assert (first.id, first.name, first.index) == ("call_1", "find", 0)
    assert json.loads("".join(piece.text for piece in [first, *rest])) == {"word": 'a"b'}
    assert read.decoder.has_ended


def test_openai_logprobs_add_up():
    row = {"token": "a", "logprob": -0.1, "bytes": [97], "top_logprobs": []}
    stream = [openai({"content": "a"}), openai({"content": "a"}), openai({}, "stop")]
    for chunk in stream[:2]:
        chunk["choices"][0]["logprobs"] = {"content": [row], "refusal": None}
    message = {"role": "assistant", "content": "aa"}
    choice = {"index": 0, "message": message, "logprobs": {"content": [row, row]}, "finish_reason": "stop"}
    body = {"id": "c1", "model": "gpt-x", "choices": [choice]}
    assert Read("openai", sse(*stream)).reply == whole("openai", body)


def test_a_finish_reason_is_an_end_where_there_is_no_done_and_no_usage():
    read = Read("openai", sse(openai({"content": "Hi"}), openai({"content": "", "refusal": None}, "length")))
    assert (read.reply.text, read.reply.finish_reason, read.reply.usage) == ("Hi", "length", None)
    assert not read.decoder.has_ended


@pytest.mark.parametrize(
    "stream", [[], sse(openai({"content": "Hi"})), sse(openai({"content": "Hi"}, "")), [b": ping\n\n"]]
)
def test_without_any_end_the_stream_was_cut(stream):
    with pytest.raises(StreamTruncated) as caught:
        Read("openai", stream).reply  # noqa: B018
    assert caught.value.retryable


def test_done_alone_is_an_end():
    assert Read("openai", sse(openai({"content": "Hi"}), "[DONE]")).reply.text == "Hi"


def test_only_the_first_of_several_choices_is_read():
    other = openai({"content": "other"}, "stop")
    other["choices"][0]["index"] = 1
    read = Read("openai", sse(openai({"content": "Hi"}), other))
    assert not read.decoder.is_whole
    assert text_of(read.pieces) == "Hi"


def test_azure_begins_with_a_chunk_about_its_filter():
    about = {"id": "", "model": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]}
    reply = Read("openai", sse(about, openai({"content": "Hi"}), openai({}, "stop"), "[DONE]")).reply
    assert (reply.text, reply.model, reply.request_id) == ("Hi", "gpt-x", "c1")


def test_content_in_parts_as_mistral_streams_its_thoughts():
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}
    stream = sse(
        openai({"content": [thought]}),
        openai({"content": [{"type": "text", "text": "A"}]}),
        openai({"content": "B"}, "stop"),
    )
    read = Read("openai", stream)
    assert (read.joined("thinking"), read.joined("text"), read.reply.text) == ("Hm.", "AB", "AB")


def test_tool_calls_without_a_place_are_told_apart_by_their_ids():
    calls = [
        {"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]},
        {"tool_calls": [{"id": "b", "function": {"name": "g", "arguments": "{"}}]},
        {"tool_calls": [{"function": {"arguments": "}"}}]},
    ]
    pieces = Read("openai", sse(*map(openai, calls), openai({}, "tool_calls"))).pieces
    assert [(piece.index, piece.id, piece.name, piece.text) for piece in pieces] == [
        (0, "a", "f", "{}"),
        (1, "b", "g", "{"),
        (1, None, None, "}"),
    ]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"error": {"message": "slow down", "type": "tokens", "code": "rate_limit_exceeded"}}, RateLimited),
        ({"error": {"message": "boom", "type": "server_error", "code": None}}, Overloaded),
        ({"error": "it broke"}, Overloaded),
        (openai({}) | {"choices": [{"index": 0, "delta": {}, "error": {"code": 502, "message": "down"}}]}, Overloaded),
    ],
)
def test_an_error_inside_a_stream_is_raised_as_what_it_says(error, expected):
    with pytest.raises(expected):
        Read("openai", sse(openai({"content": "Hi"}), error))


def test_a_refusal_is_the_same_as_in_a_whole_answer():
    with pytest.raises(ContentBlocked, match="cannot help"):
        Read("openai", sse(openai({"refusal": "I cannot "}), openai({"refusal": "help"}, "stop"))).reply  # noqa: B018


def test_what_is_no_json_says_so_and_keys_are_not_shown():
    with pytest.raises(Overloaded, match="not JSON") as caught:
        Read("openai", [b"data: <html>Bearer sk-abcdefghijklmnopqrstuvwx</html>\n\n"])
    assert "sk-abc" not in str(caught.value)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=4),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                        st.sampled_from(["choices", "delta", "index", "content", "type", "candidates", "message", "usage"]),
                        inner, max_size=4), max_leaves=12))  # fmt: skip
def test_no_event_of_a_strange_shape_breaks_a_reader(data):
    for provider in PROVIDERS.values():
        decoder = provider.decoder(200, {})
        try:
            pieces = decoder.feed(Event(json.dumps(data).encode()))
            assert all(type(piece.text) is str for piece in pieces)
            decoder.usage()
            decoder.finish()
        except LMError:
            pass


# --- Anthropic ------------------------------------------------------------------------------------------------------

BLOCKS = [
    {"type": "thinking", "thinking": "Hm, well", "signature": "c2ln"},
    {"type": "text", "text": "Hello"},
    {"type": "tool_use", "id": "toolu_1", "name": "find", "input": {"word": "x"}},
    {"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}},
]
ANTHROPIC_STREAM = sse(
    {
        "type": "message_start",
        "message": {
            "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "content": [], "stop_reason": None,
            "usage": {"input_tokens": 25, "cache_read_input_tokens": 5, "output_tokens": 1},
        },
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
    {"type": "ping"},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm, "}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "well"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "c2ln"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Hel"}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "some_new_delta", "text": "lo"}},
    {"type": "some_new_event", "index": 1},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "lo"}},
    {"type": "content_block_stop", "index": 1},
    {"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "id": "toolu_1", "name": "find", "input": {}}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '{"wo'}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": 'rd": "x"}'}},
    {"type": "content_block_stop", "index": 2},
    {"type": "content_block_start", "index": 3, "content_block": {"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}}},
    {"type": "content_block_delta", "index": 3, "delta": {"type": "input_json_delta", "partial_json": ""}},
    {"type": "content_block_stop", "index": 3},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": None}, "usage": {"output_tokens": 15}},
    {"type": "message_stop"},
    named=True,
)  # fmt: skip
ANTHROPIC_WHOLE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-x",
    "content": BLOCKS,
    "stop_reason": "tool_use",
    "usage": {"input_tokens": 25, "cache_read_input_tokens": 5, "output_tokens": 15},
}


def test_anthropic_with_thoughts_their_signature_and_two_tools():
    read = Read("anthropic", ANTHROPIC_STREAM)
    reply = read.reply
    assert reply == whole("anthropic", ANTHROPIC_WHOLE)
    assert (read.joined("text"), read.joined("thinking")) == ("Hello", "Hm, well")
    calls = [piece for piece in read.pieces if piece.kind == "tool_call"]
    assert [(piece.index, piece.name, piece.text) for piece in calls] == [
        (0, "find", ""),
        (0, None, '{"wo'),
        (0, None, 'rd": "x"}'),
        (1, "now", ""),
    ]
    assert reply.usage is not None
    assert (reply.usage.input_total, reply.usage.output_total) == (30, 15)


def test_anthropic_tells_an_overload_in_the_midst():
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    with pytest.raises(Overloaded) as caught:
        Read("anthropic", [*ANTHROPIC_STREAM[:8], *sse(error, named=True)])
    assert (caught.value.status, caught.value.retryable) == (529, True)


def test_usage_is_known_before_the_end():
    usage = Read("anthropic", ANTHROPIC_STREAM[:8]).decoder.usage()
    assert usage is not None
    assert usage.input_total == 30


# --- Gemini ---------------------------------------------------------------------------------------------------------


def gemini(*parts: dict[str, Any], finish: str | None = None, tokens: int = 0, **beside: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    usage = {"promptTokenCount": 11, "candidatesTokenCount": tokens, "totalTokenCount": 11 + tokens}
    about = {"usageMetadata": usage, "modelVersion": "gemini-x", "responseId": "r1"}
    return {"candidates": [candidate], **about, **beside}


FUNCTION = {"functionCall": {"name": "find", "args": {"word": "x"}}, "thoughtSignature": "c2ln"}


def test_gemini_with_thoughts_and_a_call_and_the_last_usage():
    stream = sse(
        gemini({"text": "Hm, ", "thought": True}, tokens=1),
        gemini({"text": "well", "thought": True}, tokens=2),
        gemini({"text": "Hel"}, tokens=3),
        gemini({"text": "lo"}, tokens=4),
        gemini(FUNCTION, finish="STOP", tokens=7),
    )
    body = gemini({"text": "Hm, well", "thought": True}, {"text": "Hello"}, FUNCTION, finish="STOP", tokens=7)
    read = Read("gemini", stream)
    assert read.reply == whole("gemini", body)
    assert (read.joined("text"), read.joined("thinking")) == ("Hello", "Hm, well")
    assert [piece.name for piece in read.pieces if piece.kind == "tool_call"] == ["find"]
    assert json.loads(read.joined("tool_call")) == {"word": "x"}


def test_a_text_that_goes_on_after_the_usage_was_asked_for_is_not_cut():
    read = Read("gemini", sse(gemini({"text": "Hel"}, tokens=3)))
    assert read.decoder.usage() is not None
    for event in EventReader().feed(sse(gemini({"text": "lo"}, finish="STOP"))[0]):
        read.decoder.feed(event)
    assert read.reply.text == "Hello"


def test_a_prompt_that_gemini_blocks_is_blocked():
    with pytest.raises(ContentBlocked):
        Read("gemini", sse({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {}})).reply  # noqa: B018


def test_gemini_without_a_finish_reason_was_cut():
    with pytest.raises(StreamTruncated):
        Read("gemini", sse(gemini({"text": "Hel"}))).reply  # noqa: B018


@pytest.mark.parametrize("wrap", [lambda error: error, lambda error: [error]])
def test_gemini_tells_errors_in_the_midst_bare_or_in_a_list(wrap):
    error = {"error": {"code": 400, "message": "no", "status": "INVALID_ARGUMENT"}}
    with pytest.raises(InvalidRequest):
        Read("gemini", sse(gemini({"text": "a"}), wrap(error)))


# --- Cohere ---------------------------------------------------------------------------------------------------------


def cohere(kind: str, index: int | None = None, **message: Any) -> dict[str, Any]:
    return {"type": kind, **({} if index is None else {"index": index}), "delta": {"message": message}}


COHERE_USAGE = {
    "billed_units": {"input_tokens": 11, "output_tokens": 7},
    "tokens": {"input_tokens": 70, "output_tokens": 7},
}
COHERE_CALL = {"id": "find_1", "type": "function", "function": {"name": "find", "arguments": '{"word": "x"}'}}


def test_cohere_with_a_plan_and_a_tool():
    start = {**COHERE_CALL, "function": {"name": "find", "arguments": ""}}
    stream = sse(
        {"id": "r1", **cohere("message-start", role="assistant", content=[])},
        cohere("tool-plan-delta", tool_plan="I will "),
        cohere("tool-plan-delta", tool_plan="look."),
        cohere("content-start", 0, content={"type": "text", "text": ""}),
        cohere("content-delta", 0, content={"text": "Hel"}),
        cohere("content-delta", 0, content={"text": "lo"}),
        {"type": "content-end", "index": 0},
        {"type": "some-new-event"},
        cohere("tool-call-start", 0, tool_calls=start),
        cohere("tool-call-delta", 0, tool_calls={"function": {"arguments": '{"word": '}}),
        cohere("tool-call-delta", 0, tool_calls={"function": {"arguments": '"x"}'}}),
        {"type": "tool-call-end", "index": 0},
        {"type": "message-end", "delta": {"finish_reason": "TOOL_CALL", "usage": COHERE_USAGE}},
        named=True,
    )
    body = {
        "id": "r1",
        "finish_reason": "TOOL_CALL",
        "message": {
            "role": "assistant",
            "content": [{"type": "text", "text": "Hello"}],
            "tool_plan": "I will look.",
            "tool_calls": [COHERE_CALL],
        },
        "usage": COHERE_USAGE,
    }
    read = Read("cohere", stream)
    assert read.reply == whole("cohere", body)
    assert (read.joined("text"), read.joined("tool_call")) == ("Hello", '{"word": "x"}')
    assert read.decoder.has_ended


def test_cohere_tells_failures_as_the_reason_of_the_end():
    with pytest.raises(Overloaded):
        Read("cohere", sse({"type": "message-end", "delta": {"finish_reason": "ERROR"}}, named=True)).reply  # noqa: B018


# --- all of them ----------------------------------------------------------------------------------------------------


@given(
    st.sampled_from(WIRED),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    st.sampled_from(["stop", "length", "stop_sequence"]),
    st.lists(st.integers(0, 10**6), max_size=8),
)
def test_the_fold_of_a_stream_is_the_whole_reply_however_it_is_cut(wire, text, finish, places):
    call = Call("m", [("user", "hi")], stream=True, stream_usage=True)
    answer = Answer([text or "x"], [finish], 5, 6)
    body = WIRES[wire].write(call, answer, "0001", 1000.0)
    data = b"".join(events_of(wire, call, answer, body))
    marks = sorted({place % (len(data) + 1) for place in places})
    chunks = [data[start:end] for start, end in zip([0, *marks], [*marks, len(data)], strict=True)]
    read = Read(wire, chunks)
    assert read.reply == whole(wire, body)
    assert text_of(read.pieces) == (text or "x")


@pytest.mark.parametrize("wire", WIRED)
def test_a_stream_that_is_cut_anywhere_before_its_end_is_truncated(wire):
    call = Call("m", [("user", "hi")], stream=True)
    answer = Answer(["one two three"], ["stop"], 5, 6)
    events = events_of(wire, call, answer, WIRES[wire].write(call, answer, "0001", 1000.0))
    ends = {"openai": 2, "anthropic": 2, "gemini": 1, "cohere": 1}[wire]
    for count in range(len(events) - ends + 1):
        with pytest.raises(StreamTruncated):
            Read(wire, events[:count]).reply  # noqa: B018


def test_pieces_travel_as_plain_data():
    pieces = [Piece("text", "a"), Piece("thinking", "b"), Piece("tool_call", "{}", 1, "id", "name")]
    assert unpacked(json.loads(json.dumps(packed(pieces)))) == pieces
    assert "".join(map(str, pieces)) == "a"


def test_requests_for_streams_ask_for_the_usage():
    asked = {
        name: (
            json.loads(provider.body("m", [{"role": "user", "content": "hi"}], {}, stream=True)),
            provider.stream_path("m"),
        )
        for name, provider in PROVIDERS.items()
    }
    assert asked["openai"][0]["stream_options"] == {"include_usage": True}
    assert all(asked[name][0]["stream"] is True for name in ("openai", "anthropic", "cohere", "embedded"))
    assert "stream" not in asked["gemini"][0]
    messages = [{"role": "user", "content": "hi"}]
    bare = json.loads(PROVIDERS["openai"].body("m", messages, {"stream_options": {}}, stream=True))
    assert (bare["stream"], "stream_options" in bare) == (True, False)
    assert asked["gemini"][1] == "/v1beta/models/m:streamGenerateContent?alt=sse"
