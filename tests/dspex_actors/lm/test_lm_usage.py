from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_actors.lm.usage import (
    DEFAULT_OUTPUT,
    Usage,
    estimate_usage,
    guessed_tokens,
    longest_reply,
    most_tokens,
    prompt_tokens,
)

counts = st.integers(0, 10**9)
usages = st.builds(Usage, counts, counts, counts, counts, counts, counts, st.booleans(), counts)


@given(usages, usages, usages)
def test_usage_adds_up_in_any_order(a: Usage, b: Usage, c: Usage) -> None:
    assert (a + b) + c == a + (b + c)
    assert a + b == b + a
    assert a + Usage() == a
    assert Usage.from_dict(a.to_dict()) == a
    assert (a + b).estimated is Usage.from_dict((a + b).to_dict()).estimated is (a.estimated or b.estimated)


def test_old_or_foreign_usage_data_is_read_as_far_as_it_goes() -> None:
    assert Usage.from_dict({"input_total": 5, "new": 1, "audio": None}) == Usage(input_total=5)


def test_estimates_count_characters_attachments_and_the_longest_reply() -> None:
    messages = [
        {"role": "system", "content": "x" * 400},
        {
            "role": "user",
            "content": [{"type": "text", "text": "y" * 40}, {"type": "image_url", "image_url": "z" * 9999}],
        },
    ]
    assert prompt_tokens(messages) == 110 + 8 + 1000
    assert prompt_tokens([{"role": "user", "content": None}]) > 0
    assert [longest_reply(params) for params in ({"max_tokens": 50}, {"max_completion_tokens": 60}, {})] == [
        50,
        60,
        DEFAULT_OUTPUT,
    ]
    assert estimate_usage(messages, "abcde") == Usage(input_total=1118, output_total=2, estimated=True)


def test_thoughts_and_tool_calls_count_as_what_they_say() -> None:
    call = {"function": {"name": "f", "arguments": "x" * 400}}
    thought = {"type": "thinking", "thinking": "y" * 400, "provider": "p"}
    bare = prompt_tokens([{"role": "assistant", "content": None}])
    assert prompt_tokens([{"role": "assistant", "content": [thought]}]) == bare + 100
    assert bare + 100 < prompt_tokens([{"role": "assistant", "content": None, "tool_calls": [call]}]) < bare + 110
    assert prompt_tokens([{"role": "assistant", "content": ["z" * 400]}]) == bare + 100


def picture(size: int) -> list[dict[str, object]]:
    url = "data:image/png;base64," + "A" * size
    return [{"role": "user", "content": [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": url}]}]


def test_the_bytes_of_a_picture_are_no_text() -> None:
    small, large = picture(400), picture(1_000_000)
    for messages in (small, large):
        body = orjson.dumps({"messages": messages})
        guess, (most, _) = guessed_tokens(body, messages), most_tokens(body, messages, {"max_tokens": 5})
        assert 100 < guess < 1100
        assert 10_000 < most < 10_500, "ten times what is usual, and what is around it"
    sound = [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "A" * 100_000}}]}]
    assert most_tokens(orjson.dumps(sound), sound, {})[0] > 100_000, "that has a token for each moment"
    text = [{"role": "user", "content": "x" * 100_000}]
    assert guessed_tokens(orjson.dumps(text), text) == pytest.approx(25_000, rel=0.01)
