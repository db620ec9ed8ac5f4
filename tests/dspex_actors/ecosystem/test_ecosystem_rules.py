from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

import dspex_actors as dspex
from dspex_actors.ecosystem.inference.rules import check_outputs, input_rules, output_rules, told


class Person(BaseModel):
    name: str


class Sort(dspex.Signature):
    """Sort."""

    ticket: str = dspex.InputField()
    level: int = dspex.InputField(ge=1, le=5, default=3)
    kind: Literal["a", "b"] = dspex.InputField(default="a")
    team: str = dspex.OutputField()
    score: float = dspex.OutputField(default=0.0)


class Own(dspex.Module):
    def forward(self, text: str, person: Person, *, deep: bool = False):
        return text, person, deep


def problems(program, inputs):
    return {(finding["input"], finding["problem"]) for finding in input_rules(program).check(inputs)}


@pytest.mark.parametrize(
    ("inputs", "found"),
    [
        ({"ticket": "x"}, set()),
        ({"ticket": "x", "level": 5, "kind": "b"}, set()),
        ({}, {("ticket", "missing")}),
        ({"ticket": 3}, {("ticket", "mistyped")}),
        ({"ticket": "x", "level": 9}, {("level", "refused")}),
        ({"ticket": "x", "level": "3"}, {("level", "mistyped")}),
        ({"ticket": "x", "level": True}, {("level", "mistyped")}),
        ({"ticket": "x", "kind": "c"}, {("kind", "mistyped")}),
        ({"ticket": None, "more": 1, "kind": []}, {("ticket", "mistyped"), ("more", "unknown"), ("kind", "mistyped")}),
    ],
)
def test_a_signature_says_what_its_inputs_are_like(inputs, found):
    assert problems(dspex.Predict(Sort), inputs) == found
    assert problems(dspex.ChainOfThought(Sort), inputs) == found


def test_the_parameters_of_a_function_do_too():
    assert problems(Own(), {"text": "x", "person": Person(name="y")}) == set()
    assert problems(Own(), {"text": 1, "deep": "no", "wide": 1}) == {
        ("text", "mistyped"),
        ("person", "missing"),
        ("deep", "mistyped"),
        ("wide", "unknown"),
    }
    assert problems(lambda ticket, **more: ticket, {"more": 1}) == {("ticket", "missing")}
    assert problems(lambda *inputs: inputs, {"anything": 1}) == set()
    assert problems(dict, {"anything": 1}) == set()  # written in C: it does not tell


def test_types_that_nobody_wrote_take_anything():
    assert problems(dspex.Predict("ticket, level -> team"), {"ticket": 1, "level": [2]}) == set()


@pytest.mark.parametrize(
    ("inputs", "made", "warnings"),
    [
        ({"ticket": "x"}, {"ticket": "x"}, 0),
        ({"ticket": 7, "level": "4"}, {"ticket": "7", "level": 4}, 2),
        ({"ticket": "x", "kind": '"b"'}, {"ticket": "x", "kind": "b"}, 1),
        ({"ticket": "x", "level": "many"}, {"ticket": "x", "level": "many"}, 1),
        ({"ticket": "x", "level": 9}, {"ticket": "x", "level": 9}, 1),
        ({"nonsense": 1}, {}, 2),
    ],
)
def test_what_can_be_is_taken_as_what_it_should_be(inputs, made, warnings):
    given, said = input_rules(dspex.Predict(Sort)).coerce(inputs)
    assert given == made
    assert len(said) == warnings


def test_a_dict_becomes_the_model_that_the_program_takes():
    given, _ = input_rules(Own()).coerce({"text": "x", "person": {"name": "y"}})
    assert given["person"] == Person(name="y")


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "a", "4", "[1]", "null"])
ANYTHING = PLAIN | st.lists(PLAIN, max_size=2) | st.dictionaries(st.sampled_from("ab"), PLAIN, max_size=2)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["ticket", "level", "kind", "more"]), ANYTHING))
def test_coercing_never_raises_and_what_is_right_stays_as_it_is(inputs):
    rules = input_rules(dspex.Predict(Sort))
    made, warnings = rules.coerce(inputs)
    assert set(made) <= set(rules.rules)
    assert (rules.check(inputs) == []) == (warnings == [])
    wrong = {finding["input"] for finding in rules.check(inputs)}
    assert all(made[name] is inputs[name] for name in inputs if name not in wrong)


def test_outputs_have_what_the_signature_says_and_may_have_more():
    rules = output_rules(dspex.Predict(Sort))
    assert check_outputs(rules, {"team": "x", "score": 1, "more": Any}) == []
    assert check_outputs(rules, {"team": "x"}) == []
    found = check_outputs(rules, {"score": "high"})
    assert [(each["output"], each["problem"]) for each in found] == [("team", "missing"), ("score", "mistyped")]
    assert "output 'team'" in told(found)
    assert output_rules(Own()) == {}


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("https://x.org/a.png", None),
        ({"url": "https://x.org/a.png"}, None),
        (dspex.Image("https://x.org/a.png"), None),
        ("cat.png", "mistyped"),
        (3, "mistyped"),
    ],
)
def test_an_image_may_be_given_as_what_one_is_made_of(value, problem):
    found = input_rules(dspex.Predict("image: dspex.Image -> label")).check({"image": value})
    assert [finding["problem"] for finding in found] == [problem] * (problem is not None)


def test_a_model_may_give_no_reasoning_and_no_calls():
    rules = output_rules(dspex.Predict("q -> why: dspex.Reasoning, calls: dspex.ToolCalls, label"))
    assert check_outputs(rules, {"why": None, "calls": None, "label": "x"}) == []
