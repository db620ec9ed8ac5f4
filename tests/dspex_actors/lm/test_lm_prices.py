"""What calls cost: by the list, by what the user tells, or unknown; never wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex_actors.errors import ConfigError
from dspex_actors.lm import prices
from dspex_actors.lm.deployment import Deployment
from dspex_actors.lm.prices import cost
from dspex_actors.lm.usage import Usage
from dspex_actors.lm.worker.session import LMSession

#: 15 November 2026: prices that changed later or earlier do not change these tests.
NOW = 1_794_700_800.0
MILLION = 1_000_000

counts = st.integers(0, 10**9)
usages = st.builds(Usage, counts, counts, counts, counts, counts, counts, st.booleans(), counts)


@pytest.fixture(autouse=True)
def _no_prices_told(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("DSPEX_PRICES", raising=False)
    prices.told_prices.cache_clear()
    yield
    prices.told_prices.cache_clear()


@pytest.fixture
def tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "prices.toml"
        path.write_text(text)
        monkeypatch.setenv("DSPEX_PRICES", str(path))
        prices.told_prices.cache_clear()
        return path

    return write


@pytest.mark.parametrize(
    ("provider", "model", "usage", "dollars"),
    [
        ("openai", "gpt-4o-mini", Usage(MILLION, output_total=MILLION), 0.75),
        ("openai", "gpt-4o-mini-2024-07-18", Usage(MILLION), 0.15),
        ("openai", "gpt-4o-mini", Usage(MILLION, cache_read=MILLION), 0.075),
        ("openai", "gpt-4o-2024-05-13", Usage(MILLION), 5.0),
        ("openai", "gpt-5", Usage(MILLION, output_total=MILLION, reasoning=MILLION), 11.25),
        ("openai", "ft:gpt-4o-mini-2024-07-18:me::1", Usage(MILLION), 0.30),
        ("anthropic", "claude-sonnet-4-5-20250929", Usage(100_000, cache_read=40_000, cache_write=20_000), 0.207),
        ("anthropic", "claude-sonnet-4-5", Usage(100_000, cache_write=20_000, cache_write_1h=20_000), 0.36),
        ("anthropic", "claude-sonnet-4-5", Usage(100_000, cache_write=20_000, cache_write_1h=5_000), 0.32625),
        ("anthropic", "claude-sonnet-4-5", Usage(300_000), 1.8),
        ("gemini", "gemini-2.5-flash-001", Usage(MILLION), 0.30),
        ("gemini", "gemini-2.5-pro", Usage(200_000, output_total=1000), 0.26),
        ("gemini", "gemini-2.5-pro", Usage(200_001, output_total=1000), 0.5150025),
        ("cohere", "command-a-03-2025", Usage(MILLION, output_total=MILLION), 12.5),
        ("openai", "gpt-4o", Usage(10, audio=5), None),
        ("gemini", "gemini-2.5-flash-image", Usage(10), None),
        ("openai", "gpt-4o-mini-of-mine", Usage(10), None),
        ("openai", "my-model", Usage(10), None),
        ("openai", "text-embedding-3-small", Usage(10), 2e-7),
        ("nobody", "gpt-4o", Usage(10), None),
        ("embedded", "nearest", Usage(10, output_total=9), 0.0),
    ],
)
def test_list_prices(provider: str, model: str, usage: Usage, dollars: float | None) -> None:
    assert cost(usage, provider, model, now=NOW) == (None if dollars is None else pytest.approx(dollars))


@pytest.mark.parametrize(
    ("provider", "model", "tier", "dollars"),
    [
        ("openai", "gpt-5", "flex", 5.625),
        ("openai", "gpt-5", "priority", 22.5),
        ("openai", "gpt-5", "batch", 5.625),
        ("openai", "gpt-5", "scale", None),
        ("openai", "gpt-3.5-turbo", "flex", None),
        ("anthropic", "claude-sonnet-4-5", "batch", 11.25),
        ("anthropic", "claude-sonnet-4-5", "priority", None),
        ("anthropic", "claude-sonnet-4-5", "us", None),
        ("openai", "no-such-model", "flex", None),
    ],
)
def test_other_tiers_cost_what_is_listed_for_them_or_nobody_knows(
    provider: str, model: str, tier: str, dollars: float | None
) -> None:
    usage = Usage(MILLION if provider == "openai" else 100_000, output_total=MILLION)
    if provider == "anthropic" and dollars is not None:
        dollars = 0.1 * 1.5 + 7.5
    assert cost(usage, provider, model, tier=tier, now=NOW) == (None if dollars is None else pytest.approx(dollars))


def test_in_a_batch_everything_costs_half_where_nobody_says_more(tell: Callable[[str], Path]) -> None:
    usage = Usage(MILLION, cache_read=MILLION // 2, output_total=MILLION)
    assert cost(usage, "openai", "gpt-5", tier="batch", now=NOW) == pytest.approx((0.625 + 0.0625) / 2 + 5.0)
    assert cost(usage, "openai", "gpt-3.5-turbo", tier="batch", now=NOW) == pytest.approx(
        (cost(usage, "openai", "gpt-3.5-turbo", now=NOW) or 0.0) / 2
    )
    tell('["openai/mine"]\ninput = 3\noutput = 1\ncache_read = 1\n')
    assert cost(usage, "openai", "mine", tier="batch", listed=False) == pytest.approx((1.5 + 0.5) / 2 + 0.5)
    assert cost(usage, "openai", "mine", tier="flex", listed=False) is None
    assert cost(usage, "openai", "other", tier="batch", listed=False) is None


def test_the_most_that_a_request_may_cost_is_that_of_a_batch_where_it_surely_is_in_one() -> None:
    at_once = prices.most("openai", "gpt-5", MILLION, MILLION, tier="batch", now=NOW)
    in_batch = prices.most("openai", "gpt-5", MILLION, MILLION, tier="batch", is_sure=True, now=NOW)
    assert (at_once, in_batch) == (pytest.approx(11.25), pytest.approx(5.625))


def test_a_price_changes_on_its_day() -> None:
    june = 1_749_513_600.0  # 10 June 2025
    assert cost(Usage(MILLION), "openai", "o3", now=june - 86400) == pytest.approx(10.0)
    assert cost(Usage(MILLION), "openai", "o3", now=june) == pytest.approx(2.0)


@settings(deadline=None)
@given(
    st.sampled_from(["gpt-5", "gpt-4o-mini", "claude-sonnet-4-5", "gemini-2.5-pro", "command-a"]),
    st.sampled_from(["openai", "anthropic", "gemini", "cohere"]),
    st.sampled_from([None, "flex", "batch", "fast"]),
    usages,
)
def test_no_usage_costs_less_than_nothing(model: str, provider: str, tier: str | None, usage: Usage) -> None:
    price = cost(usage, provider, model, tier=tier, now=NOW)
    assert price is None or price >= 0


def test_the_users_prices_stand_above_the_list_and_hold_elsewhere_too(tell: Callable[[str], Path]) -> None:
    tell('["openai/gpt-4o-mini"]\ninput = 1\noutput = 2.5\n["openai/mine"]\ninput = 3\noutput = 0\ncache_read = 1\n')
    assert cost(Usage(MILLION, output_total=MILLION), "openai", "gpt-4o-mini-2024-07-18") == pytest.approx(3.5)
    assert cost(Usage(MILLION, cache_read=MILLION), "openai", "mine", listed=False) == pytest.approx(1.0)
    assert cost(Usage(MILLION), "openai", "gpt-4o", listed=False) is None
    assert cost(Usage(MILLION), "openai", "gpt-4o", now=NOW) == pytest.approx(2.5)
    # They say nothing about other tiers, nor about an hour in the cache.
    assert cost(Usage(MILLION), "openai", "mine", tier="flex") is None
    assert cost(Usage(MILLION, cache_write=5, cache_write_1h=5), "openai", "mine") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[broken", "cannot read .*prices.toml"),
        ("x = 5", "expected input, output"),
        ('["a/b"]\ninput = 1', "expected input, output"),
        ('["a/b"]\ninput = 1\noutput = 1\nouput = 2', "expected input, output"),
        ('["a/b"]\ninput = -1\noutput = 1', r"\[a/b\]: input is invalid: got -1"),
        ('["a/b"]\ninput = 1\noutput = true', "output is invalid: got True"),
        ('["a/b"]\ninput = 1\noutput = nan', "output is invalid: got nan"),
        (
            '["openai/a"]\ninput = 1\noutput = 1\n["openai/b"]\noutput = 1\ninptu = 1',
            r"prices.toml line 6 \[openai/b\]",
        ),
        (
            '["openai/a"]\ninput = 1\noutput = 1\n\n["opnai/b"]\ninput = 1\noutput = 1',
            r"line 5 \[opnai/b\] is invalid: no ",
        ),
        ('["openai/a"]\ninput = 1\noutput = -2', r"line 3 \[openai/a\]: output is invalid: got -2"),
    ],
)
def test_wrong_prices_are_found_before_anything_is_paid(tell: Callable[[str], Path], text: str, words: str) -> None:
    tell(text)
    with pytest.raises(ConfigError, match=words):
        LMSession(Deployment("openai", "gpt-4o"))


def test_a_file_of_prices_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DSPEX_PRICES", str(tmp_path / "none.toml"))
    with pytest.raises(ConfigError, match=r"DSPEX_PRICES: cannot read .*No such file"):
        prices.told_prices()


def test_vectors_cost_their_texts_only() -> None:
    assert cost(Usage(MILLION), "openai", "text-embedding-3-small") == pytest.approx(0.02)
    assert prices.most("openai", "text-embedding-3-small", MILLION, 5000) == pytest.approx(0.02)


@pytest.mark.parametrize("asked", ["openai/gpt-4o-mini", "anthropic/claude-sonnet-4-5", "gemini/gemini-2.5-pro"])
@pytest.mark.parametrize("used", [Usage(900, 300, 600, 80), Usage(250_000, output_total=10), Usage(1000, 0, 0, 1000)])
def test_no_request_costs_more_than_the_most_that_was_said(asked: str, used: Usage) -> None:
    provider, _, model = asked.partition("/")
    dollars = cost(used, provider, model)
    at_most = prices.most(provider, model, used.input_total, used.output_total)
    assert dollars is not None
    assert at_most is not None
    assert dollars <= at_most


def test_the_list_is_not_loaded_before_something_costs() -> None:
    code = (
        "import sys, json, dspex_actors, dspex_actors.lm.worker.session;"
        "from dspex_actors.lm.prices import cost; from dspex_actors.lm.usage import Usage;"
        "cost(Usage(5), 'embedded', 'nearest'); cost(Usage(5), 'openai', 'x', listed=False);"
        "print(json.dumps([name for name in sys.modules if name.startswith('genai_prices')]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
