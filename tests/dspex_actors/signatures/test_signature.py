# ruff: noqa: UP007, UP045 - the old spellings are what is tested

from __future__ import annotations

import enum
import pickle
import subprocess
import sys
from typing import Any, ClassVar, Literal, Optional, Union

import cloudpickle
import pytest
from pydantic import BaseModel

from dspex_actors.adapters import ChatAdapter
from dspex_actors.errors import ConfigError
from dspex_actors.signatures.fields import InputField, OutputField, infer_prefix
from dspex_actors.signatures.signature import Signature, make_signature


class Team(BaseModel):
    name: str


class Color(enum.Enum):
    RED = "red"


class Triage(Signature):
    """Sort a support ticket.

    Be quick.
    """

    limit: ClassVar[int] = 3
    team: Literal["billing", "bugs"] = OutputField(desc="who handles it")
    ticket: str = InputField()


@pytest.mark.parametrize(
    ("text", "types"),
    [
        ("a -> b", {"a": str, "b": str}),
        ("a, b: int -> c: list[str]", {"a": str, "b": int, "c": list[str]}),
        ("a: Optional[str] -> b: Union[int, str]", {"a": Optional[str], "b": Union[int, str]}),
        ("a: int | None -> b: dict[str, list[float]]", {"a": Optional[int], "b": dict[str, list[float]]}),
        ("a -> b: Literal['x, y', 2, True, None, -1]", {"a": str, "b": Literal["x, y", 2, True, None, -1]}),
        ("a: Any -> b: List[Tuple[int, ...]]", {"a": Any, "b": __import__("typing").List[tuple[int, ...]]}),
        ("a: Team -> b: list[Color]", {"a": Team, "b": list[Color]}),
        ("a: datetime.date -> b: bool", {"a": __import__("datetime").date, "b": bool}),
        ("\n a,\n b -> c \n", {"a": str, "b": str, "c": str}),
    ],
)
def test_a_string_names_fields_and_types(text: str, types: dict[str, Any]) -> None:
    signature = Signature(text)
    found = {name: field.annotation for name, field in signature.fields.items()}
    assert list(found) == list(types)
    assert str(found).replace("typing.Tuple", "tuple") == str(types) or found == types


class Later:
    async def __call__(self, value: Any) -> Any:
        return value


def test_a_type_may_be_text_wherever_one_is_given() -> None:
    made = Triage.append("more", OutputField(), "list[int]").with_updated_fields("ticket", "int")
    assert (made.fields["more"].annotation, made.fields["ticket"].annotation) == (list[int], int)
    assert make_signature({"a": ("int | None", InputField())}).fields["a"].annotation == int | None


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda: Signature("a, b"), ValueError, "exactly one '->'"),
        (lambda: Signature("a -> b -> c"), ValueError, "exactly one '->'"),
        (lambda: Signature("a, b -> a"), ValueError, "two fields called 'a'"),
        (lambda: Signature("a, a -> b"), ValueError, "'a'"),
        (lambda: Signature("a: nosuch -> b"), ValueError, "custom_types"),
        (lambda: Signature("a b -> c"), ValueError, "cannot read"),
        (lambda: Signature("a=1 -> c"), ValueError, "default"),
        (lambda: Signature("a: print('x') -> c"), ValueError, "not a type"),
        (lambda: Signature("a): pass\ndef g(x -> c"), ValueError, "cannot read"),
        (lambda: Signature(3), TypeError, "got int"),
        (lambda: Signature({"a": 3}), TypeError, "InputField"),
        (lambda: Triage(), ValueError, "ticket: Field required"),
        (lambda: InputField(descr="x"), TypeError, "descr"),
        (lambda: Triage.insert(9, "x", InputField()), ValueError, "no place 9"),
        (lambda: Triage.append("ticket", OutputField()), ValueError, "ticket"),
        (lambda: Triage.with_updated_fields("nope", desc="x"), ValueError, "nope"),
        (lambda: Triage.load_state({"instructions": "", "fields": []}), ValueError, "2 fields"),
        (lambda: Triage.load_state({}), ValueError, "no state"),
        (lambda: Signature("a -> b: 'list['"), ValueError, "of field 'b' is not usable: '\\[' was never closed"),
        (lambda: Signature("a -> b: " + "|".join(["int"] * 5000)), ValueError, "cannot read"),
        (lambda: Signature("a -> b: " + "list[" * 90 + "int" + "]" * 90 + "|x"), ValueError, "no type 'x' in reach"),
        (lambda: Signature("a\0 -> b"), ValueError, "cannot read"),
        (lambda: Signature("a -> b", 5), TypeError, "instructions is invalid: got 5, expected a text"),
        (lambda: Triage.with_instructions(["x"]), TypeError, "instructions is invalid"),
        (lambda: Triage.append("b c", OutputField()), ValueError, "'b c' is not a field name"),
        (lambda: Triage.append(5, OutputField()), ValueError, "5 is not a field name"),
        (lambda: Triage.append("more", OutputField(), "lst[int]"), ValueError, "type 'lst\\[int\\]' is not usable"),
        (lambda: InputField(validator=Later()), TypeError, "expected a function of the value"),
        (lambda: InputField(validator=lambda value, other: value), TypeError, "expected a function of the value"),
    ],
)
def test_a_mistake_is_a_config_error_of_one_line(make: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        make()
    assert isinstance(caught.value, kind)
    assert "\n" not in str(caught.value)


def test_a_plain_annotation_is_refused() -> None:
    with pytest.raises(TypeError, match="plain annotation"):

        class Wrong(Signature):
            a: str
            b: str = OutputField()


def test_a_class_puts_inputs_first_and_takes_its_docstring() -> None:
    assert list(Triage.fields) == ["ticket", "team"]
    assert Triage.instructions == "Sort a support ticket.\n\nBe quick."
    assert Triage.signature == "ticket -> team"
    assert Triage.limit == 3


def test_a_field_without_a_type_is_text() -> None:
    class Loose(Signature):
        a = InputField()
        b = OutputField()

    assert Loose.fields["b"].annotation is str
    assert Loose.instructions == "From `a` work out `b`."


def test_types_local_to_a_function_are_found() -> None:
    class Local(BaseModel):
        x: int

    class Uses(Signature):
        a: Local = InputField()
        b: list[Local] = OutputField()

    assert Uses.fields["b"].annotation == list[Local]
    assert Signature("a -> b: Local").fields["b"].annotation is Local
    assert Signature("a -> b: Mine", custom_types={"Mine": Local}).fields["b"].annotation is Local


def test_a_subclass_inherits_fields_and_only_without_new_ones_the_words() -> None:
    class More(Triage):
        urgent: bool = OutputField()

    class Same(Triage):
        pass

    assert list(More.fields) == ["ticket", "team", "urgent"]
    assert Same.instructions == Triage.instructions


def test_editing_returns_a_new_class() -> None:
    more = Triage.prepend("reasoning", OutputField(), str).append("k", InputField(), int).insert(-2, "z", InputField())
    assert list(more.fields) == ["ticket", "z", "k", "reasoning", "team"]
    assert list(Triage.fields) == ["ticket", "team"]
    assert list(more.delete("z").delete("unknown").fields) == ["ticket", "k", "reasoning", "team"]
    changed = Triage.with_updated_fields("team", type_=str, desc="new")
    assert changed.fields["team"].json_schema_extra["desc"] == "new"
    assert Triage.fields["team"].json_schema_extra["desc"] == "who handles it"
    assert changed.fields["team"].annotation is str
    assert Triage.with_instructions("x").instructions == "x"
    assert Triage.append_instructions("x").instructions.endswith("Be quick.\n\nx")


def test_equals_sees_words_and_fields() -> None:
    assert Signature("a -> b").equals(Signature("a -> b"))
    assert not Signature("a -> b").equals(Signature("a -> b: int"))
    assert not Triage.equals(Triage.with_instructions("x"))
    assert not Triage.equals("ticket -> team")


def test_state_goes_by_position() -> None:
    state = Triage.dump_state()
    assert state["fields"] == [
        {"prefix": "Ticket:", "description": "${ticket}"},
        {"prefix": "Team:", "description": "who handles it"},
    ]
    assert Triage.with_instructions("x").load_state(state).equals(Triage)


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("snake_case", "Snake Case:"),
        ("question", "Question:"),
        ("topK2", "Top K 2:"),
        ("HTMLPage", "HTML Page:"),
    ],
)
def test_prefixes_are_inferred_from_names(name: str, prefix: str) -> None:
    assert infer_prefix(name) == prefix


def test_constraints_are_words_and_rules() -> None:
    signature = Signature({"a": InputField(), "n": (int, OutputField(ge=1, le=5))})
    assert (
        "Constraints: greater than or equal to: 1, less than or equal to: 5"
        in ChatAdapter().format_field_description(signature)
    )


def test_a_signature_of_an_importable_module_pickles_by_name_and_a_string_by_value() -> None:
    assert pickle.loads(pickle.dumps(Triage)) is Triage
    twin = pickle.loads(cloudpickle.dumps(Signature("a: int -> b: Literal['x']", "Do it.")))
    assert twin.equals(Signature("a: int -> b: Literal['x']", "Do it."))


def test_a_signature_of_main_travels_by_value() -> None:
    program = """
import sys, cloudpickle
from typing import Literal, Optional
from pydantic import BaseModel
from dspex_actors.signatures.signature import Signature, make_signature
from dspex_actors.signatures.fields import InputField, OutputField
from dspex_actors.programs.predict import Predict
class Item(BaseModel):
    n: int
class Mine(Signature):
    "Do it."
    a: str = InputField()
    b: list[Item] = OutputField(desc="things")
predict = Predict(Mine); predict.demos = [{"a": "x", "b": [Item(n=1)]}]
sys.stdout.buffer.write(cloudpickle.dumps(predict))
"""
    data = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True).stdout
    predict = pickle.loads(data)
    assert predict.signature.instructions == "Do it."
    assert predict.signature.signature == "a -> b"
    answer = ChatAdapter().parse(predict.signature, '[[ ## b ## ]]\n[{"n": 3}]')
    assert answer["b"][0].n == 3
    assert ChatAdapter().format(predict.signature, predict.demos, {"a": "y"})[2]["content"].startswith("[[ ## b")


def test_an_instance_holds_checked_values() -> None:
    signature = Signature("a: int, b -> c: list[int]")
    made = signature(a="1", b="x", c=["2"])
    assert isinstance(made, signature)
    assert (made.a, made.b, made.c) == (1, "x", [2])
    assert made == signature(a=1, b="x", c=[2])
    assert repr(made) == "StringSignature(a=1, b='x', c=[2])"
    with pytest.raises(ValueError, match="a: Input should be a valid integer"):
        signature(a="x", b="", c=[])


def test_an_arrow_in_quotes_is_no_arrow() -> None:
    signature = Signature("""a: Literal['x->y', "it's ->"] -> b: Literal["->"]""")
    assert signature.fields["a"].annotation == Literal["x->y", "it's ->"]
    assert signature.signature == "a -> b"


def test_instructions_that_somebody_wrote_are_inherited() -> None:
    class Written(Signature):
        """Do it well."""

        a = InputField()
        b = OutputField()

    class More(Written):
        c = OutputField()

    class Plain(Signature):
        a = InputField()
        b = OutputField()

    class PlainMore(Plain):
        c = OutputField()

    assert More.instructions == "Do it well."
    assert "`c`" in PlainMore.instructions


@pytest.mark.parametrize("text", ["a: os.PathLike -> b", "a: Triage -> b", "a: collections.OrderedDict -> b"])
def test_text_from_a_file_names_plain_types_only(text: str) -> None:
    assert make_signature("a: list[int], b: Optional[str] -> c: Literal['x']", trusted=False)
    with pytest.raises(ValueError, match="nothing is imported"):
        make_signature(text, trusted=False)
