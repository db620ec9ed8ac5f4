from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_actors.lm.prices import PRICES, cost
from dspex_actors.lm.usage import Usage, estimate_tokens, estimate_usage

counts = st.integers(0, 10**9)
usages = st.builds(Usage, counts, counts, counts, counts, counts, counts, st.booleans())


@given(usages, usages, usages)
def test_usage_adds_up_in_any_order(a: Usage, b: Usage, c: Usage) -> None:
    assert (a + b) + c == a + (b + c)
    assert a + b == b + a
    assert a + Usage() == a
    assert Usage.from_dict(a.to_dict()) == a


def test_old_or_foreign_usage_data_is_read_as_far_as_it_goes() -> None:
    assert Usage.from_dict({"input_total": 5, "new": 1, "audio": None}) == Usage(input_total=5)


@pytest.mark.parametrize(
    ("provider", "model", "usage", "dollars"),
    [
        ("openai", "gpt-4o-mini", Usage(1_000_000, output_total=1_000_000), 0.75),
        ("openai", "gpt-4o-mini-2024-07-18", Usage(1_000_000), 0.15),
        ("openai", "gpt-4o-mini", Usage(1_000_000, cache_read=1_000_000), 0.075),
        ("openai", "gpt-4o-2024-05-13", Usage(1_000_000), 5.0),
        (
            "anthropic",
            "claude-sonnet-4-5-20250929",
            Usage(100_000, cache_read=40_000, cache_write=20_000),
            0.207,
        ),
        ("anthropic", "claude-sonnet-4-5", Usage(300_000), None),
        ("gemini", "gemini-2.5-flash-001", Usage(1_000_000), 0.30),
        ("openai", "gpt-4o", Usage(10, audio=5), None),
        ("openai", "my-model", Usage(10), None),
        ("nobody", "gpt-4o", Usage(10), None),
        ("embedded", "nearest", Usage(10, output_total=9), 0.0),
    ],
)
def test_prices(provider: str, model: str, usage: Usage, dollars: float | None) -> None:
    assert cost(usage, provider, model) == (None if dollars is None else pytest.approx(dollars))


@given(st.sampled_from([(p, m) for p, models in PRICES.items() for m in models]), usages)
def test_no_usage_costs_less_than_nothing(which: tuple[str, str], usage: Usage) -> None:
    price = cost(usage, *which)
    assert price is None or price >= 0


def test_estimates_count_characters_attachments_and_the_longest_reply() -> None:
    messages = [
        {"role": "system", "content": "x" * 400},
        {
            "role": "user",
            "content": [{"type": "text", "text": "y" * 40}, {"type": "image_url", "image_url": "z" * 9999}],
        },
    ]
    assert estimate_tokens(messages, {"max_tokens": 50}) == 110 + 8 + 1000 + 50
    assert estimate_tokens(messages, {"max_completion_tokens": 60}) == 110 + 8 + 1000 + 60
    assert estimate_tokens([{"role": "user", "content": None}], {}) > 0
    assert estimate_usage(messages, "abcde") == Usage(input_total=1118, output_total=2, estimated=True)
