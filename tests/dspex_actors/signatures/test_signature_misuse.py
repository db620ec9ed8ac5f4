"""What is no signature, no field, no type, no validator: refused in one line where it is made."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import pytest

import dspex_actors as dspex
from dspex_actors.errors import ConfigError
from dspex_actors.signatures.signature import SignatureMeta

I, O = dspex.InputField, dspex.OutputField  # noqa: E741
S = dspex.Signature("a -> b")
OTHER = dspex.Signature("a: int -> c")


class GeneratorObject:
    def __call__(self, value: Any) -> Any:
        yield value


def generator(value: Any) -> Any:
    yield value


async def async_generator(value: Any) -> Any:
    yield value


def body(annotation: Any) -> Any:
    """Return a signature as a class body makes it."""
    namespace = {"__annotations__": {"a": annotation}, "a": I(), "b": O(), "__module__": __name__}
    return SignatureMeta("Made", (dspex.Signature,), namespace)


def spec(**field: Any) -> Any:
    return dspex.Signature.from_spec({"inputs": {"a": field}, "outputs": ["b"]})


TABLE: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: S.append_instructions(5), TypeError, "text is invalid: got 5"),
    (lambda: S.append("c", I(), 5), TypeError, "type of field 'c' is invalid: got 5, expected a type"),
    (lambda: S.append("c", I(), object()), TypeError, "type of field 'c' is invalid"),
    (lambda: S.append("c", I(), os.system), TypeError, "type of field 'c' is invalid"),
    (lambda: S.append("c", I(), sys), TypeError, "type of field 'c' is invalid"),
    (lambda: dspex.Signature("a: os.system -> b"), TypeError, "type of field 'a' is invalid"),
    (lambda: dspex.Signature("a: X -> b", custom_types={"X": 5}), TypeError, "type of field 'a' is invalid"),
    (lambda: dspex.Signature("a: X -> b", custom_types=["X"]), TypeError, "custom_types is invalid"),
    (lambda: dspex.Signature("a -> b", None, 5), TypeError, "name of a signature is invalid"),
    (lambda: S.with_updated_fields("a", 5), TypeError, "type of field 'a' is invalid"),
    (lambda: S.with_updated_fields("a", desc=5), TypeError, "desc is invalid: got 5, expected a text"),
    (lambda: S.with_updated_fields([]), ValueError, "has no field"),
    (lambda: S.insert("0", "c", I()), TypeError, "index is invalid: got '0'"),
    (lambda: S.insert(True, "c", I()), TypeError, "index is invalid: got True"),
    (lambda: S.load_state({**S.dump_state(), "instructions": 5}), TypeError, "expected a text"),
    (lambda: S.load_state({"instructions": "", "fields": [{"prefix": 5, "description": ""}] * 2}), TypeError, "text"),
    (lambda: I(desc=5), TypeError, "desc of an input is invalid"),
    (lambda: O(prefix=[]), TypeError, "prefix of an output is invalid"),
    (lambda: I(validator=generator), TypeError, "validator of an input is invalid"),
    (lambda: I(validator=async_generator), TypeError, "validator of an input is invalid"),
    (lambda: I(validator=GeneratorObject()), TypeError, "validator of an input is invalid"),
    (lambda: S.compose(OTHER, instructions=5), TypeError, "instructions is invalid"),
    (lambda: S.compose(OTHER, name=5), TypeError, "name of a signature is invalid"),
    (lambda: S.compose(OTHER, on_conflict=lambda name: name), TypeError, "on_conflict is invalid"),
    (lambda: body("in t"), TypeError, "SyntaxError"),
    (lambda: body("list["), TypeError, "SyntaxError"),
    (lambda: body("1/0"), TypeError, "ZeroDivisionError"),
    (lambda: body("|".join(["int"] * 3000)), TypeError, "not usable"),
    (lambda: body(5), TypeError, "type of field 'a' is invalid: got 5"),
    (lambda: dspex.Signature.from_spec("[" * 100_000), ValueError, "it is no JSON"),
    (lambda: spec(type="int", default="x"), ValueError, "a: Input should be a valid integer"),
    (lambda: spec(type="int", default=0, ge=1), ValueError, "greater than or equal to 1"),
    (lambda: spec(enum=["x"], default="y"), ValueError, "a: Input should be 'x'"),
    (lambda: spec(type="str", pattern="("), ValueError, "a: "),
    (lambda: spec(type="str", desc=5), ValueError, "desc of an input is invalid"),
    (lambda: spec(type="str", default_factory="x"), ValueError, "has a default_factory, which is code"),
]


@pytest.mark.parametrize(("make", "kind", "words"), TABLE)
def test_what_is_no_signature_is_refused_in_a_line(make: Callable[[], Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert words in str(caught.value)
    assert isinstance(caught.value, kind)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


def test_types_of_every_kind_are_types_still() -> None:
    made = S
    for place, kind in enumerate(["int", int, int | None, list[str], Any, None, dspex.Image, Callable[..., Any]]):
        made = made.append(f"f{place}", I(), kind)
    assert [field.annotation for field in made.fields.values()][1:3] == [int, int]


def test_a_validator_that_turns_out_to_be_async_is_told_before_anything_is_asked() -> None:
    async def checked(value: str) -> str:
        return value

    signature = dspex.Signature({"a": (str, I(validator=lambda value: checked(value))), "b": O()})
    lm = dspex.testing.scripted_lm(["[[ ## b ## ]]\nx"])
    with pytest.raises(ConfigError, match="is async, or a generator: it returns the value"):
        dspex.Predict(signature)(a="1", lm=lm)
    assert not lm.calls
