"""Limits, faults, latencies, tokens and settings: the pure parts of the server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_actors.embedded import EmbeddedConfig, parse_faults, tokens
from dspex_actors.embedded.config import KINDS
from dspex_actors.embedded.faults import FaultPlan
from dspex_actors.embedded.limiter import RateLimiter
from dspex_actors.embedded.wire.openai import duration
from dspex_actors.errors import ConfigError
from dspex_actors.foundation.gcra import Gcra
from dspex_actors.foundation.tokens import count


def test_the_burst_is_free_and_the_next_one_waits_for_the_steady_rate() -> None:
    limiter = RateLimiter(rpm=60, tpm=None, burst_seconds=3)
    assert [limiter.admit(0, 100.0) for _ in range(3)] == [None, None, None]
    refusal = limiter.admit(0, 100.0)
    assert refusal is not None
    assert refusal.limit == "requests"
    assert refusal.retry_after == pytest.approx(1.0)
    assert limiter.admit(0, 101.0) is None


@given(st.lists(st.floats(0, 0.2), min_size=1, max_size=300))
def test_no_arrival_pattern_gets_more_than_rate_and_burst(gaps: list[float]) -> None:
    limiter = RateLimiter(rpm=600, tpm=None, burst_seconds=2)
    now = 0.0
    admitted = 0
    for gap in gaps:
        now += gap
        admitted += limiter.admit(1, now) is None
    assert admitted <= 10 * now + 20 + 1e-6


@given(st.floats(0, 100), st.integers(1, 5000))
def test_a_client_that_waits_as_told_is_admitted(now: float, units: int) -> None:
    limit = Gcra(6000, 2.0)
    limit.take(200, now)
    wait = limit.wait(units, now)
    assert wait > 0
    assert limit.wait(units, now + wait + 1e-6) == 0


def test_a_request_larger_than_the_burst_is_admitted_alone_and_paid_off() -> None:
    limiter = RateLimiter(rpm=None, tpm=6000, burst_seconds=2)
    assert limiter.admit(1000, 0.0) is None
    refusal = limiter.admit(10, 0.0)
    assert refusal is not None
    assert refusal.limit == "tokens"
    assert refusal.retry_after == pytest.approx(8.1)


def test_a_refused_request_costs_nothing_and_settling_gives_back() -> None:
    limiter = RateLimiter(rpm=6000, tpm=6000, burst_seconds=2)
    assert limiter.admit(200, 0.0) is None
    assert limiter.admit(100, 0.0) is not None
    assert limiter.requests is not None
    assert limiter.requests.remaining(0.0) == 199
    limiter.settle(200, 50, 0.0)
    assert limiter.tokens is not None
    assert limiter.tokens.remaining(0.0) == 150
    assert limiter.tokens.reset_after(0.0) == pytest.approx(0.5)


def test_what_was_used_beyond_the_reserved_counts_from_when_it_is_known() -> None:
    limiter = RateLimiter(rpm=None, tpm=6000, burst_seconds=2)
    assert limiter.admit(10, 0.0) is None
    limiter.settle(10, 110, 5.0)
    assert limiter.tokens is not None
    assert limiter.tokens.reset_after(5.0) == pytest.approx(1.0)


def test_faults_come_at_their_rates_and_the_same_for_the_same_seed() -> None:
    plan = FaultPlan({"hang": 0.1, "reset": 0.2}, seed=7)
    drawn = [plan.fault(n) for n in range(4000)]
    assert drawn == [FaultPlan({"reset": 0.2, "hang": 0.1}, seed=7).fault(n) for n in range(4000)]
    assert drawn.count("hang") / 4000 == pytest.approx(0.1, abs=0.02)
    assert drawn.count("reset") / 4000 == pytest.approx(0.2, abs=0.02)
    assert drawn != [FaultPlan({"hang": 0.1, "reset": 0.2}, seed=8).fault(n) for n in range(4000)]


def test_latency_is_fixed_or_log_normal_around_its_median() -> None:
    assert EmbeddedConfig(latency_ms=20).latency(3) == pytest.approx(0.02)
    spread = EmbeddedConfig(latency_ms=20, latency_sigma=0.5)
    drawn = sorted(spread.latency(n) for n in range(1000))
    assert drawn[500] == pytest.approx(0.02, rel=0.1)
    assert drawn[0] < 0.01 < 0.04 < drawn[-1]
    assert spread.latency(5) == spread.latency(5)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"port": 70000}, "port"),
        ({"latency_ms": -1}, "latency_ms"),
        ({"latency_sigma": float("nan")}, "latency_sigma"),
        ({"rpm": 0}, "rpm"),
        ({"faults": {"fire": 0.1}}, "fire"),
        ({"faults": {"hang": 1.5}}, "hang"),
        ({"faults": {"hang": 0.6, "html": 0.6}}, "together"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused_by_name(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        EmbeddedConfig(**settings)  # type: ignore[arg-type]


def test_all_kinds_of_fault_may_share_all_requests() -> None:
    assert EmbeddedConfig(faults=dict.fromkeys(KINDS, 1 / len(KINDS)))


def test_faults_are_read_from_words() -> None:
    assert parse_faults(["hang=0.01", "reset=.5"]) == {"hang": 0.01, "reset": 0.5}
    for wrong in ("hang", "hang=often"):
        with pytest.raises(ConfigError, match="KIND=RATE"):
            parse_faults([wrong])


@given(st.text(max_size=200), st.integers(1, 30))
def test_a_cut_text_costs_at_most_its_limit(text: str, limit: int) -> None:
    assert count(tokens.cut(text, limit)) <= limit
    assert count(text) <= count(text + "a")


@pytest.mark.parametrize(
    ("text", "expected"), [("", 0), ("a", 1), ("abcde", 2), ("a b c d e f", 6), ("a longer sentence here", 6)]
)
def test_tokens_are_about_four_characters_and_at_least_a_word(text: str, expected: int) -> None:
    assert count(text) == expected


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.006, "6ms"), (1.5, "1.5s"), (1.0, "1s"), (360, "6m0s"), (3661, "1h1m1s")]
)
def test_durations_are_written_as_openai_does(seconds: float, text: str) -> None:
    assert duration(seconds) == text
