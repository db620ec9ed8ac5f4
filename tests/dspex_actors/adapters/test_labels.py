"""A label in any form equals the output that it means, and no other."""

import dataclasses
import datetime as dt
import enum
import logging
import uuid
from decimal import Decimal

import pytest
from pydantic import BaseModel

from dspex_actors import Example, Prediction, metrics
from dspex_actors.adapters import labels
from dspex_actors.adapters.labels import read_label, same


class Person(BaseModel):
    name: str
    age: int = 36
    friends: list["Person"] = []


@dataclasses.dataclass
class Place:
    city: str
    zip: int


class Team(enum.Enum):
    BUGS = "bugs"
    BILLING = "billing"


class Level(enum.IntEnum):
    LOW = 1


class Scalar:
    """Stands for numpy's scalars and arrays, which need not be installed."""

    def __init__(self, value):
        self.value = value

    def tolist(self):
        return self.value

    item = tolist


Scalar.__module__ = "numpy"
ADA = Person(name="Ada", friends=[Person(name="Bob")])
NOON = dt.datetime(2024, 5, 1, 12)


@pytest.mark.parametrize(
    ("got", "label", "equal"),
    [
        # models and dataclasses against objects, dicts, JSON and Python text
        (ADA, Person(name="ada", friends=[Person(name="bob")]), True),
        (ADA, {"name": "Ada", "age": "36", "friends": [{"name": "Bob"}]}, True),
        (ADA, '{"name": "Ada", "friends": [{"name": "Bob"}]}', True),
        (ADA, {"name": "Ada"}, False),
        (ADA, {"name": "Ada", "age": 37, "friends": [{"name": "Bob"}]}, False),
        (Place("Ulm", 1), {"city": "Ulm", "zip": 1}, True),
        (Place("Ulm", 1), "{'city': 'Ulm', 'zip': 1}", True),
        (Place("Ulm", 1), Place("Ulm", 2), False),
        ({"city": "Ulm", "zip": 1}, Place("Ulm", 1), True),
        # dates and times
        (NOON, "2024-05-01T12:00:00", True),
        (NOON, "2024-05-01 12:00", True),
        (NOON, "2024-05-01T12:00:01", False),
        ("2024-05-01T12:00", NOON, True),
        (NOON.replace(tzinfo=dt.UTC), "2024-05-01T12:00:00Z", True),
        (NOON.date(), "2024-05-01", True),
        (NOON.time(), "12:00", True),
        (dt.timedelta(hours=1), "PT1H", True),
        (uuid.UUID(int=7), str(uuid.UUID(int=7)), True),
        # numbers
        (Decimal("12.5"), "12.50", True),
        (Decimal("12.5"), 12.5, True),
        (Decimal("0.1"), 0.1, True),
        (Decimal("12.5"), "about 12", False),
        # large whole numbers, which are one to a float
        (2**53 + 1, 2**53, False),
        (2**53 + 1, str(2**53 + 1), True),
        (str(2**53), 2**53 + 1, False),
        (10**400, 10**400, True),
        (3, 3.0, True),
        (12.5, Decimal("12.5"), True),
        (3, "3.0", True),
        (10**30, str(10**30), True),
        # members of Enums: by value, by name, as text; and Literals are text
        (Team.BUGS, "bugs", True),
        (Team.BUGS, "BUGS", True),
        (Team.BUGS, Team.BUGS, True),
        (Team.BUGS, Team.BILLING, False),
        ("bugs", Team.BUGS, True),
        (Level.LOW, 1, True),
        (Level.LOW, "1", True),
        (Level.LOW, 2, False),
        # bools
        (True, "true", True),
        (True, "yes", True),
        (True, 1, True),
        (False, "true", False),
        (False, "False", True),
        ("true", True, True),
        # containers
        ({"a", "b"}, ["B", "a"], True),
        ({"a", "b"}, '["a", "b"]', True),
        ({"a", "b"}, ["a"], False),
        ({"a"}, ["a", "a"], False),
        (frozenset({1, 2}), (2, 1), True),
        (["a", "b"], ("A", "b"), True),
        (["a", "b"], '["a", "b"]', True),
        (["a", "b"], ["b", "a"], False),
        ([NOON], ["2024-05-01T12:00"], True),
        ((1, "x"), [1, "X"], True),
        ({"a": NOON}, {"a": "2024-05-01T12:00"}, True),
        ({"a": 1}, '{"a": 1}', True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        # nothing is nothing
        (None, None, True),
        (None, "None", False),
        ("None", None, False),
        ("null", None, False),
        (None, "", False),
        ([None], ["None"], False),
        # numpy's
        (Scalar(3), "3", True),
        (3, Scalar(3.0), True),
        (Scalar([1, 2]), [1, 2], True),
    ],
)
def test_what_a_label_means(got, label, equal):
    assert same(got, label, metrics.normalize_text) is equal
    assert metrics.exact_match("x")(Example(x=label), Prediction(x=got)) is equal


def test_a_list_as_label_of_one_value_means_any_of_them():
    metric = metrics.exact_match("x")
    assert metric(Example(x=["2024-05-02T12:00", "2024-05-01T12:00"]), Prediction(x=NOON))
    assert metric(Example(x=[{"city": "Bonn", "zip": 2}, {"city": "Ulm", "zip": 1}]), Prediction(x=Place("Ulm", 1)))


def test_a_label_that_cannot_be_read_is_told_once(caplog, monkeypatch):
    monkeypatch.setattr(labels, "_warned", set())
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert not same(NOON, "noon", metrics.normalize_text)
        assert not same(ADA, ["x"], metrics.normalize_text)
    first, second = caplog.messages
    assert first.startswith("'noon' cannot be read as datetime and equals none: the example counts as wrong (")
    assert "['x'] cannot be read as Person" in second


def test_a_warning_shows_the_beginning_of_a_long_label(caplog, monkeypatch):
    monkeypatch.setattr(labels, "_warned", set())
    with caplog.at_level(logging.WARNING):
        assert not same(NOON, "noon" * 10_000, metrics.normalize_text)
    (told,) = caplog.messages
    assert "noonnoon" in told
    assert len(told) < 600


@pytest.mark.parametrize(
    ("label", "annotation", "value"),
    [
        ("12.5", Decimal, Decimal("12.5")),
        ({"city": "Ulm", "zip": 1}, Place, Place("Ulm", 1)),
        ("2024-05-01T12:00", dt.datetime | None, NOON),
        (None, int | None, None),
        ({"b", "a"}, set[str], {"a", "b"}),
        (Team.BUGS, Team, Team.BUGS),
        (Team.BUGS, str, "bugs"),
    ],
)
def test_a_label_is_read_as_a_field_has_it(label, annotation, value):
    assert read_label(label, annotation) == value


def test_numeric_f1_and_contains_take_any_value():
    def score(metric, label, got):
        return metric(Example(x=label), Prediction(x=got))

    assert score(metrics.numeric("x"), "12.5", Decimal("12.50"))
    assert score(metrics.numeric("x", tolerance=0.5), Decimal(3), Scalar(3.4))
    assert score(metrics.numeric("x"), Level.LOW, 1)
    assert not score(metrics.numeric("x"), None, "none")
    assert score(metrics.f1("x"), "ada", Person(name="Ada")) > 0
    assert (score(metrics.f1("x"), None, "none"), score(metrics.f1("x"), None, None)) == (0.0, 1.0)
    assert not score(metrics.contains("x"), None, "none of them")
    assert score(metrics.contains("x"), Team.BUGS, "all the bugs")


@pytest.mark.parametrize(
    ("value", "number"),
    [(Scalar(True), 1.0), (Scalar(0.5), 0.5), (Decimal("0.5"), 0.5), (Prediction(score=Scalar(False)), 0.0)],
)
def test_scores_may_be_numpys(value, number):
    assert metrics.check_score(value) == number


@pytest.mark.parametrize(
    ("value", "passes"),
    [
        (Prediction(score=False), False),
        (Prediction(score=True), True),
        ({"score": 0}, False),
        ("yes", True),
        (0, False),
    ],
)
def test_what_decides_of_a_metrics_value(value, passes):
    assert bool(metrics.judged(value)) is passes
