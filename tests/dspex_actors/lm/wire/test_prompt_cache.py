"""DSPy's prompt_cache: each provider's words for it, and what is refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from dspex_actors.errors import ConfigError, InvalidRequest
from dspex_actors.lm.content import Message, ToolCall, ToolResult
from dspex_actors.lm.lm import LM
from dspex_actors.lm.settings import messages
from dspex_actors.lm.wire import PROVIDERS

SHORT, LONG = {"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}
SAID = [Message("system", "Be brief."), Message("user", "a"), Message("assistant", "b"), Message("user", "c")]
TOOLS = [{"type": "function", "function": {"name": "f"}}]


def sent(model: str, said: Any, prompt_cache: Any, **params: Any) -> dict[str, Any]:
    lm = LM(model, prompt_cache=prompt_cache, **params)
    data: dict[str, Any] = orjson.loads(PROVIDERS[lm.provider].body(lm.model_name, messages(said), lm.kwargs))
    assert "prompt_cache" not in data
    return data


def marks(data: Any, path: str = "") -> list[tuple[str, Any]]:
    """Return where the marks in a request stand."""
    found: list[tuple[str, Any]] = []
    inside = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for name, value in inside:
        found += [(path, value)] if name == "cache_control" else marks(value, f"{path}.{name}")
    return found


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("auto", [(".system.0", SHORT)]),
        ({"prefix": "stable", "retention": "long"}, [(".system.0", LONG)]),
        ({"prefix": "history"}, [(".messages.2.content.0", SHORT)]),
        ({"prefix_until_index": 0, "retention": "short"}, [(".messages.0.content.0", SHORT)]),
        ("off", []),
        (SimpleNamespace(mode="auto", retention="long", key=None, prefix=None), [(".system.0", LONG)]),
    ],
)
def test_anthropic_has_marks(wanted: Any, expected: Any) -> None:
    assert marks(sent("anthropic/claude-sonnet-5", SAID, wanted)) == expected


def test_marks_stand_at_the_end_of_whatever_comes_last() -> None:
    assert marks(sent("anthropic/claude-sonnet-5", SAID[1:], "auto", tools=TOOLS)) == [(".tools.0", SHORT)]
    assert marks(sent("anthropic/claude-sonnet-5", SAID[1:], "auto")) == []
    calls = [SAID[1], Message("assistant", ["so", ToolCall("f", id="1"), ToolCall("g", id="2")])]
    history = {"prefix": "history"}
    assert marks(sent("anthropic/claude-sonnet-5", calls, history)) == [(".messages.1.content.2", SHORT)]
    answered = [*calls, ToolResult("1", "x"), ToolResult("2", "y")]
    assert marks(sent("anthropic/claude-sonnet-5", answered, history)) == [(".messages.2.content.1.content.0", SHORT)]
    parts = [Message("user", ["a", {"type": "text", "text": "b"}])]
    assert marks(sent("anthropic/claude-sonnet-5", parts, history)) == [(".messages.0.content.1", SHORT)]


def test_the_others_have_other_words_or_none() -> None:
    wanted = {"key": "mine", "retention": "long", "prefix": "stable"}
    told = sent("openai/gpt-5.2", SAID, wanted)
    assert (told["prompt_cache_key"], told["prompt_cache_retention"]) == ("mine", "24h")
    assert marks(told) == []
    assert sent("gemini/gemini-2.5-pro", SAID, {"resource": "cachedContents/1"})["cachedContent"] == "cachedContents/1"
    plain = orjson.loads(PROVIDERS["cohere"].body("command-a", messages(SAID), {}))
    assert sent("cohere/command-a", SAID, {"prefix": "history"}) == plain


@pytest.mark.parametrize(
    ("model", "wanted", "expected"),
    [
        ("anthropic/claude-sonnet-5", {"key": "x"}, "prompt_cache: Anthropic has no key; leave it out"),
        ("openai/gpt-5", {"resource": "x"}, "prompt_cache: OpenAI has no resource; leave it out"),
        ("gemini/gemini-2.5-pro", {"retention": "long"}, "prompt_cache: Gemini has no retention; leave it out"),
        ("cohere/command-a", {"key": "x"}, "prompt_cache: Cohere has no key; leave it out"),
        ("openai/gpt-5", "always", "prompt_cache: expected 'auto', 'off', or a dict of mode (auto, off), prefix"),
        ("openai/gpt-5", {"ttl": 5}, "prompt_cache: expected 'auto', 'off', or a dict"),
        ("openai/gpt-5", {}, "prompt_cache: expected 'auto', 'off', or a dict"),
        ("openai/gpt-5", True, "prompt_cache: expected 'auto', 'off', or a dict"),
        ("openai/gpt-5", {"prefix_until_index": -1}, "prompt_cache: expected 'auto', 'off', or a dict"),
        ("openai/gpt-5", {"prefix_until_index": True}, "prompt_cache: expected 'auto', 'off', or a dict"),
        ("openai/gpt-5", {"mode": "off", "key": "x"}, "prompt_cache: expected mode 'off' with nothing beside it"),
        (
            "openai/gpt-5",
            {"prefix": "stable", "prefix_until_index": 1},
            "prompt_cache: expected prefix or prefix_until",
        ),
    ],
)
def test_what_is_none_is_refused_when_the_lm_is_made(model: str, wanted: Any, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        LM(model, prompt_cache=wanted)
    assert str(caught.value).startswith(expected)


def test_a_message_that_there_is_not_cannot_be_marked() -> None:
    with pytest.raises(InvalidRequest, match="prefix_until_index is 7, and there are 3 messages"):
        sent("anthropic/claude-sonnet-5", SAID, {"prefix_until_index": 7})


def test_it_comes_back_from_a_saved_program() -> None:
    lm = LM("anthropic/claude-sonnet-5", prompt_cache={"retention": "long"})
    assert LM.load_state(lm.dump_state()) == lm
    assert lm.kwargs["prompt_cache"] == {"mode": "auto", "retention": "long"}


def test_the_callers_messages_stay_as_they_are() -> None:
    said = messages(SAID)
    before = orjson.dumps(said)
    PROVIDERS["anthropic"].body("claude-sonnet-5", said, {"prompt_cache": {"mode": "auto", "prefix": "history"}})
    assert orjson.dumps(said) == before
