"""Keys in code that travels by value are found and named, and never shown."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dspex_actors.client.inputs import code_of
from dspex_actors.errors import ConfigError
from dspex_actors.programs.module import Module

TEAM_TOKEN = "quite-an-ordinary-text"
PASTED = "sk-proj-abcdefghijklmnop1234"
HARMLESS = "ask-for-sk-learn-and-desk-work"


def uses_token(example: Any, prediction: Any) -> bool:
    return bool(TEAM_TOKEN)


def uses_pasted(example: Any, prediction: Any) -> bool:
    return bool(PASTED)


def uses_nothing(example: Any, prediction: Any) -> str:
    return HARMLESS


def refusal(value: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        code_of(value, "metric")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_global_that_looks_like_a_key_is_refused_by_name() -> None:
    told = refusal(uses_pasted)
    assert "the metric cannot be sent" in told
    assert "'PASTED'" in told
    assert "abcdefghijklmnop" not in told


def test_a_global_that_is_a_secret_of_the_environment_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    code_of(uses_token, "metric")
    monkeypatch.setenv("SOME_TOKEN", TEAM_TOKEN)
    told = refusal(uses_token)
    assert "'TEAM_TOKEN'" in told
    assert "SOME_TOKEN" in told
    assert TEAM_TOKEN not in told


def test_a_variable_around_a_function_and_an_attribute_are_found_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SECRET", "hunter2-hunter2")
    inside = "".join(["hunter2-", "hunter2"])

    def closure(example: Any, prediction: Any) -> bool:
        return bool(inside)

    class Program(Module):
        def __init__(self) -> None:
            self.password = "".join(["hunter2-", "hunter2"])

    assert "'inside'" in refusal(closure)
    assert "its 'password'" in refusal(Program())
    assert "its 'lm.inner.password'" in refusal({"lm": SimpleNamespace(inner=Program())})


def test_a_key_within_a_text_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATE_KEY", "0123456789abcdef")
    header = "X-Key: 0123456789abcdef"

    def closure(example: Any, prediction: Any) -> bool:
        return bool(header)

    assert "GATE_KEY" in refusal(closure)


def test_ordinary_texts_and_short_or_unrelated_variables_are_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SORT_KEY", "desk")
    monkeypatch.setenv("SOMETHING", HARMLESS)
    assert code_of(uses_nothing, "metric")
