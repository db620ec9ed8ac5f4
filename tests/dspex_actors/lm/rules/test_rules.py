"""What each provider and family of models makes of the parameters that everybody writes alike."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex_actors.errors import ConfigError, InvalidRequest
from dspex_actors.lm.lm import LM
from dspex_actors.lm.rules import fit, fitting
from dspex_actors.lm.rules.actions import Refuse, Translate
from dspex_actors.lm.rules.table import TABLE
from dspex_actors.lm.wire import PROVIDERS

MESSAGES = [{"role": "user", "content": "Hi"}]


@pytest.fixture(autouse=True)
def _nothing_said_yet() -> Iterator[None]:
    fitting._warned.clear()
    yield
    fitting._warned.clear()


def sent(model: str, **params: Any) -> dict[str, Any]:
    """Return the fields of a request's body, without model and messages."""
    provider, _, name = model.partition("/")
    body = orjson.loads(PROVIDERS[provider].body(name, MESSAGES, params))
    return {key: value for key, value in body.items() if key not in ("model", "messages", "contents")}


SCHEMA = {"type": "object"}
ASKED = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}

TABLE_OF_CASES: list[tuple[str, dict[str, Any], dict[str, Any], list[str]]] = [
    # OpenAI's models that reason
    ("openai/gpt-5", {"temperature": 0.0}, {}, ["temperature"]),
    ("openai/gpt-5-mini-2025-08-07", {"temperature": 0.0, "max_tokens": 5},
     {"max_completion_tokens": 5}, ["temperature"]),
    ("openai/gpt-5", {"temperature": 1.0, "top_p": 1, "frequency_penalty": 0.0}, {}, []),
    ("openai/o3", {"temperature": 0.5, "stop": "x"}, {}, ["temperature", "stop"]),
    ("openai/o1", {"stop": "x"}, {"stop": "x"}, []),
    ("openai/openai/o4-mini", {"top_p": 0.5}, {}, ["top_p"]),
    ("openai/gpt-5-chat-latest", {"temperature": 0.0}, {"temperature": 0.0}, []),
    ("openai/gpt-5.1", {"temperature": 0.0}, {}, ["temperature"]),
    (
        "openai/gpt-5.4",
        {"temperature": 0.0, "reasoning_effort": "none"},
        {"temperature": 0.0, "reasoning_effort": "none"},
        [],
    ),
    ("openai/gpt-6-astra", {"temperature": 0.0, "max_tokens": 7}, {"max_completion_tokens": 7}, ["temperature"]),
    ("openai/gpt-5", {"reasoning_effort": "none"}, {"reasoning_effort": "minimal"}, ["reasoning_effort"]),
    ("openai/gpt-5.1", {"reasoning_effort": "minimal"}, {"reasoning_effort": "low"}, ["reasoning_effort"]),
    ("openai/o3-mini", {"reasoning_effort": "xhigh"}, {"reasoning_effort": "high"}, ["reasoning_effort"]),
    ("openai/o3-mini", {"reasoning_effort": "low", "seed": 3}, {"reasoning_effort": "low", "seed": 3}, []),
    # OpenAI's others, and servers that speak its format
    ("openai/gpt-4o-mini", {"reasoning_effort": "low"}, {}, ["reasoning_effort"]),
    ("openai/gpt-4o-mini", {"top_k": 5, "max_tokens": 5}, {"max_tokens": 5}, ["top_k"]),
    ("openai/gpt-oss-120b", {"top_k": 5, "reasoning_effort": "low"}, {"top_k": 5, "reasoning_effort": "low"}, []),
    ("openai/llama-3", {"top_k": 5, "temperature": 0.0, "n": 1}, {"top_k": 5, "temperature": 0.0, "n": 1}, []),
    # Anthropic
    ("anthropic/claude-3-5-haiku-20241022", {"temperature": 1.5}, {"temperature": 1}, ["temperature"]),
    ("anthropic/claude-3-5-haiku-20241022", {"temperature": 0.5, "top_p": 0.5}, {"temperature": 0.5, "top_p": 0.5}, []),
    ("anthropic/claude-opus-4-20250514", {"temperature": 0.5, "top_p": 0.5}, {"temperature": 0.5, "top_p": 0.5}, []),
    ("anthropic/claude-opus-4-1-20250805", {"temperature": 0.5, "top_p": 0.5}, {"temperature": 0.5}, ["top_p"]),
    ("anthropic/claude-sonnet-4-5", {"top_p": 0.5}, {"top_p": 0.5}, []),
    ("anthropic/claude-opus-4-7", {"temperature": 0.0, "top_k": 4}, {}, ["temperature", "top_k"]),
    ("anthropic/claude-sonnet-5-5", {"temperature": 0.0}, {}, ["temperature"]),
    ("anthropic/claude-sonnet-4-5", {"seed": 3, "n": 1, "frequency_penalty": 0}, {}, ["seed"]),
    ("anthropic/claude-sonnet-4-5", {"max_completion_tokens": 9}, {"max_tokens": 9}, []),
    ("anthropic/claude-opus-4-5", {"reasoning_effort": "minimal"}, {"output_config": {"effort": "low"}}, []),
    ("anthropic/claude-sonnet-4-5", {"reasoning_effort": "low"}, {}, ["reasoning_effort"]),
    ("anthropic/claude-opus-4-6", {"reasoning_effort": "none"}, {}, ["reasoning_effort"]),
    (
        "anthropic/claude-sonnet-5",
        {"response_format": ASKED, "reasoning_effort": "high"},
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}, "effort": "high"}},
        [],
    ),
    ("anthropic/claude-sonnet-5", {"response_format": {"type": "json_object"}}, {}, ["response_format"]),
    ("anthropic/claude-3-haiku", {"response_format": {"type": "json_object"}}, {}, ["response_format"]),
    ("anthropic/claude-3-haiku", {"response_format": ASKED, "thinking": {}}, {"thinking": {}}, ["response_format"]),
    ("anthropic/claude-3-haiku", {"response_format": {"type": "text"}, "user": "u"},
     {"metadata": {"user_id": "u"}}, []),
    # Gemini
    ("gemini/gemini-2.5-pro", {"frequency_penalty": 0.5}, {}, ["frequency_penalty"]),
    (
        "gemini/gemini-2.0-flash",
        {"frequency_penalty": 0.5, "seed": 2**40 + 3},
        {"generationConfig": {"frequencyPenalty": 0.5, "seed": 3}},
        [],
    ),
    (
        "gemini/gemini-2.5-flash",
        {"reasoning_effort": "none", "max_completion_tokens": 9},
        {"generationConfig": {"thinkingConfig": {"thinkingBudget": 0}, "maxOutputTokens": 9}},
        [],
    ),
    (
        "gemini/gemini-3-pro-preview",
        {"reasoning_effort": "medium", "generationConfig": {"thinkingConfig": {"includeThoughts": True}}},
        {"generationConfig": {"thinkingConfig": {"thinkingLevel": "medium", "includeThoughts": True}}},
        [],
    ),
    (
        "gemini/gemini-3-pro-preview",
        {"reasoning_effort": "low", "generationConfig": {"thinkingConfig": {"thinkingLevel": "high"}}},
        {"generationConfig": {"thinkingConfig": {"thinkingLevel": "high"}}},
        [],
    ),
    ("gemini/gemini-2.0-flash", {"reasoning_effort": "low"}, {}, ["reasoning_effort"]),
    # Cohere
    ("cohere/command-a", {"temperature": 2.0, "top_p": 1.0}, {"temperature": 1, "p": 0.99}, ["temperature", "top_p"]),
    ("cohere/command-a", {"presence_penalty": -1.0, "top_k": 999},
     {"presence_penalty": 0, "k": 500}, ["presence_penalty", "top_k"]),
    ("cohere/command-a", {"response_format": ASKED},
     {"response_format": {"type": "json_object", "json_schema": SCHEMA}}, []),
    ("cohere/command-a", {"tool_choice": "auto", "seed": -1}, {"seed": 2**63 - 1}, []),
    ("cohere/command-a", {"tool_choice": "required"}, {"tool_choice": "REQUIRED"}, []),
    ("cohere/command-a", {"tool_choice": {"type": "function"}}, {}, ["tool_choice"]),
    ("cohere/command-a-reasoning-08-2025", {"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}, []),
    ("cohere/command-a", {"logprobs": True, "parallel_tool_calls": True}, {"logprobs": True}, []),
    ("cohere/command-a", {"top_logprobs": 3}, {}, ["top_logprobs"]),
    ("anthropic/claude-sonnet-5", {"logprobs": True, "parallel_tool_calls": False}, {}, ["logprobs"]),
    ("embedded/nearest", {"temperature": 2.0, "n": 1}, {"temperature": 2.0, "n": 1}, []),
]  # fmt: skip


@pytest.mark.parametrize(("model", "params", "fields", "said"), TABLE_OF_CASES)
def test_the_table(
    caplog: pytest.LogCaptureFixture,
    model: str,
    params: dict[str, Any],
    fields: dict[str, Any],
    said: list[str],
) -> None:
    caplog.set_level(logging.WARNING)
    default = {"max_tokens": 4096} if model.startswith("anthropic/") else {}
    assert sent(model, **params) == {**default, **fields}
    assert [record.getMessage().removeprefix(f"{model}: ").split("=")[0] for record in caplog.records] == said


def test_what_is_left_out_is_said_once_per_model_and_to_who_wrote_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    lm = LM("openai/gpt-5", temperature=0.0)
    assert [record.getMessage() for record in caplog.records] == [
        "openai/gpt-5: temperature=0.0 is not sent: models that reason take only its default"
    ]
    for value in (0.0, 0.5):
        assert sent("openai/gpt-5", temperature=value) == {}
    lm.copy(temperature=0.7)
    pickle.loads(pickle.dumps(lm))
    assert len(caplog.records) == 1
    LM("openai/gpt-5-mini", temperature=0.0)
    assert len(caplog.records) == 2
    assert lm.kwargs == {"temperature": 0.0}


def test_what_cannot_be_left_out_is_refused_where_it_is_written() -> None:
    with pytest.raises(ConfigError, match=r"modalities: .*anthropic"):
        LM("anthropic/claude-sonnet-4-5", modalities=["audio"])
    with pytest.raises(InvalidRequest, match="anthropic: modalities"):
        PROVIDERS["anthropic"].body("claude-sonnet-4-5", MESSAGES, {"modalities": ["audio"]})
    assert sent("openai/gpt-4o-audio-preview", modalities=["text"]) == {"modalities": ["text"]}


def test_parameters_that_need_no_rule_are_not_copied() -> None:
    params = {"temperature": 0.5, "max_tokens": 5}
    assert fit("openai", "gpt-4o-mini", params) is params
    before = {"temperature": 5.0, "generationConfig": {"thinkingConfig": {}}, "reasoning_effort": "low"}
    given = {**before, "generationConfig": {"thinkingConfig": {}}}
    fit("gemini", "gemini-3", given)
    assert given == before


MODELS = [
    "openai/gpt-5", "openai/gpt-5.4", "openai/o3", "openai/gpt-4o", "openai/llama", "anthropic/claude-3-haiku",
    "anthropic/claude-opus-4-1", "anthropic/claude-sonnet-5-5", "gemini/gemini-2.5-pro", "gemini/gemini-3-pro",
    "gemini/gemma-3", "cohere/command-a", "cohere/command-a-reasoning", "embedded/nearest",
]  # fmt: skip
PARAMS = sorted({rule.param for rules in TABLE.values() for rule in rules})
REFUSED = {rule.param for rules in TABLE.values() for rule in rules if isinstance(rule.action, Refuse)}
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(-3, 3) | st.text(max_size=6)
    | st.sampled_from(["none", "minimal", "low", "high", "auto", "required", "text", "json_schema", "json_object"]),
    lambda inner: st.lists(inner, max_size=2)
    | st.dictionaries(st.sampled_from(["type", "json_schema", "schema", "function", "name", "x"]), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


@settings(deadline=None)
@given(st.sampled_from(MODELS), st.dictionaries(st.sampled_from(PARAMS), values, max_size=5))
def test_any_value_is_sent_left_out_or_refused_clearly_and_a_second_fitting_changes_nothing(
    model: str, params: dict[str, Any]
) -> None:
    provider, _, name = model.partition("/")
    before = repr(params)
    try:
        fitted = fit(provider, name, params)
    except ConfigError:
        assert REFUSED & params.keys()
        return
    orjson.dumps(fitted)
    assert repr(params) == before
    # What is translated has been said in the provider's words; it is not in ours any more.
    translated = {rule.param for rule in TABLE[provider] if isinstance(rule.action, Translate)}
    plain = {key: value for key, value in fitted.items() if key not in translated}
    assert fit(provider, name, plain) == plain
