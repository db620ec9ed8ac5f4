from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from dspex_actors.example import Example, Prediction, parted
from dspex_actors.foundation.config_errors import ConfigValueError
from tests.dspex_actors.program_fakes import Reply


def test_fields_are_items_and_attributes() -> None:
    example = Example(a=1, b="x")
    example.c = 3
    example["d"] = 4
    del example["a"]
    assert (example.b, example["c"], example.get("d"), example.get("nope", 0)) == ("x", 3, 4, 0)
    assert "a" not in example
    assert len(example) == 3
    assert list(example) == ["b", "c", "d"]
    with pytest.raises(AttributeError, match="no field 'a'; it has b, c, d"):
        _ = example.a


def test_inputs_and_labels_need_to_be_told() -> None:
    example = Example(q="x", a="y")
    with pytest.raises(ValueError, match="with_inputs"):
        example.inputs()
    told = example.with_inputs("q")
    assert told.inputs().toDict() == {"q": "x"}
    assert told.labels().toDict() == {"a": "y"}
    assert told.copy(a="z").inputs().toDict() == {"q": "x"}
    assert told.without("a").toDict() == {"q": "x"}
    assert told == example
    assert Example(told, b=1).inputs().toDict() == {"q": "x"}


def test_bookkeeping_of_dspy_is_hidden() -> None:
    example = Example(a=1, dspy_uuid="u")
    assert example.keys() == ["a"]
    assert example.items() == [("a", 1)]
    assert example.keys(include_dspy=True) == ["a", "dspy_uuid"]


def test_parted_is_what_inputs_and_labels_hold() -> None:
    example = Example(q="a", team="b", dspy_uuid="c", note=None).with_inputs("q", "dspy_uuid", "gone")
    assert parted(example) == (dict(example.inputs().items()), dict(example.labels().items()))
    assert parted(example) == ({"q": "a"}, {"team": "b", "note": None})
    with pytest.raises(ConfigValueError, match="which fields are inputs"):
        parted(Example(q="a"))


def test_todict_reaches_inside() -> None:
    class Item(BaseModel):
        n: int

    assert Example(a=[Item(n=1)], b={"k": Example(x=2)}).toDict() == {"a": [{"n": 1}], "b": {"k": {"x": 2}}}


VALUES = st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner), max_leaves=4)


@given(st.dictionaries(st.text("abcxyz", min_size=1, max_size=4), VALUES, max_size=4))
def test_copies_pickles_and_hashes_agree(fields: dict[str, Any]) -> None:
    example = Example(fields)
    other = Example(dict(reversed(fields.items())))
    assert example == other
    assert hash(example) == hash(other)
    for twin in (pickle.loads(pickle.dumps(example)), copy.deepcopy(example), example.copy()):
        assert twin == example
        assert type(twin) is Example


def test_a_prediction_knows_its_calls_and_keeps_them() -> None:
    prediction = Prediction(team="bugs")
    prediction.set_lm_calls([Reply("x"), Reply("y")])
    for twin in (prediction, pickle.loads(pickle.dumps(prediction)), prediction.copy(team="x")):
        assert twin.get_lm_usage() == {"fake": {"prompt_tokens": 20, "completion_tokens": 4, "total_tokens": 24}}
        assert len(twin.get_lm_calls()) == 2


def test_a_prediction_with_a_score_is_a_number() -> None:
    low, high = Prediction(score=0.25), Prediction(score=1)
    assert float(low) == 0.25
    assert low < high
    assert sum([low, high]) / 2 == 0.625
    with pytest.raises(ValueError, match="score"):
        float(Prediction(x=1))


def test_completions_give_the_first() -> None:
    prediction = Prediction.from_completions({"a": [1, 2]})
    assert prediction.a == 1
    assert prediction.completions == [{"a": 1}, {"a": 2}]


def test_a_base_may_be_given_by_name() -> None:
    base = Example(a=1, b=2).with_inputs("a")
    assert Example(base=base, c=3).toDict() == Example(base={"a": 1, "b": 2}, c=3).toDict() == {"a": 1, "b": 2, "c": 3}
    assert Example(base=base).inputs().toDict() == {"a": 1}
    assert Example(base="first").toDict() == {"base": "first"}
    assert repr(base) == "Example({'a': 1, 'b': 2}) (input_keys={'a'})"


def test_usage_is_named_and_keyed_as_dspys() -> None:
    @dataclass
    class FromServer(Reply):
        provider: str = "openai"

    prediction = Prediction(a=1)
    prediction.set_lm_calls([FromServer("x", model="gpt-4o"), FromServer("y", model="gpt-4o"), Reply("z")])
    assert prediction.get_lm_usage()["openai/gpt-4o"] == {
        "prompt_tokens": 20,
        "completion_tokens": 4,
        "total_tokens": 24,
    }
