"""Which error lets another model be asked, and what the caller is told when nobody can."""

from __future__ import annotations

import pytest

from dspex_actors import errors
from dspex_actors.lm.lm import LM
from dspex_actors.lm.worker.fallback import what_to_tell, worth_another


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


def test_a_model_that_the_provider_does_not_know_is_no_fault_of_the_request() -> None:
    assert worth_another(errors.InvalidRequest("no such model", status=404))


def test_a_fallback_that_finds_the_request_wrong_is_not_the_last_one_asked_but_one_that_blocks_it_is() -> None:
    assert worth_another(errors.InvalidRequest("unknown parameter"), fallback=True)
    assert not worth_another(errors.ContentBlocked("no"), fallback=True)


def test_a_fallback_that_cannot_be_asked_does_not_hide_that_the_first_one_passes() -> None:
    away = errors.Overloaded("503", retryable=True)
    no_key = errors.AuthError("no key", retryable=False)
    wrong = errors.InvalidRequest("wrong", retryable=False)
    assert what_to_tell([away, no_key]) is away
    assert what_to_tell([away, wrong]) is away
    assert what_to_tell([no_key, away]) is away
    assert what_to_tell([no_key, wrong]) is no_key


def test_a_fallback_has_parameters_of_its_own_and_a_model_string_has_none_but_the_calls_options() -> None:
    lm = LM(
        "openai/gpt-4o-mini",
        base_url="http://127.0.0.1:1/v1",
        timeout=3.0,
        temperature=0.5,
        fallbacks=["anthropic/claude-x", LM("gemini/g", max_tokens=5)],
    )
    first, second = lm.request([], {}).lm.fallbacks
    assert (first.deployment.model, first.options.timeout, first.params, first.deployment.base_url) == (
        "anthropic/claude-x",
        3.0,
        {},
        None,
    )
    assert (second.deployment.model, second.options.timeout, second.params) == ("gemini/g", 60.0, {"max_tokens": 5})
