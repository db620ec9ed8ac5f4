"""Events: what may be one, how it is stored, and what it is when it is read."""

import datetime as dt
import json
import threading
import time
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ConfigDict, Field

from dspex_actors.errors import ConfigError
from dspex_actors.foundation import secrets
from dspex_actors.foundation.events import kinds, outlet
from dspex_actors.foundation.events.event import Event, types_of
from dspex_actors.foundation.events.outlet import emit, open_outlet, wanted
from dspex_actors.foundation.events.record import MAX_BYTES, to_dict, to_event, to_record
from dspex_actors.foundation.operation import operation


class GadgetUsed(Event):
    tool_name: str
    milliseconds: float = 0.0
    when: dt.datetime | None = None
    tags: set[str] = Field(default_factory=set)


class SearchUsed(GadgetUsed):
    kind: ClassVar[str | None] = "tool.search"
    query: Any = None


class Held(Event):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    good: int = 1
    lock: Any = None


@pytest.fixture
def emitted():
    """The events that are emitted meanwhile."""
    found = []
    close = open_outlet(lambda event, record: found.append((event, record)))
    yield found
    close()


json_data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=15,
)


@given(st.text(max_size=30).filter(lambda text: "sk-" not in text.lower()), json_data)
def test_an_event_that_is_stored_and_read_is_what_it_was(text, data):
    event = SearchUsed(tool_name=text, query=data, tags={"a", "b"}, when=dt.datetime(2026, 1, 2, tzinfo=dt.UTC))
    assert to_event(to_record(event)) == event


def test_a_number_that_is_not_finite_comes_back():
    event = GadgetUsed(tool_name="x", milliseconds=float("inf"))
    assert to_event(to_record(event)).milliseconds == float("inf")


def test_an_unknown_type_opens_as_an_event_with_its_fields_in_data():
    record = to_record(GadgetUsed(tool_name="search"))._replace(type="of.somebody", version=3)
    event = to_event(record)
    assert type(event) is Event
    assert (event.type, event.schema_version, event.data["tool_name"]) == ("of.somebody", 3, "search")
    assert to_record(event) == record, "it goes on as it came"


@pytest.mark.parametrize(
    "change",
    [{"version": 2}, {"data": '{"tool_name": 7}'}, {"data": "{}"}],
    ids=["of a later version", "a field of another type", "a field that is missing"],
)
def test_what_does_not_fit_its_class_opens_as_an_event(change):
    event = to_event(to_record(GadgetUsed(tool_name="search"))._replace(**change))
    assert type(event) is Event
    assert event.type == "GadgetUsed"


def test_an_earlier_version_takes_the_defaults_of_later_fields():
    event = to_event(
        to_record(GadgetUsed(tool_name="search"))._replace(version=0, data='{"tool_name": "x", "gone": 1}')
    )
    assert (type(event), event.milliseconds, event.data) == (GadgetUsed, 0.0, {"gone": 1})


def test_of_two_classes_of_one_type_the_last_one_holds():
    first = type("Twice", (Event,), {"__annotations__": {"a": int}, "a": 1, "__module__": __name__})
    second = type("Twice", (Event,), {"__annotations__": {"a": int}, "a": 2, "__module__": __name__})
    assert type(to_event(to_record(first()))) is second


def test_a_class_stands_for_its_subclasses():
    assert types_of(GadgetUsed) == ["GadgetUsed", "tool.search"]


@pytest.mark.parametrize(
    ("event", "names"),
    [
        (lambda: Held(lock=threading.Lock()), "lock"),
        (lambda: Held(lock=object()), "lock"),
        (lambda: Event(data={"x": object()}), "data"),
        (lambda: GadgetUsed(tool_name="x", data={"tool_name": "y"}), "tool_name"),
        (lambda: GadgetUsed(tool_name="x" * (MAX_BYTES + 1)), "tool_name"),
        (lambda: GadgetUsed(tool_name="é" * (MAX_BYTES // 2 + 1)), "tool_name"),
        (lambda: Event(correlation_id="two\nlines"), "correlation_id"),
        (lambda: Event(correlation_id=""), "correlation_id"),
        (lambda: Event(id="x" * 201), "id"),
        (lambda: Event(type="\ud800"), "type"),
        (lambda: Event(at=float("nan")), "at"),
        (lambda: Event(at=time.time() * 1000), "expected seconds since 1970"),
        (lambda: "no event", "expected a dspex.Event"),
    ],
)
def test_what_cannot_be_stored_is_refused_and_names_the_field(event, names):
    with pytest.raises(ConfigError, match=names):
        emit(event())


def test_a_cycle_is_refused_and_not_followed_for_ever():
    circle: dict[str, Any] = {}
    circle["me"] = circle
    with pytest.raises(ConfigError):
        to_record(Event(data=circle))


def test_half_of_a_surrogate_pair_and_a_large_number_are_kept():
    event = Event(data={"half": "\ud800", "large": 1 << 80})
    assert to_event(to_record(event)).data == event.data


def test_keys_are_taken_out_wherever_they_stand():
    key = "sk-" + "a1" * 20
    record = to_record(Event(data={"deep": [{"header": f"Bearer {key}"}], "token": "ghp_" + "x1" * 18}))
    assert key not in record.data
    assert "ghp_" not in record.data
    assert json.loads(record.data)["deep"] == [{"header": "Bearer [key]"}]


def test_an_export_has_every_column():
    told = to_dict(to_record(GadgetUsed(tool_name="x", correlation_id="c")))
    assert (told["type"], told["version"], told["correlation_id"], told["data"]["tool_name"]) == (
        "GadgetUsed",
        1,
        "c",
        "x",
    )


def test_an_event_belongs_to_the_operation_that_is_open(emitted):
    with operation("answer", correlation_id="mine") as op:
        event = emit(Event(type="x"))
    assert (event.correlation_id, event.parent_id) == ("mine", op.id)
    assert event in [one for one, _ in emitted]


def test_an_event_belongs_to_what_it_is_said_to_come_from(emitted):
    first = emit(Event(type="first"))
    assert first.correlation_id == first.id
    for parent in (first, first.id):
        second = emit(Event(type="second"), parent=parent)
        assert (second.correlation_id, second.parent_id) == (first.id, first.id)


@pytest.mark.parametrize("parent", [5, ["an id"], Event])
def test_what_an_event_cannot_come_from_is_refused(parent):
    with pytest.raises(ConfigError, match="the parent is invalid: got "):
        emit(Event(type="x"), parent=parent)


def test_what_an_event_says_of_itself_stays(emitted):
    with operation("answer"):
        event = emit(Event(correlation_id="c", parent_id="p", node="n", actor="a"))
    assert (event.correlation_id, event.parent_id, event.node, event.actor) == ("c", "p", "n", "a")


def test_an_event_goes_where_it_is_meant_for_and_to_those_that_take_all(emitted):
    here, there = [], []
    one, two = object(), object()
    closing = [
        open_outlet(lambda event, record: here.append(event), of=one),
        open_outlet(lambda event, record: there.append(event), of=two),
    ]
    emit(Event(), to=one)
    for close in closing:
        close()
        close()
    assert (len(here), len(there), len(emitted)) == (1, 0, 1)


def test_nobody_is_asked_where_nobody_listens(monkeypatch):
    monkeypatch.setattr(outlet, "_outlets", [])
    assert not wanted()
    assert emit(Event(type="x")).type == "x"


def test_every_kind_of_event_has_a_name_of_its_own_and_can_be_stored():
    found = [
        one for one in vars(kinds).values() if isinstance(one, type) and issubclass(one, Event) and one is not Event
    ]
    assert len({one.type_name() for one in found}) == len(found) > 20
    for one in found:
        assert "." in one.type_name()


@pytest.mark.parametrize("key", ["1234", "null", "data"])
def test_a_key_that_is_an_ordinary_word_is_taken_out_of_texts_only(monkeypatch, key):
    """A local server's key may be anything: what is stored stays JSON."""
    monkeypatch.setattr(secrets, "_values", {key})
    record = to_record(Event(data={"n": 0.12345, "none": None, "text": f"it is {key}!", "list": [{"a": key}]}))
    found = to_event(record).data
    assert (found["n"], found["none"], found["text"], found["list"]) == (
        0.12345,
        None,
        "it is [key]!",
        [{"a": "[key]"}],
    )


def test_a_text_that_its_name_calls_secret_is_not_stored():
    record = to_record(Event(data={"api_key": "hunter2", "deep": [{"x-auth-token": "hunter2"}], "max_tokens": 7}))
    assert "hunter2" not in record.data
    assert to_event(record).data["max_tokens"] == 7


@pytest.mark.parametrize("wrong", [2**70, -1, "2", True, None])
def test_a_version_that_no_store_can_hold_is_refused_where_it_is_emitted(wrong):
    class OddVersion(Event):
        version: ClassVar[Any] = wrong

    with pytest.raises(ConfigError, match="OddVersion is invalid in version"):
        to_record(OddVersion())
