"""Calls: which arguments are inputs, and what is said about inputs that look wrong."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Annotated, Any, Literal, NewType, Protocol, TypedDict

import pytest
from pydantic import BaseModel

from dspex_actors.example import Example
from dspex_actors.programs.chain_of_thought import ChainOfThought
from dspex_actors.programs.inputs import fits
from dspex_actors.programs.module import Module
from dspex_actors.programs.predict import Predict
from dspex_actors.settings import context
from dspex_actors.signatures.fields import InputField, OutputField
from dspex_actors.signatures.signature import Signature
from tests.dspex_actors.program_fakes import FakeLM, chat


class Person(BaseModel):
    name: str


class Row(TypedDict):
    name: str


class Speaks(Protocol):
    def speak(self) -> None: ...


UserId = NewType("UserId", int)

FITS: list[tuple[Any, Any, bool]] = [
    (1, int, True),
    (1, float, True),
    ("1", int, False),
    (["a"], str, True),  # passages
    ([1], str, False),
    ([1], list[int], True),
    (["1"], list[int], False),
    ([], list[int], True),
    ({"a": 1}, dict[str, int], True),
    ({1: 1}, dict[str, int], False),
    ({"a": ["x"]}, dict[str, list[int]], False),
    ((1, "x"), tuple[int, str], True),
    ((1,), tuple[int, str], False),
    ((1, 2, 3), tuple[int, ...], True),
    (("a",), tuple[int, ...], False),
    ({1, "a"}, set[int], False),
    (None, int | None, True),
    ("x", int | None, False),
    ("x", int | str, True),
    (1.5, int | str, False),
    ("b", Literal["a", "b"], True),
    ("c", Literal["a", "b"] | None, False),
    ({"name": "x"}, Row, True),
    ("x", Row, False),
    ({"name": "x"}, Person, False),
    (3, UserId, True),
    ("3", UserId, False),
    (3, Annotated[int, "words"], True),
    (3, Speaks, True),  # it does not say
    (len, Callable[..., Any], True),
    (object(), Any, True),
    ([1], list, True),
]


@pytest.mark.parametrize(("value", "kind", "ok"), FITS)
def test_a_value_fits_its_type_down_to_its_members(value: Any, kind: Any, ok: bool) -> None:
    assert fits(value, kind) is ok


class Asks(Signature):
    """x"""

    question: str = InputField()
    row: Row = InputField()
    hint: str | None = InputField()
    answer: str = OutputField()


def test_a_call_without_inputs_is_warned_about_and_made(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), context(lm=FakeLM(chat(answer="x"))):
        assert Predict(Asks)().answer == "x"
    assert "Missing: ['question', 'row']" in caplog.text  # and not the one that may be None
    caplog.clear()
    with context(lm=FakeLM(chat(answer="x"))):
        Predict(Asks)(question="q", row={"name": "n"}, hint=None)
    assert not caplog.records


@pytest.mark.parametrize("name", ["config", "signature", "demos", "lm", "self", "prediction", "args"])
def test_an_input_may_have_any_name(name: str) -> None:
    lm = FakeLM(chat(reasoning="r", answer="x"))
    with context(lm=lm):
        for program in (Predict(f"{name} -> answer"), ChainOfThought(f"{name} -> answer")):
            assert program(**{name: "MY VALUE"}).answer == "x"
            assert asyncio.run(program.acall(**{name: "MY VALUE"})).answer == "x"
    assert all(f"[[ ## {name} ## ]]\nMY VALUE" in messages[-1]["content"] for messages, _ in lm.asked)


def test_a_predicted_output_is_a_parameter_of_the_call() -> None:
    lm, guess = FakeLM(chat(b="x")), {"type": "content", "content": "x"}
    Predict("a -> b")(a="1", prediction=guess, lm=lm)
    assert lm.asked[0][1] == {"prediction": guess}
    Predict("prediction: dict -> b")(prediction=guess, lm=lm)
    assert lm.asked[1][1] == {}
    assert '"content": "x"' in lm.asked[1][0][-1]["content"]


def test_several_answers_are_several_calls() -> None:
    lm = FakeLM(chat(b="one", c="1"), chat(b="two", c="2"))
    made = Predict("a -> b, c", n=2, temperature=0.1)(a="x", lm=lm)
    assert made.b == "one"
    assert made.completions.b == made.completions["b"] == ["one", "two"]
    assert (made.completions[1].c, len(made.completions), "c" in made.completions) == ("2", 2, True)
    assert [params for _, params in lm.asked] == [{"temperature": 0.7}] * 2
    assert len(made.get_lm_calls()) == 2
    assert Predict("a -> b")(a="x", lm=lm).completions.b == ["two"]


def test_call_parameters_can_be_changed() -> None:
    predict = Predict("a -> b", top_p=1)
    predict.update_config(temperature=0.5)
    assert predict.get_config() == {"top_p": 1, "temperature": 0.5}


class Locked(Module):
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.predict = Predict("a -> b")
        self.mixed = [threading.Lock(), {"p": Predict("a -> c"), "same": self.predict}]


def test_a_copy_shares_what_cannot_be_copied_and_no_predictor_beside_it() -> None:
    class Outer(Module):
        def __init__(self) -> None:
            self.inner = Locked()
            self.also = self.inner.predict

    program = Outer()
    program.inner.predict.demos = [Example(a="1", b="2")]
    twin = program.deepcopy()
    assert twin.inner.lock is program.inner.lock
    assert twin.also is twin.inner.predict is twin.inner.mixed[1]["same"]
    pairs = zip(twin.predictors(), program.predictors(), strict=True)
    assert all(mine is not theirs for mine, theirs in pairs)
    twin.inner.predict.demos.clear()
    assert len(program.inner.predict.demos) == 1
    assert [path for path, _ in twin.named_parameters()] == [path for path, _ in program.named_parameters()]
    assert len(twin.parameters()) == 2


@pytest.mark.parametrize(
    "annotation", [int, float, list[int], dict[str, float], int | None, tuple[int, ...], Annotated[int, 5]]
)
def test_true_is_no_number_wherever_it_stands(annotation):
    value = {list[int]: [1, True], dict[str, float]: {"a": False}, tuple[int, ...]: (True,)}.get(annotation, True)
    assert not fits(value, annotation)


def test_true_is_what_a_bool_or_anything_is():
    assert all(fits(True, annotation) for annotation in (bool, int | bool, Any, object, bool | None, Literal[True]))
    assert fits([True], list[bool])
