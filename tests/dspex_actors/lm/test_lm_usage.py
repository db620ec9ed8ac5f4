from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dspex_actors.lm.usage import DEFAULT_OUTPUT, Usage, estimate_usage, longest_reply, prompt_tokens

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
