"""Messages of a program's own, by number: what they carry, other versions, and what is refused."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest

from supervisors import UnknownMessage, message
from supervisors.errors import SpecError
from supervisors.terms import letters
from supervisors.wire.values import pack_value, unpack


@message(991)
@dataclass(frozen=True, slots=True)
class Row:
    index: int
    data: Any = None


@message(992)
@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    VERSION: ClassVar[int] = 3

    rows: list[Row] = field(default_factory=list)
    name: str


@message(993)
@dataclass(frozen=True)
class Bare:
    pass


@message(994)
@dataclass(frozen=True)
class One:
    value: Any


class Own:
    def __init__(self, value):
        self.value = value


def there_and_back(value):
    return unpack(pack_value(value, "value"), trusted=True)


@pytest.mark.parametrize(
    "value",
    [
        Row(1),
        Batch(rows=[Row(1, b"x"), Row(2, {"a": (1, {2})})], name="n"),
        Bare(),
        One([1]),
        One(One(None)),
        ("results", [Row(1)], {"b": Bare()}),
    ],
)
def test_a_message_arrives_as_it_was_without_a_pickle(value):
    packed = pack_value(value, "value")
    assert unpack(packed, trusted=True) == value
    assert b"test_letters" not in packed


def test_what_is_no_plain_data_goes_as_a_pickle():
    found = there_and_back(Row(1, Own(7)))
    assert (found.index, found.data.value) == (1, 7)


def test_another_version_and_an_unknown_number_are_said_and_not_guessed(monkeypatch):
    packed = pack_value([Batch(rows=[Row(1)], name="n")], "value")
    monkeypatch.setitem(letters._by_number, 992, letters.Letter(Batch, 992, 4))
    assert unpack(packed, trusted=True) == [UnknownMessage(992, 3, "Batch")]
    monkeypatch.delitem(letters._by_number, 992)
    assert unpack(packed, trusted=True) == [UnknownMessage(992, 3, None)]


def test_rows_of_another_version_make_the_message_unknown(monkeypatch):
    packed = pack_value(Batch(rows=[Row(1)], name="n"), "value")
    monkeypatch.setattr(letters._letters[Row], "version", 2)
    assert unpack(packed, trusted=True) == UnknownMessage(992, 3, "Batch")


def test_a_list_of_rows_may_hold_something_else():
    batch = Batch(rows=[Row(1), One(2)], name="n")
    assert there_and_back(batch) == batch


def test_what_contains_itself_is_refused():
    value = One([])
    value.value.append(value)
    with pytest.raises(Exception, match=r"deep|recursion"):
        pack_value(value, "value")


@pytest.mark.parametrize("number", [0, -1, True, 1.5, "x"])
def test_a_number_is_a_number(number):
    with pytest.raises(SpecError, match="number"):
        message(number)


def test_a_number_belongs_to_one_class_and_a_message_is_a_dataclass():
    with pytest.raises(SpecError, match="no other class has"):
        message(991)(Batch)
    with pytest.raises(SpecError, match="dataclass"):
        message(999)(Own)
    assert message(991)(Row) is Row
