"""Operations as events: what they took in and gave, cut and without keys, and never the operation's trouble."""

import json

import pytest

import dspex_actors as dspex
from dspex_actors.foundation import secrets
from dspex_actors.foundation.events.outlet import open_outlet
from dspex_actors.foundation.operation import Operation, operation
from dspex_actors.observe.events.observers import observe_operations
from dspex_actors.observe.events.shown import MAX_ITEMS, MAX_SHOWN, MAX_TEXT, shown


@pytest.fixture
def emitted():
    observe_operations()
    observe_operations()
    found = []
    close = open_outlet(lambda event, record: found.append(event))
    yield found
    close()


class Wild:
    def __repr__(self):
        raise RuntimeError("no")


def circle():
    found = {}
    found["me"] = [found]
    return found


def deep():
    found = []
    for _ in range(5000):
        found = [found]
    return found


@pytest.mark.parametrize(
    "value",
    [
        "x" * 1_000_000,
        ["x" * 1000] * 1000,
        {f"name {n}": n for n in range(100_000)},
        list(range(1_000_000)),
        [[["x" * 50] * 50] * 50] * 50,
        circle(),
        deep(),
        Wild(),
        {"a": Wild(), 7: {1, 2}, None: b"\xff"},
        1 << 100,
        float("nan"),
        "\ud800" * 10,
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_it_was_it_is_small_plain_data(value):
    assert len(json.dumps(shown(value))) < 3 * MAX_SHOWN


def test_plain_data_is_shown_as_it_is():
    value = {"question": "why?", "context": ["a", {"n": 1.5, "ok": True, "none": None}]}
    assert shown(value) == value


def test_a_prediction_is_shown_by_its_fields():
    assert shown(dspex.Prediction(answer="yes", score=2)) == {"answer": "yes", "score": 2}


def test_what_is_left_out_is_counted_and_what_is_secret_is_hidden():
    assert shown(list(range(MAX_ITEMS + 5)))[-1] == "… 5 more"
    assert shown({"api_key": "abc", "password": 7, "x": 1}) == {"api_key": "[key]", "password": "[key]", "x": 1}


def test_an_operation_is_two_events_and_the_second_hangs_under_the_first(emitted):
    with operation("answer", customer=7) as op:
        op.breadcrumb("looked it up", hits=3)
        op.add_trace_step("retrieve", {"k": 5})
    started, completed = emitted
    assert (started.type, started.id, started.parent_id, started.metadata) == (
        "operation.started", op.id, None, {"customer": 7},
    )  # fmt: skip
    assert (completed.type, completed.parent_id, completed.error) == ("operation.completed", op.id, None)
    assert completed.duration >= 0
    assert completed.breadcrumbs[0]["text"] == "looked it up"
    assert completed.trace[0]["data"] == {"k": 5}
    assert {event.correlation_id for event in emitted} == {op.correlation_id}


def test_an_error_is_told_and_goes_on(emitted):
    with pytest.raises(ValueError, match="no"), operation("answer"):
        raise ValueError("no")
    assert emitted[-1].error == {"type": "ValueError", "message": "no"}


def test_a_program_shows_what_it_took_in_and_gave(emitted):
    with Operation("Triage", kind="module", inputs={"ticket": "t"}) as op:
        op.outputs = dspex.Prediction(team="billing")
    started, completed = emitted
    assert (started.type, started.module, started.inputs) == ("module.execution.started", "Triage", {"ticket": "t"})
    assert (completed.type, completed.outputs) == ("module.execution.completed", {"team": "billing"})


def test_what_is_not_recorded_makes_no_events(emitted):
    with Operation("example", is_recorded=False), operation("inside"):
        pass
    assert emitted == []


def test_a_long_name_is_cut_and_not_the_reason_for_no_events(emitted):
    with operation("x" * (1 << 19)):
        pass
    assert [event.name[:9] for event in emitted] == ["x" * 9] * 2


def test_what_cannot_be_told_is_no_trouble(emitted):
    with operation("answer", correlation_id="c", thing=Wild(), circle=circle()):
        pass
    assert [event.type for event in emitted] == ["operation.started", "operation.completed"]


def test_a_key_that_stands_where_a_text_is_cut_is_not_shown_in_part(monkeypatch):
    monkeypatch.setattr(secrets, "_values", {"a-key-of-no-known-form"})
    text = "x" * (MAX_TEXT - 8) + "a-key-of-no-known-form and more"
    assert "a-key" not in str(shown({"text": text}))


def test_an_error_that_cannot_be_printed_ends_its_operation_all_the_same(emitted):
    class Unspeakable(Exception):
        def __str__(self):
            raise RuntimeError("no")

    with pytest.raises(Unspeakable), operation("x"):
        raise Unspeakable
    assert emitted[-1].type == "operation.completed"
    assert emitted[-1].error["type"] == "Unspeakable"
