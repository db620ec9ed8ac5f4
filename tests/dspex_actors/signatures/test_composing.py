"""Signatures made of others: composed, from specs, adapted to models; and validators of fields."""

import json
import pickle
from typing import Literal, Optional

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dspex_actors as dspex
from dspex_actors.errors import ConfigError
from dspex_actors.runs.identity.parts import program_identity
from dspex_actors.signatures.adapting import size_of
from dspex_actors.signatures.fields import extras


class Summarise(dspex.Signature):
    """Summarise the text."""

    text: str = dspex.InputField(desc="what was written")
    summary: str = dspex.OutputField()


class Rate(dspex.Signature):
    """Rate the summary."""

    summary: str = dspex.InputField(desc="in short")
    score: int = dspex.OutputField(ge=1, le=5)


def test_what_one_gives_and_the_other_takes_is_an_output():
    both = Summarise.compose(Rate)
    assert both.signature == "text -> summary, score"
    assert both.instructions == "Summarise the text.\n\nRate the summary."
    assert both.__name__ == "SummariseAndRate"
    assert both.fields["summary"].json_schema_extra["desc"] == "in short"
    assert both.fields["score"].metadata == Rate.fields["score"].metadata
    assert Summarise.compose(Rate, instructions="Do it.", name="Both").instructions == "Do it."
    assert Summarise.fields["summary"].json_schema_extra["desc"] == "${summary}"
    assert issubclass(both, dspex.Signature)
    assert cloudpickle.loads(cloudpickle.dumps(both)).equals(both)


def test_fields_that_are_the_same_are_one_and_unwritten_instructions_are_made_anew():
    both = dspex.Signature("q -> a").compose(dspex.Signature("q, k: int -> b"))
    assert both.signature == "q, k -> a, b"
    assert both.instructions == dspex.Signature("q, k: int -> a, b").instructions
    assert Summarise.compose(Summarise).equals(Summarise.with_instructions("Summarise the text."))


def test_all_conflicts_are_named_at_once():
    other = dspex.Signature("text: int, summary -> more")
    with pytest.raises(ConfigError) as caught:
        Summarise.compose(other.with_updated_fields("text", desc="x"))
    assert "text is str and int" in str(caught.value)
    with pytest.raises(ConfigError, match="compose them the other way round"):
        Rate.compose(Summarise)
    other = dspex.Signature("text -> more").with_updated_fields("text", desc="something else")
    with pytest.raises(ConfigError, match="text is described as 'what was written' and 'something else'"):
        Summarise.compose(other)
    other = dspex.Signature({"a": (int, dspex.InputField(ge=1)), "b": (str, dspex.OutputField())})
    with pytest.raises(ConfigError, match="a has other constraints or defaults"):
        other.compose(dspex.Signature("a: int -> b"))


@pytest.mark.parametrize(
    ("rule", "text", "names"),
    [
        ("first", str, ["text", "summary", "more"]),
        ("second", int, ["text", "summary", "more"]),
        ("rename", str, ["text", "text_2", "summary", "more"]),
        (lambda name, first, second: second, int, ["text", "summary", "more"]),
    ],
)
def test_a_rule_says_what_becomes_of_a_conflict(rule, text, names):
    both = Summarise.compose(dspex.Signature("text: int -> more"), on_conflict=rule)
    assert list(both.fields) == names
    assert both.fields["text"].annotation is text
    assert all(extras(field)["prefix"] and extras(field)["desc"] for field in both.fields.values())
    if rule == "rename":
        assert both.fields["text_2"].annotation is int
        assert extras(both.fields["text_2"])["prefix"] == "Text 2:"


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: Summarise.compose("a -> b"), "got str, expected a signature"),
        (lambda: Summarise.compose(Rate, on_conflict="third"), "on_conflict is invalid: got 'third'"),
        (
            lambda: Summarise.compose(dspex.Signature("text: int -> b"), on_conflict=lambda *_: None),
            "it returned NoneType for text",
        ),
        (lambda: Summarise.adapted(3), "got int, expected an LM or a model string"),
        (lambda: Summarise.adapted("gpt"), "got 'gpt', expected one as openai/gpt-4o-mini"),
        (lambda: Summarise.adapted(max_tokens=0), "max_tokens is invalid: got 0"),
        (lambda: Summarise.adapted(max_tokens=True), "max_tokens is invalid: got True"),
        (lambda: Summarise.adapted(max_tokens=1), "cannot be made to fit"),
        (lambda: dspex.InputField(validator=3), "the validator of an input is invalid: got 3"),
    ],
)
def test_bad_input_is_told_in_one_line(call, told):
    with pytest.raises(ConfigError, match=told) as caught:
        call()
    assert "\n" not in str(caught.value)


SPEC = {
    "name": "Triage",
    "instructions": "Sort a ticket.",
    "inputs": {"ticket": "str", "tags": {"type": "list[str]", "default": []}},
    "outputs": {"team": {"enum": ["billing", "bugs"], "desc": "who"}, "urgency": {"type": "integer", "ge": 1, "le": 5}},
}


@pytest.mark.parametrize("spec", [SPEC, json.dumps(SPEC)])
def test_a_spec_makes_the_signature_that_a_class_would_be(spec):
    class Triage(dspex.Signature):
        """Sort a ticket."""

        ticket: str = dspex.InputField()
        tags: list[str] = dspex.InputField(default=[])
        team: Literal["billing", "bugs"] = dspex.OutputField(desc="who")
        urgency: int = dspex.OutputField(ge=1, le=5)

    made = dspex.Signature.from_spec(spec)
    assert made.equals(Triage)
    assert made.__name__ == "Triage"
    assert made.fields["tags"].default == []
    messages = [dspex.ChatAdapter().format(each, [], {"ticket": "x", "tags": []}) for each in (made, Triage)]
    assert messages[0] == messages[1]


def test_a_side_may_be_a_list_and_types_may_be_ones_own():
    class Team:
        pass

    made = dspex.Signature.from_spec(
        {"inputs": ["a", {"name": "b", "type": "number"}, "c"], "outputs": {"d": {"type": "list[Team]"}, "e": "Image"}},
        custom_types={"Team": Team},
    )
    assert [field.annotation for field in made.fields.values()] == [str, float, str, list[Team], dspex.Image]
    assert made.instructions == dspex.Signature("a, b, c -> d, e").instructions


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("{", "it is no JSON"),
        ("[]", "got list, expected a dict"),
        (None, "got NoneType"),
        ({}, "got nothing, expected inputs and outputs"),
        ({"inputs": ["a"], "outputs": ["b"], "instruction": "x"}, "expected inputs and outputs"),
        ({"inputs": ["a"], "outputs": []}, "got no outputs"),
        ({"inputs": ["a"], "outputs": ["a"]}, "two fields called a"),
        ({"inputs": 3, "outputs": ["a"]}, "got int as inputs"),
        ({"inputs": {"a b": "str"}, "outputs": ["c"]}, "'a b' among its inputs is no name of a field"),
        ({"inputs": ["_a"], "outputs": ["c"]}, "'_a' among its inputs"),
        ({"inputs": {"a": 3}, "outputs": ["c"]}, "got int as a"),
        ({"inputs": {"a": {"type": 3}}, "outputs": ["c"]}, "a: got int as its type"),
        ({"inputs": {"a": "os.system"}, "outputs": ["c"]}, "nothing is imported for a file"),
        ({"inputs": {"a": "list[str"}, "outputs": ["c"]}, "type 'list\\[str' is not usable"),
        ({"inputs": {"a": "__import__('os')"}, "outputs": ["c"]}, "is not a type"),
        ({"inputs": {"a": {"typ": "str"}}, "outputs": ["c"]}, "does not know typ"),
        ({"inputs": {"a": {"enum": []}}, "outputs": ["c"]}, "got the enum \\[\\]"),
        ({"inputs": {"a": {"enum": [1.5]}}, "outputs": ["c"]}, "expected texts and whole numbers"),
        ({"inputs": {"a": {"enum": ["x"], "type": "int"}}, "outputs": ["c"]}, "a type and an enum"),
        ({"inputs": {"a": {"validator": "len"}}, "outputs": ["c"]}, "a validator, which is code"),
        ({"inputs": {"a": {"type": "int", "default": "x"}}, "outputs": ["c"]}, "a: Input should be a valid integer"),
        ({"name": "a b", "inputs": ["a"], "outputs": ["c"]}, "got the name 'a b'"),
        ({"instructions": 3, "inputs": ["a"], "outputs": ["c"]}, "got int as instructions"),
    ],
)
def test_a_spec_that_is_none_is_refused_in_one_line(spec, told):
    with pytest.raises(ConfigError, match=told) as caught:
        dspex.Signature.from_spec(spec)
    assert "\n" not in str(caught.value)


class Look(dspex.Signature):
    """Look at it. Then say what it is.

    Be brief."""

    photo: dspex.Image = dspex.InputField()
    older: Optional[dspex.Image] = dspex.InputField(default=None, desc="an older one. It may be there.")  # noqa: UP045
    what: str = dspex.OutputField(desc="what it is. In a word.")


def test_what_a_model_does_not_take_is_left_out_or_refused():
    assert Look.adapted("openai/gpt-4o") is Look
    assert Look.adapted() is Look
    with pytest.raises(ConfigError, match=r"openai/gpt-3\.5-turbo takes no pictures, which its input photo is"):
        Look.adapted("openai/gpt-3.5-turbo")
    blind = Look.delete("photo").append("note", dspex.InputField()).adapted("openai/gpt-3.5-turbo")
    assert blind.signature == "note -> what"
    with pytest.raises(ConfigError, match="takes no pictures"):
        Look.adapted(dspex.LM("openai/gpt-3.5-turbo"))
    unknown = dspex.Signature("photos: list[Image] -> what").adapted("openai/some-model")
    assert unknown.signature == "photos -> what"


@given(st.integers(1, 60))
def test_it_is_as_short_as_it_has_to_be_and_no_shorter(room):
    whole = size_of(Look.fields, Look.instructions)
    try:
        made = Look.adapted(max_tokens=room)
    except ConfigError:
        assert room < 12
        return
    assert size_of(made.fields, made.instructions) <= room
    assert (made is Look) == (room >= whole)
    assert list(made.fields) == list(Look.fields)
    assert Look.instructions.startswith(made.instructions)


def test_descriptions_go_before_instructions():
    steps = {}
    for room in range(60, 0, -1):
        try:
            made = Look.adapted(max_tokens=room)
        except ConfigError:
            break
        steps[made.instructions, *(extras(field)["desc"] for field in made.fields.values())] = True
    words = [(step[0].split(".")[0], step[0].count("."), *step[2:]) for step in steps]
    assert words[0] == ("Look at it", 3, "an older one. It may be there.", "what it is. In a word.")
    assert ("Look at it", 3, "${older}", "${what}") in words
    assert words[-1] == ("Look at it", 1, "${older}", "${what}")


def no_shouting(value):
    if value.isupper():
        raise ValueError("it is shouted")
    return value.strip()


def forgets(value):
    value.strip()


class Polite(dspex.Signature):
    """Answer."""

    question: str = dspex.InputField(validator=no_shouting, max_length=20)
    answer: str = dspex.OutputField(validator=[no_shouting, str.lower])
    note: str = dspex.OutputField(default="none", validator=no_shouting)


class Canned(dspex.BaseLM):
    def __init__(self, answer):
        super().__init__("canned")
        self.answer, self.asked = answer, []

    def forward(self, messages, **params):
        self.asked.append(messages)
        return f"[[ ## answer ## ]]\n{self.answer}"


def test_validators_see_inputs_before_anything_is_asked():
    lm = Canned("Well")
    with dspex.context(lm=lm):
        assert dspex.Predict(Polite)(question="  why? ").answer == "well"
        assert "\nwhy?\n" in lm.asked[0][-1]["content"]
        for question, told in (("WHY?", "it is shouted"), ("w" * 21, "at most 20 characters")):
            with pytest.raises(ConfigError, match=f"input 'question' of Polite is invalid: .*{told}"):
                dspex.Predict(Polite)(question=question)
        with pytest.raises(ConfigError, match=r"its validator forgets returned None: it returns the value"):
            dspex.Predict(Polite.delete("question").append("q", dspex.InputField(validator=forgets)))(q="a")
    assert len(lm.asked) == 1


def test_validators_see_what_an_lm_answers():
    with dspex.context(lm=Canned("NO"), adapter=dspex.JSONAdapter()), pytest.raises(dspex.AdapterParseError):
        dspex.Predict(Polite)(question="why?")
    with pytest.raises(dspex.AdapterParseError, match="it is shouted"):
        dspex.ChatAdapter().parse(Polite, "[[ ## answer ## ]]\nNO")
    assert dspex.ChatAdapter().parse(Polite, "[[ ## answer ## ]]\nNo") == {"answer": "no", "note": "none"}
    with pytest.raises(ConfigError, match="it is shouted"):
        Polite(question="why?", answer="NO")


def test_a_signature_with_validators_travels_and_another_validator_is_another_program():
    twin = pickle.loads(cloudpickle.dumps(Polite))
    with pytest.raises(dspex.AdapterParseError, match="it is shouted"):
        dspex.ChatAdapter().parse(twin, "[[ ## answer ## ]]\nNO")
    edited = Polite.with_instructions("Other.").prepend("more", dspex.InputField())
    with dspex.context(lm=Canned("x")), pytest.raises(ConfigError, match="it is shouted"):
        dspex.Predict(edited)(question="WHY", more="m")
    plain = Polite.delete("note").append("note", dspex.OutputField(default="none"))
    digests = {program_identity(dspex.Predict(each)).digest for each in (Polite, twin, plain)}
    assert len(digests) == 2


def test_what_is_made_and_adapted_while_a_program_runs_is_told():
    with dspex.testing.capture_events() as events:
        dspex.Signature.from_spec(SPEC)
        Look.adapted(max_tokens=20)
        Look.adapted()
    told = [event for event in events if str(event.kind).startswith("signature.")]
    assert [event.kind for event in told] == ["signature.created", "signature.adapted"]
    assert told[0].signature == "ticket, tags -> team, urgency"
    assert json.loads(told[1].before)["fields"] == ["photo", "older", "what"]


def test_validators_of_one_name_are_two():
    validators = [lambda value: value, lambda value: value.strip()]
    first, second = (dspex.Signature("a -> b").append("c", dspex.OutputField(validator=one)) for one in validators)
    assert not first.equals(second)
    assert first.equals(first.with_instructions(first.instructions))
    with pytest.raises(ConfigError, match="c has other constraints or defaults"):
        first.compose(second)


def test_a_validator_with_a_mistake_in_it_says_so_and_costs_one_call():
    signature = dspex.Signature("a -> b").append("c", dspex.OutputField(validator=lambda value: {}[value]))
    lm = Canned("x\n[[ ## b ## ]]\nx\n[[ ## c ## ]]\ny")
    with pytest.raises(ConfigError, match=r"validator .*<lambda> has raised KeyError: 'y'; expected that it returns"):
        dspex.Predict(signature)(a="x", lm=lm)
    assert len(lm.asked) == 1
