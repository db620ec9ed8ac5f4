"""Any conversation can be told to any provider, or is refused in one line before the call; no text of it is lost."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from property_kit import examples

from dspex_actors.errors import InvalidRequest
from dspex_actors.lm.content import Audio, File, Image, Message, Other, Text, Thinking, ToolCall, ToolResult
from dspex_actors.lm.settings import messages
from dspex_actors.lm.wire import PROVIDERS, Provider, Responses

WIRES: dict[str, Provider] = {**PROVIDERS, "responses": Responses()}
MODELS = {"gemini": "gemini-3-pro"}
#: Texts that nothing else in a request has.
SAID = [f"said-{number}" for number in range(6)]
said = st.sampled_from(SAID)
marks = st.sampled_from([None, "5m", "1h"])
BLOCK = json.dumps({"type": "thinking", "thinking": "thought-1", "signature": "signed-1"})

media = st.one_of(
    st.builds(Image, st.just("https://x/y.png"), st.none(), marks),
    st.builds(Image.of, st.just(b"\x89PNG\r\n\x1a\n...")),
    st.builds(Audio.of, st.just(b"sound"), st.sampled_from(["wav", "mp3", "flac"])),
    st.builds(File.of, st.just(b"%PDF"), st.sampled_from(["application/pdf", "text/plain", "application/zip"]), said),
    st.builds(lambda number: File(id=number), st.sampled_from(["file_1", "files/1", "https://x/f"])),
    st.builds(lambda text: Other({"type": "text", "text": text, "new": 1}), said),
    st.just(Other({"functionCall": {"name": "tool", "args": {}}})),
)
texts = st.builds(Text, said, marks, st.sampled_from([None, "signed-2"]))
thoughts = st.builds(Thinking, st.just("thought-1"), st.sampled_from(["anthropic", "openai", "gemini"]), st.just(BLOCK))
calls = st.builds(ToolCall, st.just("tool"), st.builds(lambda text: {"a": text}, said), st.sampled_from(["c1", "c2"]))
broken = st.builds(ToolCall, st.just("tool"), st.sampled_from(["{", "[1]", "null"]), st.just("c1"))
conversations = st.lists(
    st.one_of(
        st.builds(Message, st.sampled_from(["system", "developer", "user"]), st.lists(texts | media, max_size=3)),
        st.builds(Message, st.just("assistant"), st.lists(texts | thoughts | calls | broken | media, max_size=4)),
        st.builds(ToolResult, st.sampled_from(["c1", ""]), st.lists(texts | media, max_size=2), st.none() | said),
    ),
    min_size=1,
    max_size=5,
)


def told(wire: Provider, plain: Any) -> tuple[bytes | None, str]:
    """Return what is sent, or why nothing is."""
    try:
        return wire.body(MODELS.get(wire.name, "m"), plain, {}), ""
    except InvalidRequest as error:
        return None, str(error)


@pytest.mark.parametrize("name", WIRES)
@settings(max_examples=examples(80))
@given(conversation=conversations)
def test_it_is_told_or_refused_in_one_line(name: str, conversation: list[Any]) -> None:
    wire, plain = WIRES[name], messages(conversation)
    before = copy.deepcopy(plain)
    body, refusal = told(wire, plain)
    assert plain == before  # they are the caller's
    if body is None:
        assert refusal.count("\n") == 0
        assert "is not plain JSON data" not in refusal
        return
    assert told(wire, plain) == (body, "")
    parts = [part for message in conversation for part in message.parts]
    texts = [part.text for part in parts if isinstance(part, Text)]
    sent = body.decode()
    assert [text for text in set(texts) if sent.count(text) < texts.count(text)] == []
    if not any(isinstance(part, Thinking) and part.provider == wire.name for part in parts):
        assert "thought-1" not in sent
        assert "signed-1" not in sent
    assert name == "gemini" or "signed-2" not in sent
