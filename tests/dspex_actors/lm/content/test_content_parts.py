"""Typed messages and plain ones are the same thing."""

from __future__ import annotations

import base64
import dataclasses
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dspex_actors as dspex
from dspex_actors.errors import ConfigError
from dspex_actors.lm.content import (
    Audio,
    File,
    Image,
    Logprob,
    Message,
    Other,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from dspex_actors.lm.content.messages import from_plain, to_plain
from dspex_actors.lm.lm import LM
from dspex_actors.lm.reply import LMReply
from dspex_actors.lm.settings import messages

PNG = b"\x89PNG\r\n\x1a\n...."
words = st.text(max_size=12)
marks = st.sampled_from([None, "5m", "1h"])
plain_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
parts = st.one_of(
    st.builds(Text, words, marks, st.none() | words),
    st.builds(Image, st.just("https://x/y.png"), st.sampled_from([None, "low"]), marks),
    st.builds(lambda data, mark: Image.of(PNG + data, cache=mark), st.binary(max_size=9), marks),
    st.builds(Audio.of, st.binary(min_size=1, max_size=9), st.sampled_from(["wav", "mp3"])),
    st.builds(lambda data, name: File.of(data, name=name), st.binary(min_size=1, max_size=9), st.none() | words),
    st.builds(lambda number: File(id=number), words),
    st.builds(ToolCall, words, words, words, st.none() | words),
    st.builds(ToolCall, words, st.dictionaries(words, plain_json, max_size=3), words),
    st.builds(Thinking, words, words),
    st.builds(Thinking, words, words, st.just('{"type":"thinking","thinking":"hm","signature":"s"}')),
    st.builds(lambda data: Other({"type": "new", "data": data}), plain_json),
)
typed = st.builds(
    Message, st.sampled_from(["system", "user", "assistant"]), st.lists(parts, max_size=4), st.none() | words
) | st.builds(
    ToolResult,
    words,
    st.lists(parts.filter(lambda part: not isinstance(part, ToolCall)), max_size=3),
    st.none() | words,
    st.booleans(),
)


@given(typed)
def test_a_message_comes_back_from_its_plain_form(message: Any) -> None:
    plain = message.to_plain()
    assert from_plain(plain) == message
    assert from_plain(plain).to_plain() == plain


@given(typed)
def test_a_typed_message_and_its_plain_form_are_the_same_call(message: Any) -> None:
    lm = LM("openai/gpt-4o-mini")
    assert messages([message]) == messages([message.to_plain()])
    assert lm.request(messages([message]), {}).cache_key == lm.request(messages([message.to_plain()]), {}).cache_key


@given(typed)
def test_messages_are_equal_by_value_and_travel(message: Any) -> None:
    again = pickle.loads(pickle.dumps(message))
    assert again == message
    assert hash(again) == hash(message)


def test_typed_parts_may_stand_in_plain_messages() -> None:
    image = Image("https://x/y.png")
    mixed = [{"role": "user", "content": ["look:", image]}, Message("user", "a")]
    look = {"type": "text", "text": "look:"}
    plain = [
        {"role": "user", "content": [look, {"type": "image_url", "image_url": {"url": "https://x/y.png"}}]},
        {"role": "user", "content": "a"},
    ]
    assert messages(mixed) == messages(plain) == plain


def test_one_bare_text_is_the_text() -> None:
    said = [Message("user", "a"), Message("user", [Text("a")]), {"role": "user", "content": [Text("a")]}]
    said.append({"role": "user", "content": [{"type": "text", "text": "a"}]})
    assert messages(said) == [{"role": "user", "content": "a"}] * 4
    kept = {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]}
    assert messages([kept, Message("user", Text("a", cache="5m"))]) == [kept, kept]


def test_an_assistants_calls_keep_their_place_among_what_it_said() -> None:
    calls = ToolCall("f", id="1"), ToolCall("g", id="2")
    thought = Thinking("so", "anthropic", '{"type":"thinking"}')
    usual = Message("assistant", [thought, Text("a"), *calls])
    assert [call.get("at") for call in usual.to_plain()["tool_calls"]] == [None, None]
    between = Message("assistant", [calls[0], thought, calls[1]])
    assert [call.get("at") for call in between.to_plain()["tool_calls"]] == [0, None]
    assert from_plain(between.to_plain()) == between != Message("assistant", [thought, *calls])
    assert Message("assistant", calls).to_plain()["content"] is None


def test_calls_as_users_write_them_stay() -> None:
    plain = {"role": "assistant", "content": "so", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}
    assert from_plain(plain).to_plain()["tool_calls"] == [{"type": "function", **plain["tool_calls"][0]}]


@pytest.mark.parametrize(
    ("text", "arguments", "error"),
    [
        ('{"a": 1}', {"a": 1}, None),
        ("", {}, None),
        ("  ", {}, None),
        ('{"a": 1', {}, "the arguments of f are not JSON: "),
        ("[1]", {}, "the arguments of f are no JSON object, but a list"),
        ("null", {}, "the arguments of f are no JSON object, but a NoneType"),
        ("[" * 100_000, {}, "the arguments of f are not JSON: "),
        ('{"a": 123456789012345678901234567890}', {"a": 123456789012345678901234567890}, None),
        ('{"a": "one\nline"}', {"a": "one\nline"}, None),
    ],
)
def test_arguments_that_a_model_wrote(text: str, arguments: Any, error: str | None) -> None:
    call = ToolCall("f", text)
    assert call.arguments == arguments
    assert call.text == text
    assert (call.error or "").startswith(error or "")
    assert (call.error is None) == (error is None)


def test_calls_are_equal_by_what_they_ask_for() -> None:
    assert ToolCall("f", '{"a": 1,  "b": 2}') == ToolCall("f", {"b": 2, "a": 1})
    assert hash(ToolCall("f", '{"a": 1}')) == hash(ToolCall("f", {"a": 1}))
    assert ToolCall("f", '{"a": 1}') != ToolCall("f", '{"a": 2}')
    assert ToolCall("f", "{") != ToolCall("f", "{{")
    assert ToolCall("f", "{}", "1") != ToolCall("f", "{}", "2")


def test_who_changes_the_arguments_changes_no_reply() -> None:
    reply = LMReply("", content=(ToolCall("f", {"a": 1}),))
    reply.tool_calls[0].arguments["a"] = 2
    assert reply.tool_calls[0].arguments == {"a": 1}
    with pytest.raises(dataclasses.FrozenInstanceError):
        reply.tool_calls[0].name = "g"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: Image("cat.png"), "Image: expected an http(s) address or a 'data:image/...;base64,...' URL, got"),
        (lambda: Image("data:text/plain;base64,aGk="), "Image: expected an http(s) address or"),
        (lambda: Image("data:image/png;base64,%%%"), "Image: expected bytes in base64, got '%%%'"),
        (lambda: Image("data:image/png;base64,"), "Image: expected bytes in base64, got ''"),
        (lambda: Image("file:///etc/passwd"), "Image: expected an http(s) address or"),
        (lambda: Image(b"x"), "Image: expected a text, got bytes"),
        (lambda: Image.of(b"hello"), "Image: expected a PNG, JPEG, GIF or WebP, or a media_type, got bytes b'hello'"),
        (lambda: Image("https://x", cache="2h"), "cache of a part is invalid: got '2h', expected '5m', '1h' or None"),
        (lambda: Audio("###", "wav"), "Audio: expected bytes in base64"),
        (lambda: Audio("aGk=", ""), "Audio: expected a format such as 'wav' or 'mp3', got ''"),
        (lambda: File(), "File: expected data or id, one of them, got both or neither"),
        (lambda: File("report.pdf"), "File: expected a 'data:TYPE/...;base64,...' URL, got 'report.pdf'"),
        (lambda: ToolCall("f", {"a": object()}), "ToolCall: expected arguments of plain JSON data, got"),
        (lambda: Message("user", [3]), "a part of a message is invalid: got 3, expected a text, a part or a dict"),
        (lambda: Message("", "a"), "role of a message is invalid: got ''"),
        (lambda: ToolResult(7), "id of a ToolResult is invalid: got 7, expected a ToolCall or its id"),
    ],
)
def test_what_is_none_is_refused_in_one_line(make: Any, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "media"),
    [(PNG, "png"), (b"\xff\xd8\xff\xe0", "jpeg"), (b"GIF89a", "gif"), (b"RIFF\0\0\0\0WEBPVP8 ", "webp")],
)
def test_a_picture_is_known_by_its_first_bytes(data: bytes, media: str) -> None:
    assert Image.of(data).url == f"data:image/{media};base64,{base64.b64encode(data).decode()}"


def test_a_result_names_the_call_that_it_answers() -> None:
    call = ToolCall("add", {"a": 1}, "call_7")
    assert ToolResult(call, "2") == ToolResult("call_7", "2", name="add")
    assert to_plain(ToolResult("call_7", "2")) == {"role": "tool", "tool_call_id": "call_7", "content": "2"}


@given(st.lists(parts, max_size=3))
def test_a_reply_comes_back_from_plain_data(said: list[Any]) -> None:
    reply = LMReply("t", content=tuple(said), logprobs=(Logprob("a", -0.5, (("a", -0.5), ("b", -1.0))),), cached="disk")
    assert LMReply.from_dict(reply.to_dict()) == reply


def test_a_reply_of_bare_text_has_no_parts_until_somebody_asks() -> None:
    reply = LMReply("hi")
    assert reply.content is None
    assert reply.parts == (Text("hi"),)
    assert reply.message == Message("assistant", "hi")
    assert LMReply("").parts == ()
    assert (reply.tool_calls, reply.reasoning, reply.logprobs, reply.cached) == ((), None, None, None)
    assert reply.to_dict().keys().isdisjoint({"content", "logprobs", "cached"})


def test_what_a_reply_has_beside_its_text() -> None:
    call = ToolCall("f", id="1")
    thoughts = Thinking("first", "anthropic"), Thinking("then", "anthropic"), Thinking("", "anthropic")
    reply = LMReply("so", content=(*thoughts, Text("so"), call))
    assert reply.reasoning == "first\n\nthen"
    assert reply.tool_calls == (call,)
    assert reply.message.parts == reply.parts


def test_values_of_the_fields_types_may_stand_in_messages() -> None:
    image = dspex.Image(url="https://x/y.png")
    plain = [{"type": "text", "text": "look:"}, {"type": "image_url", "image_url": {"url": "https://x/y.png"}}]
    assert messages([{"role": "user", "content": ["look:", image]}]) == [{"role": "user", "content": plain}]
    assert messages([Message("user", ["look:", image])]) == [{"role": "user", "content": plain}]
    assert Message("user", image) == Message("user", Image("https://x/y.png"))
    code = dspex.Code(code="print(1)")
    assert Message("user", [code]).text == code.format()


def test_bytes_are_not_shown() -> None:
    image = Image.of(PNG + b"x" * 10_000, detail="low")
    assert repr(image).startswith("Image(url='data:image/png;base64,iVBOR")
    assert repr(image).endswith("…, detail='low')")
    for part in (image, Audio.of(b"x" * 10_000, "wav"), File.of(b"x" * 10_000, name="a.pdf")):
        assert len(repr(Message("user", part))) < 200
