"""DSPy's metrics that ask an LM or look for an answer: the same values, and what is refused."""

import asyncio

import pytest

import dspex_actors as dspex
from dspex_actors.settings import settings
from dspex_actors.testing import scripted_lm
from dspex_actors.workers.calling import Metric

EXAMPLE = dspex.Example(question="Why?", response="Since it rains.").with_inputs("question")
PREDICTION = dspex.Prediction(response="It rains.", context=["Rain falls."])


def said(**fields):
    return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in {"reasoning": "so", **fields}.items())


@pytest.mark.parametrize(
    ("recall", "precision", "score"), [(1.0, 0.5, 2 / 3), (0.0, 0.0, 0.0), (1.7, -0.2, 0.0), (1.4, 1.0, 1.0)]
)
def test_semantic_f1_is_the_f1_of_what_the_lm_says(recall, precision, score):
    lm = scripted_lm([said(recall=recall, precision=precision)])
    with dspex.context(lm=lm):
        found = dspex.metrics.SemanticF1()(EXAMPLE, PREDICTION)
    assert found.score == pytest.approx(score)
    asked = lm.calls[0].messages[-1]["content"]
    assert "[[ ## ground_truth ## ]]\nSince it rains." in asked
    assert "[[ ## system_response ## ]]\nIt rains." in asked


def test_while_demonstrations_are_collected_the_threshold_decides():
    answer = said(recall=1.0, precision=0.5)
    with dspex.context(lm=scripted_lm([answer] * 2)):
        assert dspex.metrics.SemanticF1()(EXAMPLE, PREDICTION, []).score is True
        assert dspex.metrics.SemanticF1(threshold=0.7)(EXAMPLE, PREDICTION, []).score is False


def test_decomposed_the_lm_writes_the_ideas_down_first():
    fields = {"ground_truth_key_ideas": "rain", "system_response_key_ideas": "rain", "discussion": "same"}
    with dspex.context(lm=scripted_lm([said(**fields, recall=1.0, precision=1.0)])):
        assert dspex.metrics.SemanticF1(decompositional=True)(EXAMPLE, PREDICTION).score == 1.0


def test_complete_and_grounded_asks_twice_and_shows_the_context():
    ideas = {"ground_truth_key_ideas": "rain", "system_response_key_ideas": "rain", "discussion": "same"}
    lm = scripted_lm(
        [said(**ideas, completeness=1.0), said(system_response_claims="rain", discussion="so", groundedness=0.5)]
    )
    with dspex.context(lm=lm):
        found = dspex.metrics.CompleteAndGrounded()(EXAMPLE, PREDICTION)
    assert (found.score, found.completeness, found.groundedness) == (pytest.approx(2 / 3), 1.0, 0.5)
    assert "Rain falls." in lm.calls[1].messages[-1]["content"]


def test_its_calls_are_a_judges_and_need_no_thread_of_a_worker():
    seen = []

    class Listening(dspex.BaseLM):
        async def aforward(self, messages, **params):
            seen.append((dict(settings.tags), asyncio.get_running_loop()))
            return said(recall=1.0, precision=1.0)

    async def score():
        with dspex.context(lm=Listening("listening"), tags={"team": "a"}):
            return await Metric(dspex.metrics.SemanticF1())(EXAMPLE, PREDICTION), asyncio.get_running_loop()

    found, loop = asyncio.run(score())
    assert found.score == 1.0
    assert seen == [({"team": "a", "role": "judge"}, loop)]


@pytest.mark.parametrize("threshold", [-0.1, 1.1, True, "0.5", None])
def test_a_threshold_that_is_no_score_is_refused(threshold):
    with pytest.raises(dspex.ConfigError, match="threshold is invalid: got"):
        dspex.metrics.SemanticF1(threshold)


@pytest.mark.parametrize(
    ("answer", "got", "frac", "same"),
    [
        ("The Nile", "nile", 1.0, True),
        (["Nile", "Amazon"], "the amazon!", 1.0, True),
        ("river Nile", "Nile", 1.0, False),
        ("river Nile", "Nile", 0.6, True),
        ("river Nile", "Nile", 0.7, False),
        ([], "Nile", 1.0, False),
    ],
)
def test_answer_exact_match_as_dspys(answer, got, frac, same):
    metric = dspex.metrics.answer_exact_match
    assert metric(dspex.Example(answer=answer), dspex.Prediction(answer=got), frac=frac) is same


@pytest.mark.parametrize(
    ("answer", "context", "inside"),
    [
        ("The Nile", ["It is the Nile."], True),
        (["Amazon", "Nile"], ["Rivers", "the nile flows"], True),
        ("Nile", ["Nilex"], False),
        ("Nile", [], False),
    ],
)
def test_answer_passage_match_looks_for_whole_words(answer, context, inside):
    metric = dspex.metrics.answer_passage_match
    assert metric(dspex.Example(answer=answer), dspex.Prediction(context=context)) is inside


def test_a_missing_field_is_named():
    with pytest.raises(dspex.ConfigError, match="the prediction has no field 'context'; it has answer"):
        dspex.metrics.answer_passage_match(dspex.Example(answer="a"), dspex.Prediction(answer="a"))
