"""The actor `events` without a node around it: what it drops is counted once, and told until it was heard."""

import asyncio
import sqlite3
from types import MappingProxyType

import pytest
import structlog

from dspex_actors.foundation.events.event import Event
from dspex_actors.foundation.events.record import to_event, to_record
from dspex_actors.observe.events import actor
from dspex_actors.observe.events.messages import Await, Keep, Stats, keep
from dspex_actors.observe.events.reader import EventReader
from dspex_actors.observe.events.store import EventStore


@pytest.fixture
def done(monkeypatch):
    """What the actor has had done in other places."""
    calls = {"push": 0, "follow": [], "dropped": []}
    monkeypatch.setattr(actor.push, "from_actor", lambda server: calls.update(push=calls["push"] + 1))
    monkeypatch.setattr(actor, "follow", lambda server, *paths: calls["follow"].extend(paths))
    monkeypatch.setattr(actor, "events_dropped", lambda count, why: calls["dropped"].append((count, why)))
    return calls


@pytest.fixture
def server(tmp_path, monkeypatch, done):
    class Alone(actor.EventsServer):
        node = MappingProxyType({"data_dir": str(tmp_path), "logs": str(tmp_path), "name": "node"})
        log = structlog.get_logger()

        def __init__(self):
            self.replies = []

        def spawn(self, work):
            work.close()  # a test does these steps by itself

        def reply(self, caller, value):
            self.replies.append((caller, value))

    made = Alone()
    asyncio.run(_init(made))
    yield made
    made._close()


async def _init(made):
    made.init()


def batch(*names, dropped=0):
    return keep([to_record(Event(type=name)) for name in names], dropped)


def told(tmp_path):
    return [to_event(record) for record in EventReader(tmp_path / "events.db").query("events.dropped")]


def test_it_tells_of_itself_once_and_follows_its_settings_once(server, done):
    assert (done["push"], done["follow"]) == (1, ["infrastructure.events"])


def test_what_senders_and_a_full_disk_have_dropped_is_counted_once(server, done, tmp_path, monkeypatch):
    def full(self, records):
        raise sqlite3.OperationalError("database or disk is full")

    async def run():
        server.handle_call(batch("a", "b", dropped=3), "caller")
        with monkeypatch.context() as patch:
            patch.setattr(EventStore, "write", full)
            await server._keep_all()
            untold = server._untold.copy()
            assert not await server._in_thread(server._housekeeping, untold)
        assert await server._in_thread(server._housekeeping, untold)
        return server.handle_call(Stats(), "caller")

    stats = asyncio.run(run())
    assert stats.dropped == {"queue": 3, "disk": 2}
    assert sorted(done["dropped"]) == [(2, "disk"), (3, "queue")]
    (event,) = told(tmp_path)
    assert (event.count, event.why) == (5, {"queue": 3, "disk": 2})


def test_what_could_not_be_told_is_told_next_time(server, tmp_path, monkeypatch):
    tries = []
    write = EventStore.write

    def fails_once(self, records):
        tries.append(records)
        if len(tries) == 1:
            raise sqlite3.OperationalError("database or disk is full")
        return write(self, records)

    pauses = iter(range(3))

    async def pause(seconds):
        if len(tries) > 1 or next(pauses, None) is None:
            raise asyncio.CancelledError

    async def look():
        server.handle_call(batch("a", dropped=3), "caller")
        await server._look()

    monkeypatch.setattr(EventStore, "write", fails_once)
    monkeypatch.setattr(actor.asyncio, "sleep", pause)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(look())
    assert [event.count for event in told(tmp_path)] == [3]


def test_what_no_store_can_hold_is_dropped_and_the_next_is_kept(server, done, tmp_path):
    """An actor that fell over it would be sent it again, and fall again."""
    large = to_record(Event(type="x"))._replace(version=2**80)

    async def run():
        for rows in ([tuple(large)], [(1, 2)], [tuple(to_record(Event(type="y")))]):
            server.handle_call(Keep(rows), "caller")
            await server._keep_all()
        return server.handle_call(Stats(), "caller")

    stats = asyncio.run(run())
    assert (stats.dropped, stats.kept, stats.error) == ({"disk": 1, "unreadable": 1}, 1, None)
    assert sorted(done["dropped"]) == [(1, "disk"), (1, "unreadable")]


@pytest.mark.parametrize("wrong", [Await("x", 5), Await(1, "x"), Keep(7), Keep([], "x"), None, object()])
def test_a_request_that_is_none_is_refused(server, wrong):
    assert server.handle_call(wrong, "caller")[0] == "error"
