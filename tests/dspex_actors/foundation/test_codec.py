import datetime as dt
import enum
import math
import subprocess
import sys
import threading
from collections import OrderedDict
from dataclasses import dataclass
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from property_kit import examples
from pydantic import BaseModel

from dspex_actors.foundation.codec import CodecError, HoldsObjects, Opaque, gathering_classes, pack, to_plain, unpack
from supervisors.wire import pickles

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.sets(st.integers() | st.text(), max_size=4)
        | st.frozensets(st.integers(), max_size=4)
    ),
    max_leaves=12,
)
rich = st.datetimes() | st.dates() | st.times() | st.decimals(allow_nan=False) | st.integers(min_value=2**70)


class Team(enum.Enum):
    BILLING = "billing"


class Ticket(BaseModel):
    text: str
    team: Team


@dataclass(frozen=True)
class Point:
    x: int


class Broken:
    def __repr__(self):
        raise RuntimeError("no repr")


@settings(max_examples=examples(150), deadline=None)
@given(plain | rich | st.lists(rich, max_size=3))
def test_what_is_packed_comes_back_as_it_was(value):
    back = unpack(pack(value))
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        Team.BILLING,
        Ticket(text="x", team=Team.BILLING),
        Point(3),
        OrderedDict(a=1),
        dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
        dt.datetime(2026, 1, 2, tzinfo=ZoneInfo("Europe/Berlin")),
        -(2**200),
        "half \ud800 pair",
        {"k": "\udfff"},
        float("inf"),
        {(1, 2): "tuple key"},
    ],
)
def test_objects_come_back_for_a_caller_that_trusts_them(value):
    assert unpack(pack([value]), objects="load") == [value]


def test_an_untrusted_object_is_shown_and_not_loaded():
    found = unpack(pack({"ticket": Ticket(text="hello", team=Team.BILLING), "at": Point(3), "team": Team.BILLING}))
    assert isinstance(found["ticket"], Opaque)
    assert found["ticket"].type.endswith("Ticket")
    assert found["ticket"].plain == {"text": "hello", "team": "billing"}
    assert to_plain(found) == {
        "ticket": {"text": "hello", "team": "billing"},
        "at": {"x": 3},
        "team": "billing",
    }


def test_an_untrusted_object_in_a_set_stays_in_the_set():
    assert len(unpack(pack({Point(1), Point(2)}))) == 2


def test_data_nested_too_deep_for_msgpack_still_comes_back():
    value = []
    for _ in range(600):
        value = [value]
    assert unpack(pack(value), objects="load") == value


def test_an_object_with_a_broken_repr_is_packed_all_the_same():
    assert unpack(pack(Broken())).plain == "<Broken>"


def test_what_nothing_can_pack_is_refused_with_its_type():
    with pytest.raises(CodecError, match=r"_thread\.lock cannot be packed"):
        pack({"a": threading.Lock()})


@pytest.mark.parametrize("data", [b"", b"\xc1", pack({"a": "b" * 40})[:-3], b"\xc7\x01\x63x", pack([1]) + b"\x01"])
def test_bytes_that_were_never_packed_are_a_readable_error(data):
    with pytest.raises(CodecError, match=r"not a packed value|unknown"):
        unpack(data)


def test_equal_sets_have_equal_bytes():
    assert pack({"b", "a", "c"}) == pack({"c", "a", "b"})


def test_nan_is_text_in_plain_data():
    assert to_plain({"a": math.nan, 1: (Decimal("1.5"), b"\xff", {2, 1})}) == {
        "a": "nan",
        "1": ["1.5", "\\xff", [1, 2]],
    }


def test_an_integer_with_more_digits_than_python_prints_comes_back():
    assert unpack(pack(10**6000)) == 10**6000


# --- objects of a script's classes ------------------------------------------------------------------------------------


class Person(BaseModel):
    name: str


def test_objects_hold_the_names_of_a_scripts_classes_and_not_their_code():
    with gathering_classes() as classes:
        packed = pack({"people": [Person(name="Ada"), Person(name="Bob")]})
    assert classes == {Person}
    assert len(packed) < 600
    assert unpack(packed, objects="load") == {"people": [Person(name="Ada"), Person(name="Bob")]}
    assert type(unpack(packed, objects="load")["people"][0]) is Person
    with gathering_classes() as classes:
        pack([1, "x", Decimal(1), dt.UTC])
    assert classes == set()


ELSEWHERE = """
import sys
from dspex_actors.foundation.codec import CodecError, pack, unpack
from supervisors.wire import pickles

packed, classes = sys.stdin.buffer.read().split(b"|||")
print(unpack(packed, objects="try")["person"])
try:
    unpack(packed, objects="load")
except CodecError as error:
    print("refused:", "the class" in str(error))
person_class, = pickles.loads(classes)
print(repr(unpack(packed, objects="load")["person"]))
# An answer made here is small, too, and has its class where the class came from.
sys.stdout.flush()
sys.stdout.buffer.write(pack(person_class(name="Eve")))
"""


def test_a_process_that_was_sent_the_classes_rebuilds_the_objects_and_sends_others_back():
    with gathering_classes() as classes:
        packed = pack({"person": Person(name="Ada")})
    sent = packed + b"|||" + pickles.dumps(list(classes))
    # Not in this folder: there the class could be imported.
    done = subprocess.run([sys.executable, "-c", ELSEWHERE], input=sent, cwd="/", capture_output=True, check=True)
    *lines, answer = done.stdout.split(b"\n", 3)
    assert lines == [b"{'name': 'Ada'}", b"refused: True", b"Person(name='Ada')"]
    assert len(answer) < 600
    assert unpack(answer, objects="load") == Person(name="Eve")


def test_objects_can_be_refused_before_anything_runs():
    assert unpack(pack({"a": (1, {2})}), objects="refuse") == {"a": (1, {2})}
    with pytest.raises(HoldsObjects):
        unpack(pack({"a": [Person(name="Ada")]}), objects="refuse")
