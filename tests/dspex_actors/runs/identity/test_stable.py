"""An identity is the same in every process, and for everything that is made the same way."""

import copy
import json
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from property_kit import examples

sys.path.insert(0, str(Path(__file__).parent))

import identity_digests
import identity_kit

from dspex_actors.runs.identity.canon import Canon
from dspex_actors.runs.identity.parts import metric_identity, program_identity

SCRIPT = Path(identity_digests.__file__)


def in_another_process(seed):
    env = os.environ | {"PYTHONHASHSEED": str(seed), "PYTHONPATH": str(SCRIPT.parents[4])}
    found = subprocess.run([sys.executable, SCRIPT], env=env, capture_output=True, text=True, check=True)
    return json.loads(found.stdout)


@pytest.mark.soak
def test_identities_are_the_same_in_two_other_processes():
    first, second = in_another_process(1), in_another_process(2)
    assert first == second
    assert first == identity_digests.identities()


@pytest.mark.parametrize("make", [*identity_kit.METRICS.values(), *identity_kit.PROGRAMS.values()])
def test_what_is_made_again_is_the_same(make):
    tell = program_identity if make in identity_kit.PROGRAMS.values() else metric_identity
    assert tell(make()).parts == tell(make()).parts


def test_all_that_is_in_the_kit_has_another_identity():
    found = identity_digests.identities()
    assert len({json.dumps(parts, sort_keys=True) for parts in found.values()}) == len(found)


class Noted:
    def __init__(self):
        self.text = "a note"


@dataclass
class Numbered:
    number: int = 1


@pytest.mark.parametrize("cls", [Noted, Numbered])
def test_a_class_stays_what_it_is_when_an_object_of_it_is_copied_and_sent(cls):
    before = Canon().text(cls)
    copy.deepcopy(cls())
    pickle.dumps(cls())
    assert Canon().text(cls) == before


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3), inner, max_size=4)
        | st.frozensets(st.integers() | st.text(max_size=3), max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=examples(150), deadline=None)
@given(plain, plain)
def test_values_have_the_same_text_if_they_are_equal_and_of_the_same_types(one, other):
    texts = Canon().text(one), Canon().text(other)
    assert (texts[0] == texts[1]) == (typed(one) == typed(other))


def typed(value):
    """Return a value in which 1, 1.0 and True are not equal."""
    if isinstance(value, list | tuple):
        return type(value).__name__, [typed(one) for one in value]
    if isinstance(value, dict):
        return {name: typed(one) for name, one in value.items()}
    if isinstance(value, frozenset):
        return {typed(one) for one in value}
    return type(value).__name__, repr(value)


@given(st.permutations(["a", "b", "c", "d"]))
def test_the_order_of_sets_and_dicts_makes_no_difference(names):
    text = Canon().text
    assert text(set(names)) == text({"a", "b", "c", "d"})
    assert text(dict.fromkeys(names, 1)) == text(dict.fromkeys("abcd", 1))


def test_much_data_is_told_by_its_contents():
    rows = [{"n": n, "text": "x"} for n in range(5000)]
    assert Canon().text(rows) == Canon().text([dict(reversed(row.items())) for row in rows])
    assert Canon().text(rows) != Canon().text([*rows[:-1], {"n": 0, "text": "x"}])
    odd = [*rows, {1, 2, 3}]
    assert Canon().text(odd) == Canon().text([*rows, {3, 2, 1}])
