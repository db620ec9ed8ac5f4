"""What programs are given that is of no use: refused in one line, and before a call is paid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import dspex_actors as dspex
from dspex_actors.errors import ConfigError
from tests.dspex_actors.program_fakes import FakeLM, chat

PREDICT = dspex.Predict("a -> b")


class Empty(dspex.Module):
    pass


class Forgets(dspex.Module):
    def forward(self, question: str, context: list[str]) -> None:
        pass


class Unshowable:
    def __str__(self) -> str:
        raise ZeroDivisionError("no")


def changed(**attributes: Any) -> Callable[[], Any]:
    def call() -> Any:
        predict = dspex.Predict("a -> b")
        for name, value in attributes.items():
            setattr(predict, name, value)
        return predict(a="1", lm=FakeLM())

    return call


def render(value: Any) -> Callable[[], Any]:
    return lambda: dspex.PromptTemplate.create("t", "{x}").render(x=value)


def nested() -> Any:
    found: list[Any] = []
    for _ in range(50_000):
        found = [found]
    return found


def circle() -> Any:
    found: list[Any] = []
    found.append(found)
    return found


RECORD = {"inputs": {}, "output": 1, "score": 1}
COMPARE = dspex.MultiChainComparison("q -> a", M=2)


def best(reward: Any) -> Callable[[], Any]:
    return lambda: dspex.BestOfN(PREDICT, N=2, reward_fn=reward, threshold=1.0)


TABLE: list[tuple[Callable[[], Any], str]] = [
    (changed(config=5), "config is invalid: got 5"),
    (changed(config=[1]), "config is invalid"),
    (changed(config={5: 1}), "config is invalid"),
    (lambda: PREDICT(a="1", lm=FakeLM(), config={5: 1}), "config is invalid: got {5: 1}"),
    (changed(signature="a -> b"), "signature"),
    (changed(signature=5), "signature"),
    (lambda: dspex.MultiHopQA(sequential="no"), "sequential is invalid"),
    (lambda: dspex.MultiHopQA(hop=Empty()), "hop is invalid: Empty has neither"),
    (best(lambda inputs: 1.0), "which does not take (inputs, prediction)"),
    (best(lambda: 1.0), "which does not take (inputs, prediction)"),
    (lambda: COMPARE(5, q="1"), "completions is invalid: got 5"),
    (lambda: COMPARE(None, q="1"), "completions is invalid"),
    (lambda: COMPARE("xy", q="1"), "completions is invalid"),
    (lambda: dspex.majority([{}]), "completion 0 has no field"),
    (lambda: dspex.majority(dspex.Prediction()), "completion 0 has no field"),
    (lambda: dspex.majority([{"a": 1}], field=[]), "field is invalid"),
    (lambda: dspex.majority([{"a": 1}], normalize=5), "normalize is invalid"),
    (render(nested()), "the value of x cannot be shown"),
    (render(circle()), "the value of x cannot be shown"),
    (render({(1, 2): 3}), "the value of x cannot be shown"),
    (render(Unshowable()), "the value of x cannot be shown: ZeroDivisionError"),
    (lambda: dspex.PromptTemplate.create("t", "x").optimize([RECORD], threshold="x"), "threshold is invalid"),
]


@pytest.mark.parametrize(("make", "words"), TABLE)
def test_what_is_of_no_use_is_refused_in_a_line(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_hop_that_forgets_to_return_is_told() -> None:
    lm = FakeLM('[[ ## sub_questions ## ]]\n["x?"]')
    with dspex.context(lm=lm), pytest.raises(ConfigError, match="hop is invalid: it returned None"):
        dspex.MultiHopQA(hop=Forgets())(question="q")


def test_a_generator_that_a_tool_returns_is_an_error_that_the_lm_sees() -> None:
    def pages(query: str) -> Any:
        """Search."""
        return (page for page in [query])

    lm = FakeLM(
        chat(next_thought="t", next_tool_name="pages", next_tool_args='{"query": "x"}'),
        chat(next_thought="t", next_tool_name="finish", next_tool_args="{}"),
        chat(reasoning="r", a="x"),
    )
    with dspex.context(lm=lm):
        found = dspex.ReAct("q -> a", tools=[pages])(q="1")
    assert found.trajectory["observation_0"].startswith("Execution error in pages: TypeError: it returned a generator")


@pytest.mark.parametrize("callbacks", [5, [5], [dspex.BaseCallback], [dspex.BaseCallback(), 5]])
def test_a_callback_is_who_hears_something(callbacks: Any) -> None:
    with pytest.raises(ConfigError, match="callbacks is invalid"), dspex.context(callbacks=callbacks):
        pass
