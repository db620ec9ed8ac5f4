"""Answers that models give and DSPy refuses, or reads to something else than what was written."""

from __future__ import annotations

import enum
import json
import signal
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from dspex_actors.adapters import ChatAdapter, JSONAdapter
from dspex_actors.adapters.values import parse_value
from dspex_actors.adapters.xml import XMLAdapter
from dspex_actors.errors import AdapterParseError, from_record
from dspex_actors.signatures.fields import OutputField
from dspex_actors.signatures.signature import Signature


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Price(BaseModel):
    amount: Decimal
    share: float = 0.5


READ: list[tuple[Any, str, Any]] = [
    (Level, "2", Level.HIGH),  # what the prompt asks for: one of: 1; 2
    (Level, "Level.LOW", Level.LOW),
    (Color, '"red"', Color.RED),
    (Color, "'RED'", Color.RED),
    (Color | None, "RED", Color.RED),
    (Color | None, "null", None),
    (Literal["a", "b"] | None, "'a'", "a"),
    (Literal[1, 2, 3], "2.0", 2),
    (Literal[True, False], "true", True),
    (Literal[True, False], "0", False),
    (Literal[None, "a"], "null", None),
    (Decimal, "12.10", Decimal("12.10")),
    (Decimal, "0.12345678901234567890123", Decimal("0.12345678901234567890123")),
    (list[Decimal], "[1.10]", [Decimal("1.10")]),
    (Price, '{"amount": 9.90, "share": 0.25}', Price(amount=Decimal("9.90"), share=0.25)),
    (int | str, "12", 12),
    (int | str, "The answer is 5, see [1].", "The answer is 5, see [1]."),
    (list[int] | str, "Not [1] but two", "Not [1] but two"),
    (Price | str, 'It costs {"amount": "3"}', Price(amount=Decimal(3))),
    (Path, "2024", Path("2024")),
    (Any, "(1, 'x')", (1, "x")),
    (dict[str, str], '{"a": "b\nc"}', {"a": "b\nc"}),
    # What models put around a value, where it is read by nothing else; more of it in test_odd_replies.
    (Color, "Red", Color.RED),
    (Color, "Color.Red", Color.RED),
    (Color, "`red`.", Color.RED),
    (Color | None, "N/A", None),
    (Literal["Yes", "No"], "**yes**", "Yes"),
    (Literal["Yes.", "No."], "Yes", "Yes."),
    (int, "42\n```", 42),
    (int, "**42**.", 42),
    (bool, "`True`", True),
    (bool, "False.", False),
    (float | None, "none", None),
    (list[int], "[1,234]", [1, 234]),
    (str | None, "None", "None"),
    # None stays what it is where a member is like it, but for its case.
    (Literal["none", "b"] | None, "None", None),
    (Literal["null", "b"] | None, "null", "null"),
    (str, "**1,234**.", "**1,234**."),
]


@pytest.mark.parametrize(("kind", "text", "value"), READ)
def test_what_was_meant_is_read(kind: Any, text: str, value: Any) -> None:
    found = parse_value(text, kind)
    assert found == value
    assert type(found) is type(value)
    assert str(found) == str(value)  # 12.1 equals 12.10


@pytest.mark.parametrize(
    ("kind", "text"),
    [(Literal[1, 2], "true"), (Literal[1, 2], "3"), (Level, "3"), (Color, "Reddish"), (bool, "perhaps")],
)
def test_what_was_not_offered_is_refused(kind: Any, text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_value(text, kind)


#: What stands before the answer that a model thinks about.
THOUGHT = "<think>\nMaybe [[ ## x ## ]]\nno, or\n[[ ## x ## ]]\ndraft\n[[ ## y ## ]]\n0\n</think>\n\n"


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("[[ ## x ## ]]\na\n[[ ## y ## ]]\n2 [[ ## completed ## ]]", {"x": "a", "y": 2}),
        ("[[ ## x ## ]] a [[ ## y ## ]] 2 [[ ## completed ## ]]", {"x": "a", "y": 2}),
        ("**[[ ## x ## ]]**\na\n**[[ ## y ## ]]**\n2", {"x": "a", "y": 2}),
        (THOUGHT + "[[ ## x ## ]]\nfinal\n[[ ## y ## ]]\n1", {"x": "final", "y": 1}),
        ("<think>[[ ## x ## ]]\na\n[[ ## y ## ]]\n2</think>", None),
        (
            "[[ ## x ## ]]\none\u2028two\x0cthree\r\nfour\n[[ ## y ## ]]\n2",
            {"x": "one\u2028two\x0cthree\nfour", "y": 2},
        ),
        (
            "[[ ## x ## ]]\nWrite [[ ## completed ## ]]\n[[ ## y ## ]]\n2\n[[ ## completed ## ]]",
            {"x": "Write [[ ## completed ## ]]", "y": 2},
        ),
    ],
)
def test_sections_are_found_where_models_put_them(text: str, fields: dict[str, Any] | None) -> None:
    signature = Signature("a -> x, y: int")
    if fields is None:
        with pytest.raises(AdapterParseError):
            ChatAdapter().parse(signature, text)
    else:
        assert ChatAdapter().parse(signature, text) == fields


def test_json_is_read_after_the_thoughts_and_to_the_last_digit() -> None:
    signature = Signature({**Signature("a -> x: int").fields, "price": (Decimal, Signature("a -> b").fields["b"])})
    text = '<think>{"x": 1, "price": 0}</think>{"x": 2, "price": 1.10}'
    found = JSONAdapter().parse(signature, text)
    assert (found["x"], str(found["price"])) == (2, "1.10")


@pytest.mark.parametrize(
    ("kind", "rules", "text", "value"),
    [
        (str | None, {"max_length": 9}, "null", "null"),
        (str | None, {"max_length": 9}, '"a"', '"a"'),
        (int | None, {"ge": 3}, "N/A", None),
        (int | None, {"ge": 3}, "**4**", 4),
        (Decimal, {"max_digits": 4}, "1.10", Decimal("1.10")),
        (list[int], {"max_length": 2}, "[1, 2]", [1, 2]),
        (str, {"validator": [str.strip, str.lower]}, " A ", "a"),
    ],
)
def test_a_constraint_changes_nothing_of_how_a_value_is_read(kind: Any, rules: Any, text: str, value: Any) -> None:
    signature = Signature("q -> a").append("b", OutputField(**rules), kind)
    assert JSONAdapter().parse(signature, json.dumps({"a": "x", "b": text}))["b"] == value


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 50_000, "{" + "9" * 5000, '{"b": ' + "9" * 5000 + "}", "\x00", ""]
)
def test_hostile_json_is_an_unreadable_answer(text: str) -> None:
    with pytest.raises(AdapterParseError):
        JSONAdapter().parse(Signature("a -> b: int"), text)


def test_an_unreadable_answer_says_what_dspys_error_says() -> None:
    signature = Signature("a -> b: int, c")
    with pytest.raises(AdapterParseError) as caught:
        ChatAdapter().parse(signature, "[[ ## b ## ]]\n3")
    error = caught.value
    assert (error.adapter_name, error.signature, error.parsed_result) == ("ChatAdapter", signature, {"b": "3"})
    assert error.lm_response == error.completion == "[[ ## b ## ]]\n3"
    json.dumps(error.to_record())
    again = from_record(error.to_record())
    assert isinstance(again, AdapterParseError)
    assert (again.adapter_name, again.expected, again.found) == ("ChatAdapter", ["b", "c"], ["b"])
    own = AdapterParseError(adapter_name="Mine", signature=signature, lm_response="?", parsed_result={"b": 1})
    assert (own.expected, own.found, str(own)) == (["b", "c"], ["b"], "Mine cannot read the answer; expected b, c")


BOTH = Signature("q -> a, n: int")
TAIL = "[[ ## a ## ]]\nright\n[[ ## n ## ]]\n2\n[[ ## completed ## ]]"


@pytest.mark.parametrize(
    ("adapter", "text"),
    [
        (ChatAdapter(), f"I try\n[[ ## a ## ]]\nwrong\n[[ ## n ## ]]\n1\n</think>\n{TAIL}"),
        (ChatAdapter(), TAIL.replace(" ## ", "##").replace("[[##", "[[ ##")),
        (ChatAdapter(), f"```\n{TAIL.removesuffix('[[ ## completed ## ]]')}```"),
        (JSONAdapter(), 'An example is {"x": 1}. So: {"a": "right", "n": 2}'),
        (ChatAdapter(), TAIL.replace("a ##", "A ##").replace("n ##", "N ##")),
        (ChatAdapter(), TAIL.replace("[[ ## a", "### [[ ## a").replace("[[ ## n", "- **[[ ## n").replace("]]", "]]**")),
        (JSONAdapter(), '{"A": "right", "N": 2}'),
        (JSONAdapter(), '{"output": {"a": "right", "n": 2}}'),
        (XMLAdapter(), "<answer><a>right</a><n>2</n></answer>"),
    ],
)
def test_answers_are_found_among_what_else_models_write(adapter: Any, text: str) -> None:
    assert adapter.parse(BOTH, text) == {"a": "right", "n": 2}


def test_literals_that_differ_in_case_only_are_told_apart() -> None:
    assert parse_value("a", Literal["a", "A"]) == "a"
    with pytest.raises(ValueError, match="is not one of"):
        parse_value("b", Literal["a", "A"])
    with pytest.raises(ValueError, match="is not one of"):
        parse_value("**ß**", Literal["SS", "ss"])


@pytest.mark.parametrize(
    "text", ["(" * 50_000, '{"a": {' * 20_000, "<a>" * 150_000, '{"b": 1}' * 20_000, "[1, (" * 9_000]
)
def test_a_model_that_repeats_itself_holds_nobody_up(text: str) -> None:
    def end(*_: object) -> None:
        raise TimeoutError("it is still read")  # for hours

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(60)
    try:
        for adapter in (ChatAdapter(), JSONAdapter(), XMLAdapter()):
            with pytest.raises(AdapterParseError):
                adapter.parse(BOTH, text)
            with pytest.raises(ValueError, match="int"):
                parse_value(text, int)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
