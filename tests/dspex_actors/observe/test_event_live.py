"""A subscription whose handler does not come back."""

import threading

import pytest

from dspex_actors.foundation.events.event import Event
from dspex_actors.foundation.events.record import to_record
from dspex_actors.observe.events.face import Events
from dspex_actors.observe.events.live import FAILURES
from dspex_actors.observe.events.store import EventStore
from supervisors.testing import wait_until


@pytest.fixture
def events(tmp_path):
    made = Events(None, tmp_path)
    yield made
    made.close()


def test_closing_does_not_wait_for_a_handler_that_never_returns(events, tmp_path):
    called, goes_on = threading.Event(), threading.Event()

    def handler(event):
        called.set()
        goes_on.wait(60)

    subscription = events.subscribe(None, handler)
    store = EventStore(tmp_path / "events.db")
    store.write([to_record(Event(type="x"))])
    store.close()
    assert called.wait(30)
    try:
        closing = threading.Thread(target=events.close, daemon=True)
        closing.start()
        closing.join(60)
        assert (closing.is_alive(), subscription.active) == (False, False)
    finally:
        goes_on.set()


def test_a_handler_that_fails_alike_each_time_is_logged_with_its_traceback_once(events, tmp_path, caplog):
    def handler(event):
        raise ValueError(event.type)

    subscription = events.subscribe(None, handler)
    store = EventStore(tmp_path / "events.db")
    store.write([to_record(Event(type=f"x.{number}")) for number in range(FAILURES)])
    store.close()
    wait_until(lambda: not subscription.active, 30)
    wait_until(lambda: "is given no more" in caplog.text, 30)
    told = [record for record in caplog.records if "handler failed" in record.getMessage()]
    assert [record.exc_info is not None for record in told] == [True, False]
    assert "as before, the 10th time: ValueError: x.9" in told[-1].getMessage()
