"""The table of identities (docs/identities.md), cell by cell: deployment, cache key and call.

What belongs to a run is in tests/dspex_actors/runs.
"""

from __future__ import annotations

from typing import Any

import pytest

from dspex_actors.errors import ConfigError
from dspex_actors.lm.lm import LM

BASE = LM("openai/gpt-4o-mini", api_key="env:A_KEY", temperature=0.0, fallbacks=["anthropic/claude-x"])
MESSAGES = [{"role": "user", "content": "hi"}]

#: What differs: the change, and whether it is part of the deployment, of the parameters, of a cache's key.
TABLE: dict[str, tuple[dict[str, Any], bool, bool, bool]] = {
    "provider": ({"model": "gemini/gpt-4o-mini"}, True, False, True),
    "model": ({"model": "openai/gpt-4o"}, True, False, True),
    "base_url": ({"base_url": "https://gateway.example/v1"}, True, False, True),
    "key reference": ({"api_key": "env:B_KEY"}, True, False, True),
    "rpm": ({"rpm": 60}, False, False, False),
    "tpm": ({"tpm": 6000}, False, False, False),
    "itpm": ({"itpm": 6000}, False, False, False),
    "otpm": ({"otpm": 6000}, False, False, False),
    "rps": ({"rps": 20}, False, False, False),
    "rpd": ({"rpd": 1000}, False, False, False),
    "tpd": ({"tpd": 1000}, False, False, False),
    "max_in_flight": ({"max_in_flight": 3}, False, False, False),
    "temperature": ({"temperature": 1.0}, False, True, True),
    "max_tokens": ({"max_tokens": 5}, False, True, True),
    "stop": ({"stop": ["x"]}, False, True, True),
    "seed": ({"seed": 7}, False, True, True),
    "what only the provider knows": ({"reasoning_effort": "low"}, False, True, True),
    "rollout_id": ({"rollout_id": 1}, False, False, True),
    "timeout": ({"timeout": 1.0}, False, False, False),
    "deadline": ({"deadline": 1.0}, False, False, False),
    "cache": ({"cache": False}, False, False, False),
    "fallbacks": ({"fallbacks": []}, False, False, False),
    "context_fallbacks": ({"context_fallbacks": ["openai/x"]}, False, False, False),
    "content_fallbacks": ({"content_fallbacks": ["openai/x"]}, False, False, False),
    "circuit": ({"circuit": {"failure_threshold": 3}}, False, False, False),
    "hedge": ({"hedge": True}, False, False, False),
}
ROWS = pytest.mark.parametrize(("change", "deployment", "parameters", "key"), TABLE.values(), ids=TABLE)


@ROWS
def test_what_a_deployment_is(change: dict[str, Any], deployment: bool, parameters: bool, key: bool) -> None:
    assert (BASE.copy(**change).deployment != BASE.deployment) is deployment


@ROWS
def test_what_changes_an_answer(change: dict[str, Any], deployment: bool, parameters: bool, key: bool) -> None:
    assert (BASE.copy(**change).parameters != BASE.parameters) is parameters


@ROWS
def test_what_a_caches_key_is(change: dict[str, Any], deployment: bool, parameters: bool, key: bool) -> None:
    ours, others = BASE.request(MESSAGES, {}).cache_key, BASE.copy(**change).request(MESSAGES, {}).cache_key
    assert (ours != others) is key


@pytest.mark.parametrize("name", ["timeout", "deadline", "cache", "hedge"])
def test_what_belongs_to_a_call(name: str) -> None:
    before, after = BASE.request(MESSAGES, {}).lm, BASE.copy(**{name: TABLE[name][0][name]}).request(MESSAGES, {}).lm
    assert before.options != after.options
    assert (before.deployment, before.params, before.limits) == (after.deployment, after.params, after.limits)


@pytest.mark.parametrize("change", [{"rpm": 60}, {"tpm": 6000}, {"rps": 2.0}, {"rpd": 9.0}, {"max_in_flight": 3}])
def test_limits_are_told_by_an_lm_and_kept_by_the_deployment(change: dict[str, Any]) -> None:
    after = BASE.copy(**change).request(MESSAGES, {}).lm
    assert after.limits.told == change
    assert after.deployment == BASE.request(MESSAGES, {}).lm.deployment


def test_a_calls_parameters_are_part_of_the_key_as_those_of_the_lm_are() -> None:
    assert (
        BASE.request(MESSAGES, {"temperature": 1.0}).cache_key
        == BASE.copy(temperature=1.0).request(MESSAGES, {}).cache_key
    )
    assert BASE.request(MESSAGES, {}).cache_key != BASE.request([{"role": "user", "content": "ho"}], {}).cache_key


def test_the_same_deployment_may_be_written_in_several_ways() -> None:
    written = [
        LM("openai/x"),
        LM("openai/x", api_key="env:OPENAI_API_KEY"),
        LM("openai/x", base_url="https://api.openai.com/v1/"),
        LM("openai/x", base_url="HTTPS://API.openai.com:443/v1", temperature=1),
    ]
    assert len({lm.deployment for lm in written}) == 1
    assert LM("openai/x", base_url="https://api.openai.com/v2").deployment != written[0].deployment


def test_other_parameters_share_the_deployment_and_settings_are_no_parameters() -> None:
    hot = BASE.with_params(temperature=1.0, seed=3)
    assert hot.deployment == BASE.deployment
    assert hot.parameters == {"temperature": 1.0, "seed": 3}
    assert hot.with_params(seed=None, temperature=0) == BASE
    for name, value in (("model", "openai/y"), ("rpm", 5), ("timeout", 5.0)):
        with pytest.raises(ConfigError, match=rf"{name}: a setting, no parameter"):
            BASE.with_params(**{name: value})
