"""Predict's three steps as a workflow: doing them gives what calling it gives."""

import asyncio
from typing import Literal

import pytest

import dspex_actors as dspex

CHAT = "[[ ## answer ## ]]\n{}\n\n[[ ## completed ## ]]"


class Triage(dspex.Signature):
    """Sort a support ticket."""

    ticket: str = dspex.InputField()
    urgent: bool = dspex.InputField(default=False)
    team: Literal["billing", "bugs"] = dspex.OutputField(desc="who handles it")
    score: float = dspex.OutputField()


TRIAGE_CHAT = "[[ ## team ## ]]\nbugs\n\n[[ ## score ## ]]\n0.5\n\n[[ ## completed ## ]]"
TRIAGE_JSON = '{"team": "bugs", "score": 0.5}'


def with_demos():
    predictor = dspex.Predict("question -> answer")
    predictor.demos = [dspex.Example(question="1+1?", answer="2")]
    return predictor


CASES = {
    "text": (lambda: dspex.Predict("question -> answer"), dspex.ChatAdapter, {"question": "2+2?"}, [CHAT.format(4)]),
    "types": (lambda: dspex.Predict(Triage), dspex.ChatAdapter, {"ticket": "it fails"}, [TRIAGE_CHAT]),
    "json": (lambda: dspex.Predict(Triage), dspex.JSONAdapter, {"ticket": "it fails", "urgent": True}, [TRIAGE_JSON]),
    "asked once more": (
        lambda: dspex.Predict(Triage),
        dspex.ChatAdapter,
        {"ticket": "it fails"},
        ["no fields here", TRIAGE_JSON],
    ),
    "demos": (with_demos, dspex.ChatAdapter, {"question": "2+2?"}, [CHAT.format(4)]),
    "several": (
        lambda: dspex.Predict("question -> answer", n=3),
        dspex.ChatAdapter,
        {"question": "2+2?"},
        [CHAT.format(n) for n in (4, 5, 6)],
    ),
    "parameters": (
        lambda: dspex.Predict("question -> answer", temperature=0.3, max_tokens=9),
        dspex.ChatAdapter,
        {"question": "2+2?"},
        [CHAT.format(4)],
    ),
    "reasoning": (
        lambda: dspex.ChainOfThought("question -> answer").predictors()[0],
        dspex.ChatAdapter,
        {"question": "2+2?"},
        ["[[ ## reasoning ## ]]\nfour\n\n" + CHAT.format(4)],
    ),
}


@pytest.mark.parametrize("way", ["run", "arun"])
@pytest.mark.parametrize("case", CASES)
def test_doing_the_steps_is_calling_it(case, way):
    make, adapter, inputs, answers = CASES[case]
    predictor = make()
    called, done = dspex.testing.scripted_lm(answers), dspex.testing.scripted_lm(answers)
    with dspex.context(lm=called, adapter=adapter(), trace=[]):
        expected = predictor(**inputs)
        traced = list(dspex.settings.trace)
    workflow = dspex.Workflow(dspex.predict_steps(predictor))
    assert workflow.steps == ["render", "call", "parse"]
    with dspex.context(lm=done, adapter=adapter(), trace=[]):
        found = workflow.run(inputs) if way == "run" else asyncio.run(workflow.arun(inputs))
        retraced = list(dspex.settings.trace)
    data = found.data
    assert {name: data[name] for name in predictor.signature.output_fields} == dict(expected)
    # The same requests; of several answers those that are asked once more come last.
    assert [(call.messages, call.params) for call in done.calls] == [
        (call.messages, call.params) for call in called.calls
    ]
    assert retraced == traced


def test_what_the_steps_say_when_it_cannot_be_read_is_what_a_call_says():
    answers = ["nothing", "nothing either"]
    predictor = dspex.Predict(Triage)
    with dspex.context(lm=dspex.testing.scripted_lm(answers)), pytest.raises(dspex.AdapterParseError) as called:
        predictor(ticket="?")
    with dspex.context(lm=dspex.testing.scripted_lm(answers)), pytest.raises(dspex.WorkflowError) as done:
        dspex.Workflow(dspex.predict_steps(predictor)).run({"ticket": "?"})
    assert done.value.step == "parse"
    assert done.value.__cause__.message == called.value.message


def test_only_a_predictor_has_these_steps():
    with pytest.raises(dspex.ConfigError, match="expected a Predict"):
        dspex.predict_steps(dspex.ChainOfThought("question -> answer"))
