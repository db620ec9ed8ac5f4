"""A language model as metric: what it is shown, what it says, and what is refused before it is asked."""

import asyncio
from typing import Literal

import pytest

import dspex_actors as dspex
from dspex_actors.settings import settings
from dspex_actors.testing import scripted_lm
from dspex_actors.workers.calling import Metric

EXAMPLE = dspex.Example(question="What is 2 + 2?", answer="4").with_inputs("question")
RIGHT = dspex.Prediction(answer="four")


def said(score):
    return f"[[ ## reasoning ## ]]\nso\n\n[[ ## score ## ]]\n{score}\n\n[[ ## completed ## ]]"


def test_it_is_shown_inputs_labels_and_prediction_and_says_whether_it_is_good():
    lm = scripted_lm([said("True"), said("False")])
    judge = dspex.metrics.judge("It says the same.", lm=lm)
    assert (judge(EXAMPLE, RIGHT), judge(EXAMPLE, RIGHT)) == (True, False)
    system, asked = (message["content"] for message in lm.calls[0].messages)
    assert "It says the same." in system
    for text in ("question: What is 2 + 2?", "answer: 4", "answer: four"):
        assert text in asked


@pytest.mark.parametrize(
    ("scale", "answer", "value"), [((1, 5), "4", 0.75), ((0, 1), "1", 1.0), ((0.0, 10.0), "2.5", 0.25)]
)
def test_on_a_scale_the_score_is_a_part_of_it(scale, answer, value):
    judge = dspex.metrics.judge("It is polite.", scale=scale, lm=scripted_lm([said(answer)]))
    assert judge(EXAMPLE, RIGHT) == value


def test_a_score_beside_the_scale_is_none():
    with pytest.raises(dspex.AdapterParseError):
        dspex.metrics.judge("It is polite.", scale=(1, 5), lm=scripted_lm([said("7")] * 2))(EXAMPLE, RIGHT)
    with pytest.raises(ValueError, match=r"the judge said 70.0, expected a number from 0 to 10"):
        dspex.metrics.judge("It is polite.", scale=(0.0, 10.0), lm=scripted_lm([said("70.0")]))(EXAMPLE, RIGHT)


class Grounded(dspex.Signature):
    """Say how well the answer is grounded."""

    question: str = dspex.InputField()
    answer: str = dspex.InputField()
    verdict: Literal["yes", "no"] = dspex.OutputField()
    score: float = dspex.OutputField()


def test_a_signature_is_filled_by_name_and_the_prediction_goes_before_the_label():
    lm = scripted_lm(["[[ ## verdict ## ]]\nyes\n\n[[ ## score ## ]]\n0.5\n\n[[ ## completed ## ]]"])
    assert dspex.metrics.judge(Grounded, lm=lm)(EXAMPLE, RIGHT) == 0.5
    asked = lm.calls[0].messages[-1]["content"]
    assert "[[ ## answer ## ]]\nfour" in asked


def test_an_input_that_nobody_has_is_refused():
    judge = dspex.metrics.judge(dspex.Signature("context, answer -> score: float"), lm=scripted_lm([]))
    with pytest.raises(dspex.ConfigError, match="the judge's signature has the input context, and neither"):
        judge(EXAMPLE, RIGHT)


@pytest.mark.parametrize("what", ["", "  ", 3, None, dspex.Example])
def test_what_cannot_judge_is_refused(what):
    with pytest.raises(dspex.ConfigError, match=r"^a judge takes a text that says .*; got "):
        dspex.metrics.judge(what)


@pytest.mark.parametrize("scale", [(5, 1), (1,), (1, 1), (1, float("nan")), "15", (True, 5), 5])
def test_a_scale_that_is_none_is_refused(scale):
    with pytest.raises(dspex.ConfigError, match=r"^scale is invalid: got .*, expected the lowest and the highest"):
        dspex.metrics.judge("It is polite.", scale=scale)


def test_its_calls_have_their_tag_beside_those_around_it_and_leave_no_trace():
    seen = []

    def answer(messages, **params):
        seen.append(dict(settings.tags))
        return said("True")

    judge = dspex.metrics.judge("It is polite.", lm=scripted_lm([answer, answer]))
    trace = []
    with dspex.context(tags={"team": "search"}, trace=trace):
        judge(EXAMPLE, RIGHT)
        assert asyncio.run(Metric(judge)(EXAMPLE, RIGHT)) is True
    assert seen == [{"team": "search", "role": "judge"}] * 2
    assert trace == []
