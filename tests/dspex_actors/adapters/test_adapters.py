# ruff: noqa: UP045 - the old spellings are what is tested

from __future__ import annotations

import enum
import gc
import json
import pickle
import weakref
from typing import Any, Literal, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from property_kit import examples
from pydantic import BaseModel

from dspex_actors.adapters import ChatAdapter, JSONAdapter
from dspex_actors.adapters.base import MISSING_OUTPUT
from dspex_actors.adapters.json import first_object
from dspex_actors.adapters.values import parse_value
from dspex_actors.errors import AdapterParseError, from_record
from dspex_actors.example import Example
from dspex_actors.signatures.fields import InputField, OutputField
from dspex_actors.signatures.signature import Signature


class Color(enum.Enum):
    RED = "red"
    BLUE = "Blue"


class Level(enum.Enum):
    LOW = 1


class Item(BaseModel):
    n: int
    tag: str = "t"


TICKET = Signature("ticket, context -> label", "Sort it.")


def contents(signature: Any, demos: Any, inputs: Any, adapter: Any = None) -> list[str]:
    return [message["content"] for message in (adapter or ChatAdapter()).format(signature, demos, inputs)]


def test_the_turns_are_dspys() -> None:
    messages = ChatAdapter().format(
        TICKET,
        [Example(ticket="T1", context=["a"], label="bug"), {"ticket": "T0", "label": "x"}],
        {"ticket": "T2", "context": ["a", "b\nc"], "unknown": 1},
    )
    assert [message["role"] for message in messages] == [
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
        "user",
    ]
    partial, _, user, assistant, last = [message["content"] for message in messages[1:]]
    assert partial.endswith("\n\n[[ ## ticket ## ]]\nT0")
    assert user == "[[ ## ticket ## ]]\nT1\n\n[[ ## context ## ]]\n«a»"
    assert assistant == "[[ ## label ## ]]\nbug\n\n[[ ## completed ## ]]\n"
    request = last.rsplit("\n\n", 1)
    assert request[0] == "[[ ## ticket ## ]]\nT2\n\n[[ ## context ## ]]\n[1] «a»\n[2] «««\n    b\n    c\n»»»"
    assert request[1].index("`[[ ## label ## ]]`") < request[1].index("`[[ ## completed ## ]]`")


def test_the_system_message_has_lists_layout_and_task() -> None:
    class Sig(Signature):
        """Do this.
        And that."""

        a: str = InputField(desc="an a")
        b: int = OutputField(ge=2)
        c: Literal["x", "y"] = OutputField()
        d: Color = OutputField()
        e: list[Item] = OutputField()
        f: bool = OutputField()

    system = contents(Sig, [], {"a": "1"})[0]
    for part in (
        "1. `a` (str): an a\n",
        "1. `b` (int):\nConstraints: greater than or equal to: 2\n",
        "2. `c` (Literal['x', 'y']):\n",
        "[[ ## a ## ]]\n{a}\n\n[[ ## b ## ]]\n{b}        # note: ",
        "one of: x; y",
        "one of: red; Blue",
        '{"type": "array", "$defs": {"Item": {"type": "object",',
        "True or False",
        "[[ ## completed ## ]]\n",
        "\n        Do this.\n        And that.",
    ):
        assert part in system, part


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x", "x"),
        ([], "N/A"),
        (["x"], "«x»"),
        (["a«"], "«««\n    a«\n»»»"),
        (True, "True"),
        (None, "None"),
        (1.0, "1.0"),
        ({"k": "ä", "n": [1]}, '{"k": "ä", "n": [1]}'),
        (Item(n=1), '{"n": 1, "tag": "t"}'),
        (Color.RED, "red"),
        ((1, 2), "[1, 2]"),
        ("[[ ## label ## ]]", "[[ ## label ## ]]"),
    ],
)
def test_values_render_as_dspys(value: Any, text: str) -> None:
    last = contents(Signature("a -> b"), [], {"a": value})[-1]
    assert last.startswith(f"[[ ## a ## ]]\n{text}\n\n")


def test_demos_that_lack_fields_come_first_and_say_so() -> None:
    signature = Signature("a -> b, c")
    demos = [
        {"a": "full", "b": "1", "c": "2"},
        {"a": "none", "b": None, "c": "3"},
        {"a": "part", "b": "4"},
        {"a": "no output"},
        {"b": "no input"},
    ]
    users = contents(signature, demos, {"a": "q"})[1:-1]
    assert [text.rsplit("\n", 1)[-1] for text in users[::2]] == ["none", "part", "full"]
    assert users[1] == "[[ ## b ## ]]\nNone\n\n[[ ## c ## ]]\n3\n\n[[ ## completed ## ]]\n"
    assert users[3] == f"[[ ## b ## ]]\n4\n\n[[ ## c ## ]]\n{MISSING_OUTPUT.strip()}\n\n[[ ## completed ## ]]\n"
    middle = contents(signature, [{"a": "x", "c": "y"}], {"a": "q"})[2]
    assert f"{MISSING_OUTPUT}\n\n" in middle


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("[[ ## x ## ]]\n1\n\n[[ ## y ## ]]\n2\n\n[[ ## completed ## ]]", {"x": "1", "y": "2"}),
        ("talk\n[[ ## x ## ]] 1\nmore\n[[ ## y ## ]]\n2", {"x": "1\nmore", "y": "2"}),
        ("[[ ## x ## ]]\n1\n[[ ## z ## ]]\n9\n[[ ## y ## ]]\n2", {"x": "1", "y": "2"}),
        ("[[ ## x ## ]]\n[[ ## x ## ]]\n1\n[[ ## y ## ]]\n2", {"x": "", "y": "2"}),
        ("   [[ ## x ## ]] 1\n\t[[ ## y ## ]] 2", {"x": "1", "y": "2"}),
        ("[[ ## x ## ]]\n1\u2028[[ ## y ## ]]\x0b2\x85", {"x": "1", "y": "2"}),
        ("[[ ## y ## ]]\n2\n[[ ## x ## ]]\na [[ ## y ## ]] b", {"x": "a [[ ## y ## ]] b", "y": "2"}),
        ("[[ ## x ## ]]\n1\n**[[ ## y ## ]]**\n[[ ## y ## ]]\n2", {"x": "1\n**[[ ## y ## ]]**", "y": "2"}),
    ],
)
def test_sections_are_read_as_dspy_reads_them(text: str, fields: dict[str, str]) -> None:
    assert ChatAdapter().parse(Signature("a -> x, y"), text) == fields


GOOD: list[tuple[Any, str, Any]] = [
    (int, "5", 5),
    (int, "-5", -5),
    (int, "True", 1),
    (float, "5", 5.0),
    (bool, "True", True),
    (bool, "false", False),
    (bool, "yes", True),
    (list[str], '["a", "b"]', ["a", "b"]),
    (list[str], "['a', 'b'", ["a", "b"]),
    (list[int], "```json\n[1]\n```", [1]),
    (list[int], "[1] [2]", [2]),
    (dict[str, int], "{'a': 1}", {"a": 1}),
    (tuple[int, str], "(1, 'x')", (1, "x")),
    (Item, '{"n": 1}', Item(n=1)),
    (list[Item], '[{"n": "2"}]', [Item(n=2)]),
    (Optional[str], "null", "null"),
    (Optional[str], "12", "12"),
    (Optional[int], "null", None),
    (Optional[int], "3", 3),
    (int | str, "abc", "abc"),
    (Literal["a", "b"], "a", "a"),
    (Literal["a", "b"], ' "a" ', "a"),
    (Literal["a", "b"], "Literal['a']", "a"),
    (Literal[1, 2], "2", 2),
    (Color, "red", Color.RED),
    (Color, "RED", Color.RED),
    (Level, "LOW", Level.LOW),
    (list[Color], '["Blue"]', [Color.BLUE]),
]
BAD: list[tuple[Any, str]] = [
    (int, "1,23"),
    (int, "3 apples"),
    (Literal["a", "b"], "ab"),
    (Literal["a", "A"], "**á**"),
    (Color, "Redd"),
    (list[Color], '["Redd"]'),
    (Item, "{}"),
    (bool, "perhaps"),
]


@pytest.mark.parametrize(("kind", "text", "value"), GOOD)
def test_typed_values_are_read(kind: Any, text: str, value: Any) -> None:
    found = parse_value(text, kind)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(("kind", "text"), BAD)
def test_what_does_not_fit_is_an_error_with_everything_in_it(kind: Any, text: str) -> None:
    signature = Signature({"a": InputField(), "x": (kind, OutputField())})
    with pytest.raises(AdapterParseError, match="field 'x' should be") as caught:
        ChatAdapter().parse(signature, f"[[ ## x ## ]]\n{text}")
    error = caught.value
    assert (error.adapter, error.expected, error.found) == ("ChatAdapter", ["x"], ["x"])
    assert from_record(error.to_record()).to_record() == error.to_record()


@pytest.mark.parametrize(("text", "ok"), [("3", True), ("9", False)])
def test_constraints_are_checked(text: str, ok: bool) -> None:
    signature = Signature({"a": InputField(), "x": (int, OutputField(le=5))})
    if ok:
        assert ChatAdapter().parse(signature, f"[[ ## x ## ]]\n{text}") == {"x": 3}
    else:
        with pytest.raises(AdapterParseError, match="less than or equal to 5"):
            ChatAdapter().parse(signature, f"[[ ## x ## ]]\n{text}")


def test_optional_outputs_are_filled_in() -> None:
    class Sig(Signature):
        """x"""

        a: str = InputField()
        b: Optional[int] = OutputField()
        c: int = OutputField(default=7)
        d: list[str] = OutputField(default_factory=list)
        e: str = OutputField()

    assert ChatAdapter().parse(Sig, "[[ ## e ## ]]\nx") == {"b": None, "c": 7, "d": [], "e": "x"}
    with pytest.raises(AdapterParseError, match="without e; expected b, c, d, e, found b"):
        ChatAdapter().parse(Sig, "[[ ## b ## ]]\n3")


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=30).map(str.strip)


@settings(max_examples=examples(60), deadline=None)
@given(
    WORDS.filter(lambda t: "[[ ##" not in t),
    st.integers(),
    st.lists(WORDS, max_size=3),
    st.sampled_from(Color),
)
def test_what_is_written_can_be_read(text: str, number: int, items: list[str], color: Color) -> None:
    signature = Signature("a -> s, n: int, l: list[str], c: Color", custom_types={"Color": Color})
    values = {"s": text, "n": number, "l": items, "c": color}
    for adapter in (ChatAdapter(), JSONAdapter()):
        written = adapter.format(signature, [{"a": "q", **values}], {"a": "q"})[2]["content"]
        assert adapter.parse(signature, written) == values


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    for adapter in (ChatAdapter(), JSONAdapter()):
        try:
            found = adapter.parse(Signature("a -> b: int"), text)
        except AdapterParseError:
            continue
        assert isinstance(found["b"], int)


def test_json_takes_the_object_out_of_the_talk() -> None:
    signature = Signature("a -> x: int, y")
    parse = JSONAdapter().parse
    assert parse(signature, '{"x": 1, "y": "z", "more": 2}') == {"x": 1, "y": "z"}
    assert parse(signature, 'Sure {it} is:\n```json\n{"x": 1, "y": "z"}\n```')["x"] == 1
    assert first_object("a {b {c} d} {e}") == "{b {c} d}"
    assert first_object("{ {c}") == "{c}"
    assert first_object("none }") == ""
    with pytest.raises(AdapterParseError, match="no JSON object"):
        parse(signature, "nothing here")


def test_json_writes_what_it_asks_for() -> None:
    signature = Signature("a -> x: int, y")
    texts = contents(signature, [{"a": "q", "x": 1, "y": "z"}], {"a": "w"}, JSONAdapter())
    assert json.loads(texts[2]) == {"x": 1, "y": "z"}
    assert texts[-1].endswith("`x` (as a valid Python int), then `y`.")


class Box:
    """A value without a type that a prompt knows."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        return self.name


def edits() -> list[Any]:
    def append(demos: list[Any]) -> None:
        demos.append(Example(a="new", b="new", t=["n"]))

    def replace(demos: list[Any]) -> None:
        demos[0] = Example(a="other", b="b", t=["x"])

    def attribute(demos: list[Any]) -> None:
        demos[0].a = "edited"

    def nested(demos: list[Any]) -> None:
        demos[0].t.append("edited")

    def nested_same_length(demos: list[Any]) -> None:
        demos[0].t[0] = "edited"

    def equal_but_other(demos: list[Any]) -> None:
        demos[1]["a"] = True

    def model(demos: list[Any]) -> None:
        demos[2]["a"].n = 99

    def box(demos: list[Any]) -> None:
        demos[3]["a"].name = "edited"

    def rename(demos: list[Any]) -> None:
        demos[0]["z"] = demos[0]["b"]
        del demos[0]["b"]

    def reorder(demos: list[Any]) -> None:
        demos.reverse()

    def key_order(demos: list[Any]) -> None:
        inner = demos[4]["a"]
        inner["x"] = inner.pop("x")

    return [
        append,
        replace,
        attribute,
        nested,
        nested_same_length,
        equal_but_other,
        model,
        box,
        rename,
        reorder,
        key_order,
    ]


@pytest.mark.parametrize("edit", edits(), ids=lambda edit: edit.__name__)
@pytest.mark.parametrize("kind", [ChatAdapter, JSONAdapter])
def test_an_edited_demo_is_never_shown_as_it_was(edit: Any, kind: type[Any]) -> None:
    signature = Signature("a, t -> b")
    demos: list[Any] = [
        Example(a="a", t=["x"], b="b"),
        {"a": 1, "t": "t", "b": "b"},
        {"a": Item(n=1), "t": "t", "b": "b"},
        {"a": Box("box"), "t": "t", "b": "b"},
        {"a": {"x": 1, "y": 2}, "t": "t", "b": "b"},
    ]
    adapter = kind()
    before = contents(signature, demos, {"a": "q", "t": "t"}, adapter)
    assert contents(signature, demos, {"a": "q", "t": "t"}, adapter) == before
    edit(demos)
    after = contents(signature, demos, {"a": "q", "t": "t"}, adapter)
    assert after != before
    assert after == contents(Signature("a, t -> b"), demos, {"a": "q", "t": "t"}, kind())


def test_changed_words_of_a_signature_are_seen() -> None:
    signature = Signature("a -> b")
    before = contents(signature, [], {"a": "q"})[0]
    signature.instructions = "Something new."
    signature.fields["b"].json_schema_extra["desc"] = "new words"
    after = contents(signature, [], {"a": "q"})[0]
    assert before != after
    assert "Something new." in after
    assert "new words" in after


def test_changing_the_messages_changes_no_later_prompt() -> None:
    signature, demos = Signature("a -> b"), [{"a": "x", "b": "y"}]
    messages = ChatAdapter().format(signature, demos, {"a": "q"})
    for message in messages:
        message["content"] = "spoilt"
    assert "spoilt" not in "".join(contents(signature, demos, {"a": "q"}))


def test_nothing_is_kept_of_a_signature_that_is_gone() -> None:
    signature = Signature("a -> b")
    contents(signature, [{"a": "x", "b": "y"}], {"a": "q"})
    gone = weakref.ref(signature)
    del signature
    gc.collect()
    assert gone() is None


def test_hooks_of_a_subclass_are_used_and_kept_apart() -> None:
    class Shout(ChatAdapter):
        def __init__(self, word: str) -> None:
            super().__init__()
            self.word = word

        def format_task_description(self, signature: Any) -> str:
            return self.word

    signature = Signature("a -> b")
    assert contents(signature, [], {"a": "q"}, Shout("ONE"))[0].endswith("ONE")
    assert contents(signature, [], {"a": "q"}, pickle.loads(pickle.dumps(JSONAdapter())))
    assert contents(signature, [], {"a": "q"}, Shout("TWO"))[0].endswith("TWO")
    assert not contents(signature, [], {"a": "q"})[0].endswith("TWO")


def test_the_fallback_can_be_turned_off() -> None:
    assert isinstance(ChatAdapter().fallback, JSONAdapter)
    assert ChatAdapter(use_json_adapter_fallback=False).fallback is None
    assert JSONAdapter().fallback is None
    assert pickle.loads(pickle.dumps(ChatAdapter(use_json_adapter_fallback=False))).fallback is None
