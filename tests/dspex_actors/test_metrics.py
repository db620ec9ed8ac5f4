from __future__ import annotations

import enum
import pickle
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_actors import metrics
from dspex_actors.errors import ConfigError
from dspex_actors.example import Example, Prediction


class Team(enum.Enum):
    BUGS = "bugs"


def score(metric: Any, label: Any, got: Any) -> Any:
    return metric(Example(x=label), Prediction(x=got))


@pytest.mark.parametrize(
    ("label", "got", "same"),
    [
        ("The Bugs!", "bugs", True),
        ("bugs", "bug", False),
        ("3.0", "30", True),
        ("-5", "5", True),
        ("à la carte", "\u0300 la carte", True),
        ("“x”", "x", False),
        ("", "the", True),
        (["a1", "b1"], "B1", True),
        ([], "x", False),
        (["a1", "b1"], ["a1", "B1"], True),
        (["a1", "b1"], ["b1", "a1"], False),
        ("bugs", Team.BUGS, True),
        ("3", 3, True),
        (3, "3.0", True),
        (3, "three", False),
        (-5, 5, False),
        ("true", True, True),
        (None, None, True),
        ({"a": 1}, {"a": 1}, True),
    ],
)
def test_exact_match_normalises_as_dspy_does(label: Any, got: Any, same: bool) -> None:
    assert score(metrics.exact_match("x"), label, got) is same


@pytest.mark.parametrize(
    ("label", "got", "inside"),
    [
        ("New York", "It is the new york, I think", True),
        ("cat", "concat", False),
        ("", "x", False),
        (["x", "y"], "y z", True),
    ],
)
def test_contains_looks_for_words(label: Any, got: str, inside: bool) -> None:
    assert score(metrics.contains("x"), label, got) is inside


@pytest.mark.parametrize(
    ("label", "got", "value"),
    [("a b c", "b c", 1.0), ("x y", "y z", 0.5), ("", "", 0.0), ("x", "y", 0.0), (["p q", "x"], "x", 1.0)],
)
def test_f1_measures_words(label: Any, got: str, value: float) -> None:
    assert score(metrics.f1("x"), label, got) == pytest.approx(value)


@pytest.mark.parametrize(
    ("label", "got", "tolerance", "same"),
    [
        (3, "3.0", 0, True),
        ("1,234", 1234, 0, True),
        (3.0, "about 3.4 kg", 0.5, True),
        (-5, "5", 0, False),
        (3, "3 or 4", 0, False),
        (3, "three", 9, False),
        (float("nan"), 3, 1, False),
        (10**400, 3, 1, False),
        (3, -(10**400), 1, False),
        (3, Decimal("sNaN"), 1, False),
    ],
)
def test_numeric_compares_numbers(label: Any, got: Any, tolerance: float, same: bool) -> None:
    assert score(metrics.numeric("x", tolerance=tolerance), label, got) is same


def test_all_fields_have_to_match() -> None:
    metric = metrics.exact_match("a", "b")
    assert metric(Example(a="1", b="2"), Prediction(a="1", b="2")) is True
    assert metric(Example(a="1", b="2"), Prediction(a="1", b="3")) is False
    assert metrics.f1("a", "b")(Example(a="x", b="y"), Prediction(a="x", b="z")) == 0.5


@pytest.mark.parametrize("name", ["exact_match:team", "contains:a,b", "f1:x", "numeric:total", "numeric:total:0.5"])
def test_the_command_line_form_is_the_name(name: str) -> None:
    metric = metrics.parse(name)
    assert metric.__name__ == repr(metric) == name
    assert pickle.loads(pickle.dumps(metric)) == metric


@pytest.mark.parametrize("text", ["nope:x", "exact_match", "exact_match:", "f1:x:3", "numeric:x:y", "numeric:x:-1", ""])
def test_a_wrong_form_says_what_there_is(text: str) -> None:
    with pytest.raises(ConfigError):
        metrics.parse(text)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(ConfigError, match="the prediction has no field 'x'; it has y"):
        metrics.exact_match("x")(Example(x=1), Prediction(y=1))
    with pytest.raises(ConfigError, match=r"the prediction has no field 'x': got 'yes' \(str\), expected a Prediction"):
        metrics.exact_match("x")(Example(x=1), "yes")
    with pytest.raises(ConfigError, match=r"got None \(NoneType\)"):
        metrics.exact_match("x")(Example(x=1), None)
    with pytest.raises(ConfigError, match="the example has no field 'x'"):
        metrics.exact_match("x")(Example(), Prediction(x=1))
    with pytest.raises(ConfigError, match="names"):
        metrics.exact_match()


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (True, 1.0),
        (False, 0.0),
        (3, 3.0),
        (0.5, 0.5),
        (Prediction(score=0.5, feedback="x"), 0.5),
        ({"score": True}, 1.0),
    ],
)
def test_scores_are_bools_and_numbers(value: Any, number: float) -> None:
    assert metrics.check_score(value) == number


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("yes", r"metric returned 'yes' \(str\); expected bool or number"),
        (None, r"None \(NoneType\)"),
        (float("nan"), "nan"),
        (Prediction(x=1), "Prediction"),
        ([1], "list"),
    ],
)
def test_anything_else_is_refused(value: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        metrics.check_score(value)


@given(st.text())
def test_normalising_twice_changes_no_word_count(text: str) -> None:
    assert metrics.f1_score(text, text) == pytest.approx(1.0 if metrics.normalize_text(text) else 0.0)
