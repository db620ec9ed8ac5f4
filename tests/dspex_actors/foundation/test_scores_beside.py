"""What a metric may return: the score that counts, and what is kept beside it."""

import pytest

from dspex_actors.errors import ConfigError
from dspex_actors.example import Prediction
from dspex_actors.foundation.scores import beside, check_score, judged


@pytest.mark.parametrize(
    ("value", "counts", "kept"),
    [
        (True, 1.0, {}),
        (0.5, 0.5, {}),
        ({"score": 0.5}, 0.5, {}),
        ({"score": 0.5, "polite": True}, 0.5, {"scores": {"score": 0.5, "polite": 1.0}}),
        ({"right": 0.25, "polite": 1}, 0.25, {"scores": {"right": 0.25, "polite": 1.0}}),
        ({"feedback": "No.", "right": 0}, 0.0, {"scores": {"right": 0.0}, "feedback": "No."}),
        ({"polite": 1, "score": 0.5}, 0.5, {"scores": {"polite": 1.0, "score": 0.5}}),
        (Prediction(score=1, feedback="Well done."), 1.0, {"feedback": "Well done."}),
        (Prediction(score=1, feedback=None), 1.0, {}),
        (
            Prediction(score=1, objective_scores={"short": 0.5}, words="two"),
            1.0,
            {"scores": {"score": 1.0, "short": 0.5}},
        ),
    ],
)
def test_the_score_or_the_first_counts_and_all_that_have_names_are_kept(value, counts, kept):
    assert check_score(value) == counts
    assert beside(value) == kept


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, r"metric returned None \(NoneType\); expected bool or number: is there a path through it without a ret"),
        ({"score": None, "polite": 1}, r"\{'score': None, 'polite': 1\} \(dict\); expected bool or number: is there"),
        ({"feedback": "No."}, r"metric returned \{'feedback': 'No.'\} \(dict\); expected bool or number"),
        ({}, r"metric returned \{\} \(dict\)"),
    ],
)
def test_what_has_no_score_is_refused_and_none_is_told_from_it(value, words):
    with pytest.raises(ConfigError, match=words):
        check_score(value)


def test_a_further_score_that_would_spoil_a_mean_is_refused_by_its_name():
    with pytest.raises(ConfigError, match="metric returned polite=nan; expected bool or finite number"):
        beside({"score": 1, "polite": float("nan")})


def test_while_demonstrations_are_collected_the_same_value_decides():
    assert judged({"right": 0.25, "polite": 1}) == 0.25
    assert judged(Prediction(score=0.5, feedback="so")) == 0.5
