"""Replies as models write them, through every adapter: what is read before a second call is paid, and what is not.

What can mean two things is refused: it is asked again, in another form, where it can mean only one.
"""

from __future__ import annotations

import datetime
import enum
import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, Literal
from xml.sax.saxutils import escape

import pytest
from pydantic import BaseModel

import dspex_actors as dspex
from dspex_actors.errors import AdapterParseError
from dspex_actors.signatures.signature import make_signature
from tests.dspex_actors.program_fakes import FakeLM

#: Stands for an AdapterParseError: the LM is asked once more.
REFUSED = object()


class Team(enum.Enum):
    BILLING = "billing"
    BUGS = "bugs"


class Swapped(enum.Enum):
    RED = "green"
    GREEN = "red"


class Item(BaseModel):
    name: str


YesNo = Literal["yes", "no"]

#: A type, what a model writes for it, what is read. In every adapter alike.
VALUES: list[tuple[Any, str, Any]] = [
    # a choice
    (YesNo, "Yes", "yes"),
    (YesNo, "YES.", "yes"),
    (YesNo, "**yes**", "yes"),
    (YesNo, "`no`.", "no"),
    (YesNo, "```\nno\n```", "no"),
    (YesNo, "```no```", "no"),
    (YesNo, "yes and no", REFUSED),
    (YesNo, "not yes", REFUSED),
    (YesNo, "yes, mostly", REFUSED),
    (YesNo, "**yes** or **no**", REFUSED),
    (YesNo, "", REFUSED),
    (Literal["a", "A"], "a", "a"),
    (Literal["a", "A"], "**A**", "A"),
    (Literal["aB", "Ab"], "ab", REFUSED),
    (Literal["a.", "a"], "A", REFUSED),
    (Literal["", "a"], ".", REFUSED),
    (Literal["", "a"], "```", REFUSED),
    (Literal["Straße", "Strasse"], "STRASSE", REFUSED),
    (Literal["1,000", "1000"], "**1,000**", "1,000"),
    (Literal[1000, 2000], "1,000", 1000),
    (Literal[None, "none"], "None", None),
    (Literal[None, "none"], "NONE", REFUSED),
    (Literal["none", "some"] | None, "None", None),
    (Literal["none", "some"] | None, "NONE", "none"),
    (Literal["n/a", "some"] | None, "N/A", "n/a"),
    (YesNo | None, "N/A", None),
    (YesNo | None, "Yes.", "yes"),
    (Team, "Billing", Team.BILLING),
    (Team, "**Team.Bugs**", Team.BUGS),
    (Team, "bugs.", Team.BUGS),
    (Team, "bug", REFUSED),
    (Swapped, "RED", Swapped.RED),
    (Swapped, "red", Swapped.GREEN),
    (Swapped, "Red", REFUSED),
    # numbers
    (int, "1,234", 1234),
    (int, "-1,234,567.", -1234567),
    (int, "**42**", 42),
    (int, "```\n42\n```", 42),
    (int, "```json\n42\n```", 42),
    (int, "42.", 42),
    (int, "12...", REFUSED),
    (int, "0,123", REFUSED),
    (int, "1,23", REFUSED),
    (int, "1234,567", REFUSED),
    (int, "1,234.5", REFUSED),
    (int, "3 apples", REFUSED),
    (int, "1, 2", REFUSED),
    (int, "```\n1\n```\n```\n2\n```", REFUSED),
    (int | None, "1,234", 1234),
    (int | None, "", None),
    (int | None, "none", None),
    (int | None, "N/A", None),
    (int | None, "**n/a**", None),
    (int | None, "nonentity", REFUSED),
    (int, "N/A", REFUSED),
    (float, "1,234,567", 1234567.0),
    (float, "1,234.5", 1234.5),
    (float, "1,234", REFUSED),  # half of Europe writes 1.234 so
    (float | None, "1,234", REFUSED),
    (Decimal, "1,234", REFUSED),
    (Decimal, "1,234.50", Decimal("1234.50")),
    (float, "50%", REFUSED),
    (bool, "**True**", True),
    (bool, "Yes.", True),
    (bool, "`false`", False),
    (bool, "N/A", REFUSED),
    # days are no numbers
    (datetime.date, "2026-01-02.", datetime.date(2026, 1, 2)),
    (datetime.date, "86,400", REFUSED),
    (datetime.datetime, "1,234", REFUSED),
    (datetime.timedelta, "1,234", REFUSED),
    # text is what was written
    (str, "**Yes**.", "**Yes**."),
    (str | None, "N/A", "N/A"),
    (int | str, "**42**", "**42**"),
    # choices in lists
    (list[YesNo], '["Yes", "no."]', ["yes", "no"]),
    (list[Team], '["Billing"]', [Team.BILLING]),
    (list[Literal["aB", "Ab"]], '["ab"]', REFUSED),
    (dict[str, YesNo], '{"a": "No"}', {"a": "no"}),
    (list[int], '["1,234"]', [1234]),
    (list[YesNo | None], '["Yes", null]', ["yes", None]),
]


def in_chat(text: str) -> str:
    return f"[[ ## x ## ]]\n{text}\n\n[[ ## completed ## ]]"


def in_json(text: str) -> str:
    return json.dumps({"x": text})


def in_xml(text: str) -> str:
    return f"<x>\n{escape(text)}\n</x>"


ADAPTERS = {
    "chat": (dspex.ChatAdapter(), in_chat),
    "json": (dspex.JSONAdapter(), in_json),
    "baml": (dspex.BAMLAdapter(), in_json),
    "xml": (dspex.XMLAdapter(), in_xml),
}


def read(adapter: Any, signature: Any, text: str) -> Any:
    try:
        return adapter.parse(signature, text)
    except AdapterParseError:
        return REFUSED


def as_told(found: Any, value: Any) -> bool:
    return found is value or (found == value and type(found) is type(value))


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_value_is_what_was_written_or_is_asked_for_again(name: str) -> None:
    adapter, write = ADAPTERS[name]
    wrong = []
    for kind, text, value in VALUES:
        found = read(adapter, make_signature({"q": dspex.InputField(), "x": (kind, dspex.OutputField())}), write(text))
        if not as_told(found if found is REFUSED else found["x"], value):
            wrong.append((kind, text, found))
    assert not wrong, "\n".join(map(str, wrong))


CHAT, JSON, XML = dspex.ChatAdapter(), dspex.JSONAdapter(), dspex.XMLAdapter()
RIGHT = {"a": "right", "n": 2}
IN_CHAT = "[[ ## a ## ]]\nright\n[[ ## n ## ]]\n2\n[[ ## completed ## ]]"
IN_JSON = '{"a": "right", "n": 2}'
IN_XML = "<a>right</a><n>2</n>"

#: An adapter, a signature, what a model writes, what is read.
REPLIES: list[tuple[Any, str, str, Any]] = [
    # thoughts that end without having begun: the chat template has begun them
    (CHAT, "q -> a", "Hm.\n[[ ## a ## ]]\ndraft\n</think>\n[[ ## a ## ]]\nright", {"a": "right"}),
    (CHAT, "q -> a, n: int", f"Hm.\n{IN_CHAT.replace('right', 'draft')}\n</think>\n\n{IN_CHAT}", RIGHT),
    (JSON, "q -> a, n: int", f'Hm. {{"a": "draft", "n": 1}}\n</think>\n\n{IN_JSON}', RIGHT),
    (XML, "q -> a, n: int", f"Hm. <a>draft</a><n>1</n>\n</think>\n\n{IN_XML}", RIGHT),
    (CHAT, "q -> a", "[[ ## a ## ]]\nIt ends in </think>\n[[ ## completed ## ]]", {"a": "It ends in </think>"}),
    (JSON, "q -> a", '{"a": "It ends in </think> {}"}', {"a": "It ends in </think> {}"}),
    (XML, "q -> a", "<a>It ends in &lt;/think&gt;</a>", {"a": "It ends in </think>"}),
    (CHAT, "q -> a", "<think>[[ ## a ## ]]\ndraft</think>[[ ## a ## ]]\nright", {"a": "right"}),
    # markers as models write them
    (CHAT, "q -> a, n: int", IN_CHAT.replace(" ## ", "##").replace("[[##", "[[## "), RIGHT),
    (CHAT, "q -> a, n: int", IN_CHAT.replace("[[ ##", "[[##").replace("## ]]", "##]]"), RIGHT),
    (CHAT, "q -> a, n: int", IN_CHAT.replace("[[", "### [["), RIGHT),
    (CHAT, "q -> a, n: int", IN_CHAT.replace("[[", "**[[").replace("]]", "]]**"), RIGHT),
    (
        CHAT,
        "q -> a, b",
        "[[## a ##]]\nthen comes [[## b ##]] as said\n[[## b ##]]\n2",
        {"a": "then comes [[## b ##]] as said", "b": "2"},
    ),
    (CHAT, "q -> a, n: int", f"```\n{IN_CHAT}\n```", RIGHT),
    (CHAT, "q -> a, n: int", IN_CHAT.replace("[[ ## a", "1. **[[ ## A").replace("]]", "]]**"), RIGHT),
    # names in another case, where they can be only one
    (CHAT, "q -> a, n: int", IN_CHAT.replace("a ##", "A ##").replace("n ##", "N ##"), RIGHT),
    (CHAT, "q -> a, A", "[[ ## a ## ]]\nx", REFUSED),
    (CHAT, "q -> a, A", "[[ ## a ## ]]\nx\n**[[ ## A ## ]]**\ny", {"a": "x", "A": "y"}),
    (CHAT, "q -> aB, Ab", "[[ ## AB ## ]]\nx", REFUSED),
    (JSON, "q -> a, n: int", '{"A": "right", "N": 2}', RIGHT),
    (JSON, "q -> a, A", '{"A": "x"}', REFUSED),
    (JSON, "q -> a, n: int", '{"A": "x", "a ": "y", "n": 2}', {"a": "x", "n": 2}),
    (JSON, "q -> aB, n: int", '{"AB": "x", "ab": "y", "n": 2}', REFUSED),
    # the form of another adapter, and nothing else
    (CHAT, "q -> a, n: int", IN_JSON, RIGHT),
    (CHAT, "q -> a, n: int", f"```json\n{IN_JSON}\n```", RIGHT),
    (XML, "q -> a, n: int", IN_JSON, RIGHT),
    (JSON, "q -> a, n: int", IN_CHAT, RIGHT),
    (CHAT, "q -> a, n: int", f"The format is {IN_JSON}, I think.", REFUSED),
    (CHAT, "q -> a, n: int", '{"a": "right"}', REFUSED),
    (CHAT, "q -> a, n: int", '{"x": 1}', REFUSED),
    (JSON, "q -> a, n: int", "[[ ## a ## ]]\nright", REFUSED),
    (XML, "q -> a, n: int", "[1]", REFUSED),
    # several objects: the one that answers; of two that do, nobody knows which
    (JSON, "q -> a, n: int", f'An example is {{"x": 1}}. So: {IN_JSON}', RIGHT),
    (JSON, "q -> a, n: int", f'{{"x": 1}}\n{{"y": {{"z": 2}}}}\n{IN_JSON}', RIGHT),
    (JSON, "q -> a, n: int", f'{{"x": 1}} {{"a": "draft", "n": 1}} {IN_JSON}', REFUSED),
    (JSON, "q -> a, n: int", f'{{"x": 1}} {IN_JSON} {IN_JSON}', RIGHT),
    (JSON, "q -> a, n: int", f'{{"a": "draft"}} {IN_JSON}', RIGHT),
    (JSON, "q -> a, n: int", '{"x": 1} {"a": "right"} {"n": 2}', REFUSED),
    # one more element, one more object, around the outputs
    (JSON, "q -> a, n: int", f'{{"answer": {IN_JSON}}}', RIGHT),
    (JSON, "q -> a, n: int", f"[{IN_JSON}]", RIGHT),
    (JSON, "q -> a, n: int", f'{{"one": {IN_JSON}, "two": {{"a": "wrong", "n": 1}}}}', REFUSED),
    (JSON, "q -> a, n: int", f'{{"error": "I cannot", "example": {IN_JSON}}}', REFUSED),
    (JSON, "q -> a, n: int", f'{{"thoughts": {{"deeper": {IN_JSON}}}}}', REFUSED),
    (XML, "q -> a, n: int", f"<answer>{IN_XML}</answer>", RIGHT),
    (XML, "q -> a, n: int", f"Sure: <answer>\n{IN_XML}\n</answer> Done & dusted.", RIGHT),
    (XML, "q -> a, n: int", f"<one>{IN_XML}</one><two><a>wrong</a><n>1</n></two>", REFUSED),
    (XML, "q -> items: list[Item], name", "<items><item><name>Bob</name></item></items>", REFUSED),
    (XML, "q -> items: list[Item], name", "<items><item><name>Bob & Co</name></item></items>", REFUSED),
    (
        XML,
        "q -> items: list[Item], name",
        "A & B: <items><item><name>Bob</name></item></items><name>Eve</name>",
        {"items": [Item(name="Bob")], "name": "Eve"},
    ),
]


def test_a_reply_is_what_it_says_or_is_asked_for_again() -> None:
    wrong = []
    for adapter, signature, text, fields in REPLIES:
        found = read(adapter, make_signature(signature, custom_types={"Item": Item}), text)
        if not as_told(found, fields):
            wrong.append((adapter.name, signature, text, found))
    assert not wrong, "\n".join(map(str, wrong))


def test_what_is_read_is_paid_once_and_what_is_not_twice() -> None:
    for text, times in ((IN_JSON, 1), (IN_CHAT.replace("2", "**2**"), 1), ("[[ ## a ## ]]\nx\n[[ ## n ## ]]\n1,23", 2)):
        lm = FakeLM(text, IN_JSON)
        with dspex.context(lm=lm):
            assert dict(dspex.Predict("q -> a, n: int")(q="?")) == RIGHT
        assert len(lm.asked) == times


@contextmanager
def within(seconds: int) -> Iterator[None]:
    def end(*_: object) -> None:
        raise TimeoutError("it is still read")  # for hours

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_a_reply_that_repeats_itself_is_refused_in_time() -> None:
    texts = (
        "```\n" + " \n" * 50_000 + "x",
        "```" * 30_000,
        "<a>" + "</n>" * 30_000 + "<n>" * 30_000,
        "[[## a ##]]\n" * 5_000,
        "</think>{" * 10_000,
        "<x><a>1</a></x>" * 10_000,
    )
    signature = make_signature("q -> a: int, n: Literal['yes', 'no']")
    with within(60):
        for text in texts:
            for adapter, write in (ADAPTERS[name] for name in ("chat", "json", "xml")):
                assert read(adapter, signature, text) is REFUSED
                assert read(adapter, make_signature("q -> x: int"), write(text)) is REFUSED
