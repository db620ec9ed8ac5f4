"""What an optimiser tells: whatever becomes of its events, its work goes on, and its errors are its own."""

import logging

import pytest

from dspex_actors.foundation.events.outlet import open_outlet
from dspex_actors.foundation.operation import current_operation
from dspex_actors.foundation.optimisation import Optimisation


@pytest.fixture
def told():
    events = []
    close = open_outlet(lambda event, record: events.append(event))
    yield events
    close()


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("no")


def test_it_tells_its_start_its_steps_and_its_end(told):
    with Optimisation("COPRO", "Triage", 7, {"breadth": 2}) as run:
        run.iteration(1, of=2, score=10.0)
        run.score = 10.0
    assert [event.type for event in told] == [
        "optimisation.started", "optimisation.iteration", "optimisation.completed",
    ]  # fmt: skip
    assert {event.correlation_id for event in told} == {told[0].correlation_id}


def test_events_that_cannot_be_are_left_out_and_the_work_goes_on(told, caplog):
    with caplog.at_level(logging.WARNING), Optimisation("COPRO", "Triage", settings={"lock": object()}) as run:
        run.iteration(1, score=1.0)
        run.score = "much"
    assert [event.type for event in told] == ["optimisation.iteration"]
    assert caplog.text.count("an optimisation's event was left out") == 2
    assert current_operation() is None


def test_an_error_that_cannot_be_printed_is_the_one_that_is_raised(told):
    with pytest.raises(Unspeakable), Optimisation("COPRO", "Triage"):
        raise Unspeakable
    assert told[-1].error == {"type": "Unspeakable", "message": "<Unspeakable, whose str raises RuntimeError>"}
    assert current_operation() is None
