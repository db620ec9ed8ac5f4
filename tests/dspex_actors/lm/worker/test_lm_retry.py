from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_actors.errors import (
    AuthError,
    CircuitOpen,
    ContentBlocked,
    ContextWindowExceeded,
    DeadlineExceeded,
    InvalidRequest,
    LMError,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    StreamTruncated,
    Timeout,
)
from dspex_actors.lm.worker.retry import ATTEMPTS, BASE, CAP, WIDEST, GiveUp, Retry, backoff, next_step, spread

CURABLE = [RateLimited, Overloaded, Timeout, StreamTruncated]
HOPELESS = [
    AuthError,
    CircuitOpen,
    ContentBlocked,
    ContextWindowExceeded,
    DeadlineExceeded,
    InvalidRequest,
    QuotaExhausted,
]


@pytest.mark.parametrize("cls", CURABLE)
def test_what_time_may_cure_is_asked_again(cls: type[LMError]) -> None:
    assert isinstance(next_step(cls("x"), 1, 0.0, 600.0, random.Random(1)), Retry)


@pytest.mark.parametrize("cls", HOPELESS)
def test_what_time_does_not_cure_ends_the_call_with_its_own_error(cls: type[LMError]) -> None:
    error = cls("x")
    assert next_step(error, 1, 0.0, 600.0, random.Random(1)) == GiveUp(error)


@pytest.mark.parametrize("cls", CURABLE)
def test_an_error_that_says_it_is_final_is_believed(cls: type[LMError]) -> None:
    error = cls("x", retryable=False)
    assert next_step(error, 1, 0.0, 600.0, random.Random(1)) == GiveUp(error)


@pytest.mark.parametrize(("cls", "most"), [(c, n) for c, n in ATTEMPTS.items() if n is not None])
def test_each_kind_of_failure_has_its_number_of_attempts(cls: type[LMError], most: int) -> None:
    error = cls("x")
    assert isinstance(next_step(error, most - 1, 0.0, 600.0, random.Random(1)), Retry)
    assert next_step(error, most, 0.0, 600.0, random.Random(1)) == GiveUp(error)


def test_a_rate_limit_is_waited_for_as_long_as_the_deadline_lets() -> None:
    assert isinstance(next_step(RateLimited("x"), 500, 0.0, 600.0, random.Random(1)), Retry)


def test_a_wait_beyond_the_deadline_ends_the_call_at_once_with_the_wait() -> None:
    step = next_step(RateLimited("slow", retry_after=31.0), 1, 10.0, 40.0, random.Random(1))
    assert isinstance(step, GiveUp)
    assert isinstance(step.error, RateLimited)
    assert step.error.retry_after == 31.0


def test_a_backoff_beyond_the_deadline_is_a_deadline_exceeded_that_names_the_last_failure() -> None:
    step = next_step(Overloaded("it was 503", status=503, code="c"), 1, 600.0, 600.0, random.Random(1))
    assert isinstance(step, GiveUp)
    assert isinstance(step.error, DeadlineExceeded)
    assert "it was 503" in step.error.message
    assert (step.error.status, step.error.code) == (503, "c")


@given(
    cls=st.sampled_from(CURABLE),
    retry_after=st.none() | st.floats(0, 1e7),
    attempt=st.integers(1, 10**6),
    elapsed=st.floats(0, 1000),
    deadline=st.floats(0.001, 1000),
    seed=st.integers(0, 1000),
)
def test_a_retry_never_outlives_the_deadline_nor_comes_too_early(
    cls: type[LMError], retry_after: float | None, attempt: int, elapsed: float, deadline: float, seed: int
) -> None:
    step = next_step(cls("x", retry_after=retry_after), attempt, elapsed, deadline, random.Random(seed))
    if isinstance(step, Retry):
        assert 0 <= step.delay < deadline - elapsed
        if retry_after:
            assert retry_after <= step.delay <= retry_after + WIDEST
        else:
            assert step.delay <= CAP
    else:
        assert isinstance(step.error, LMError)


@given(st.integers(1, 10**6), st.integers(0, 10**6))
def test_backoff_grows_to_its_cap_with_full_jitter(attempt: int, seed: int) -> None:
    delay = backoff(attempt, random.Random(seed))
    assert 0 <= delay <= min(CAP, BASE * 2.0 ** min(attempt - 1, 30))


def test_those_who_were_told_the_same_wait_do_not_return_at_the_same_moment() -> None:
    rng = random.Random(3)
    delays = [next_step(RateLimited("x", retry_after=4.0), 1, 0.0, 600.0, rng) for _ in range(200)]
    values = sorted(step.delay for step in delays if isinstance(step, Retry))
    assert len(set(values)) == 200
    assert values[-1] - values[0] > 0.8


def test_who_is_refused_again_after_a_short_wait_comes_back_ever_more_spread_out() -> None:
    widths = [spread(0.02, attempt) for attempt in range(1, 12)]
    assert widths == sorted(widths)
    assert (widths[0], widths[-1]) == (0.05, WIDEST)
    assert spread(4.0) == 1.0
