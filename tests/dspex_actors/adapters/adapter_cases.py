"""Prompts of XMLAdapter, TwoStepAdapter and BAMLAdapter as a table: written once for DSPy, which the expected messages
come from, and for us.

`recorded(dspy)` with DSPy 3.4.1 is what stands in dspy_adapters.json, its own sentences replaced by marks.
"""

import contextlib
import enum
from typing import Any, Literal, Optional

from pydantic import BaseModel, Field
from typing_extensions import TypedDict


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class Street(BaseModel):
    """Where it is.

    With the number.
    """

    name: str
    number: int = Field(description="House number")


class Friend(BaseModel):
    name: str


class Person(BaseModel):
    """A person."""

    name: str = Field(description="Full name")
    age: Optional[int] = None  # noqa: UP045
    home: Street | None = None
    friends: list[Friend] = []
    kind: Literal["a", 3, True, None] = "a"
    tags: dict[str, list[int]] = {}
    nick: str = Field(default="", alias="nickname")


class Empty(BaseModel):
    pass


class Tree(BaseModel):
    label: str
    children: list["Tree"] = []


class Pair(TypedDict):
    left: int
    right: str


#: Types whose short form (BAML) and layout (XML) are compared. DSPy's BAML refuses those that are in themselves.
TYPES: dict[str, Any] = {
    "str": str,
    "bool": bool,
    "list of int": list[int],
    "list of lists": list[list[str]],
    "optional": Optional[int],  # noqa: UP045
    "union": int | str | None,
    "literal": Literal["a", "b", 1, False, None],
    "dict": dict[str, float],
    "model": Person,
    "models": list[Person],
    "optional model": Street | None,
    "dict of models": dict[str, Street],
    "no fields": Empty,
    "enum": Mood,
    "any": Any,
    "typed dict": Pair,
    "recursive": Tree,
}

ADAPTERS = ("XMLAdapter", "TwoStepAdapter", "BAMLAdapter")


def cases(dspy: Any) -> dict[str, tuple[Any, dict[str, Any], list[Any]]]:
    """Return name → (signature, inputs, demos)."""
    one = Street(name="A <b> & c", number=1)
    person = Person(name="Ä", home=one, friends=[Friend(name="X"), Friend(name="Y & Z")], tags={"a b": [1], "c": []})
    plain = dspy.Signature("question: str, n: int -> answer: str, score: float", "Answer it.\nBriefly.")
    rich = dspy.Signature(
        "about: Person, notes: list[str] -> people: list[Person], counts: dict[str, int], best: Street",
        custom_types={"Person": Person, "Street": Street},
    )
    maybe = dspy.Signature(
        "q -> place: Optional[Street], moods: list[str], pair: Pair", custom_types={"Street": Street, "Pair": Pair}
    )
    return {
        "plain": (plain, {"question": "a < b & c", "n": 3}, []),
        "lists of text": (plain, {"question": ["one", "two\nlines"], "n": 3}, []),
        "demos": (
            plain,
            {"question": "q", "n": 1},
            [
                {"question": "1", "n": 2, "answer": "a < b && c > d", "score": 0.5},
                {"question": "2", "answer": "only"},
                {"question": "3"},
            ],
        ),
        "models": (
            rich,
            {"about": person, "notes": ["x", "y"]},
            [{"about": person, "notes": [], "people": [person], "counts": {"a": 1, "b c": 2}, "best": one}],
        ),
        "optional ones": (
            maybe,
            {"q": "?"},
            [{"q": "1", "place": one, "moods": [], "pair": {"left": 1, "right": "r"}}],
        ),
        "none given": (plain, {"question": "q"}, []),
    }


def marked(messages: list[Any], sentences: dict[str, str]) -> list[Any]:
    """Return messages without the system's, with marks for sentences that DSPy and we say in words of our own."""
    told = []
    for message in messages[1:]:
        content = message["content"]
        for words, name in sentences.items():
            content = content.replace(words, name) if words else content
        told.append({**message, "content": content})
    return told


def recorded(dspy: Any) -> dict[str, Any]:
    """Return what DSPy makes of all of it; to be run where DSPy is, and written to dspy_adapters.json."""
    from dspy.adapters.baml_adapter import BAMLAdapter, _render_type_str
    from dspy.adapters.xml_adapter import XMLAdapter

    made = {
        "XMLAdapter": XMLAdapter(),
        "TwoStepAdapter": dspy.TwoStepAdapter(dspy.LM("openai/none", api_key="none")),
        "BAMLAdapter": BAMLAdapter(),
    }
    found: dict[str, Any] = {"messages": {}, "baml": {}, "xml": {}}
    partial = "This is an example of the task, though some input or output fields are not supplied."
    missing = "Not supplied for this particular example. "
    for adapter in ADAPTERS:
        for name, (signature, inputs, demos) in cases(dspy).items():
            sentences = {partial: "<PARTIAL>", missing: "<MISSING>", missing.strip(): "<MISSING>"}
            if adapter != "TwoStepAdapter":
                sentences[made[adapter].user_message_output_requirements(signature)] = "<REQUEST>"
            messages = made[adapter].format(signature, demos, inputs)
            found["messages"][f"{adapter}: {name}"] = marked(messages, sentences)
    for name, kind in TYPES.items():
        with contextlib.suppress(ValueError, RecursionError):
            found["baml"][name] = _render_type_str(kind)
        if XMLAdapter._uses_nested_xml(kind):
            found["xml"][name] = XMLAdapter._xml_schema("x", kind)
    return found
