"""Which error lets another model be asked, and with which settings."""

from __future__ import annotations

import pytest

from dspex_actors import errors
from dspex_actors.lm.lm import LM
from dspex_actors.lm.worker.fallback import candidates, worth_another


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("RateLimited", True),
        ("QuotaExhausted", True),
        ("Timeout", True),
        ("DeadlineExceeded", True),
        ("Overloaded", True),
        ("AuthError", True),
        ("StreamTruncated", True),
        ("CircuitOpen", True),
        ("ContextWindowExceeded", True),
        ("InvalidRequest", False),
        ("ContentBlocked", False),
    ],
)
def test_another_model_is_asked_only_when_it_may_answer(name: str, expected: bool) -> None:
    assert worth_another(getattr(errors, name)("no answer")) is expected


def test_a_model_string_takes_over_parameters_and_times_but_not_server_and_key() -> None:
    lm = LM(
        "openai/gpt-4o-mini",
        base_url="http://127.0.0.1:1/v1",
        timeout=3.0,
        temperature=0.5,
        fallbacks=["anthropic/claude-x", LM("gemini/g", max_tokens=5)],
    )
    first, second = candidates(lm)
    assert (first.provider, first.timeout, first.kwargs, first.base_url) == (
        "anthropic",
        3.0,
        {"temperature": 0.5},
        None,
    )
    assert second == LM("gemini/g", max_tokens=5)
