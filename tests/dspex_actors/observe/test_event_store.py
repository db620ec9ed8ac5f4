"""The store of events and its readers: what is kept, for how long, and how it is found."""

import sqlite3
import stat
import subprocess
import sys
import textwrap
import time
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.events.event import Event
from dspex_actors.foundation.events.record import to_record
from dspex_actors.observe.events.reader import EventReader, type_names
from dspex_actors.observe.events.store import LEAST_BYTES, PRUNE_ROWS, EventStore
from dspex_actors.observe.events.where import compiled


def record(number, type="x", correlation_id="c", at=None, parent=None, **data):  # noqa: A002
    return to_record(
        Event(
            id=f"id-{number:08}",
            type=type,
            at=float(number) if at is None else at,
            correlation_id=correlation_id,
            parent_id=parent,
            data=data,
        )
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.db"


@pytest.fixture
def store(path):
    made = EventStore(path)
    yield made
    made.close()


def ids(records):
    return [int(one.id.removeprefix("id-")) for one in records]


def size_of(path):
    return sum(file.stat().st_size for file in path.parent.glob("events.db*"))


# --- writing ----------------------------------------------------------------------------------------------------------


def test_the_file_is_its_owners_alone(store, path):
    store.write([record(1)])
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in path.parent.glob("events.db*"))


def test_an_event_that_comes_again_is_there_once(store, path):
    store.write([record(1), record(2)])
    store.write([record(2), record(3), record(3)])
    assert ids(EventReader(path).query()) == [1, 2, 3]


def test_the_oldest_go_where_the_store_would_be_too_large(path):
    store = EventStore(path, max_bytes=LEAST_BYTES)
    for batch in range(60):
        store.write([record(batch * 100 + n, correlation_id=str(n), text="x" * 1500) for n in range(100)])
        assert size_of(path) <= LEAST_BYTES
    found = ids(EventReader(path).query(limit=100_000))
    assert found == list(range(found[0], 6000)), "what is left are the newest, without a hole"
    assert 2000 < len(found) < 5000


def test_a_store_that_is_to_be_smaller_is_when_it_is_opened(path):
    with closing(EventStore(path)) as store:
        for first in range(0, 9000, 1000):
            store.write([record(first + n, text="x" * 1500) for n in range(1000)])
    assert size_of(path) > LEAST_BYTES
    with closing(EventStore(path, max_bytes=LEAST_BYTES)):
        assert size_of(path) <= LEAST_BYTES
        found = ids(EventReader(path).query(limit=100_000))
    assert found == list(range(found[0], 9000))
    assert len(found) > 1000


def test_one_batch_that_is_larger_than_the_store_may_be_is_refused_and_the_next_is_taken(path):
    store = EventStore(path, max_bytes=LEAST_BYTES)
    store.write([record(1)])
    with pytest.raises(sqlite3.OperationalError, match="full"):
        store.write([record(10 + n, text="x" * 250_000) for n in range(40)])
    store.write([record(2)])
    assert ids(EventReader(path).query())[-1] == 2


def test_what_is_too_old_goes_in_small_steps(path):
    store = EventStore(path, max_age=3600)
    now = time.time()
    store.write([record(n, at=now - 7200 + n / 1000) for n in range(2 * PRUNE_ROWS + 10)] + [record(999_999, at=now)])
    left = []
    for _ in range(4):
        store.prune()
        left.append(len(EventReader(path).query(limit=10_000)))
    assert left == [PRUNE_ROWS + 11, 11, 1, 1]


def test_numbers_only_grow_also_when_everything_is_gone(path):
    store = EventStore(path, max_age=-10)
    last = store.write([record(1), record(2)])
    store.prune()
    assert EventReader(path).query() == []
    assert store.write([record(3)]) == last + 1


def test_a_damaged_file_is_put_aside_and_begun_anew(path):
    path.write_bytes(b"this is no database" * 1000)
    store = EventStore(path)
    assert store.was_damaged
    store.write([record(1)])
    assert ids(EventReader(path).query()) == [1]
    assert path.with_name("events.db.damaged").read_bytes().startswith(b"this is no database")


def test_a_store_of_a_later_version_is_left_alone(path):
    EventStore(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(sqlite3.Error, match=r"newer dspex"):
        EventStore(path)
    with pytest.raises(ConfigError, match=r"newer dspex"):
        EventReader(path).query()


def test_what_was_written_survives_a_kill(path):
    """The writer is killed right after `write` has returned, with SQLite's log not folded in."""
    code = f"""
        import os, signal
        from pathlib import Path
        from dspex_actors.foundation.events.event import Event
        from dspex_actors.foundation.events.record import to_record
        from dspex_actors.observe.events.store import EventStore
        store = EventStore(Path({str(path)!r}))
        for n in range(50):
            store.write([to_record(Event(id=f"id-{{n:08}}", at=float(n)))])
        os.kill(os.getpid(), signal.SIGKILL)
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert ended.returncode == -9
    assert ids(EventReader(path).query()) == list(range(50))
    again = EventStore(path)
    assert again.last == 50
    again.close()


# --- reading ----------------------------------------------------------------------------------------------------------


def test_a_store_that_is_not_there_is_empty_and_none_is_made(path):
    reader = EventReader(path)
    assert (reader.query(), reader.last(), list(reader.everything()), reader.correlated("c")) == ([], 0, [], [])
    assert not path.exists()


def test_the_newest_that_fit_come_oldest_first(store, path):
    store.write([record(n, type="ab"[n % 2], correlation_id=f"c{n % 3}") for n in range(100)])
    reader = EventReader(path)
    assert ids(reader.query(limit=3)) == [97, 98, 99]
    assert ids(reader.query("a", limit=2)) == [96, 98]
    assert ids(reader.query(["a", "b"], limit=3)) == [97, 98, 99]
    assert ids(reader.query(["a", "nothing"], limit=2)) == [96, 98]
    assert ids(reader.query("b", "c0", since=10, until=30)) == [15, 21, 27]
    assert ids(reader.query(correlation_id="c1", limit=2)) == [94, 97]
    assert reader.query([]) == []


def test_times_are_included(store, path):
    store.write([record(n) for n in range(5)])
    assert ids(EventReader(path).query(since=1, until=3.0)) == [1, 2, 3]


values = (
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from([0.5, 1.0, -2.0]) | st.text("ab1'\"%_", max_size=3)
)


def matches(held, wanted):
    """What a filter is to do, in Python."""
    if isinstance(wanted, list):
        return any(matches(held, one) for one in wanted)
    if wanted is None or isinstance(wanted, bool) or isinstance(held, bool) or held is None:
        return held is wanted
    if isinstance(wanted, str) or isinstance(held, str):
        return type(held) is type(wanted) and held == wanted
    return held == wanted


@given(st.lists(values, min_size=1, max_size=8), values | st.lists(values, max_size=3))
def test_a_filter_by_fields_finds_what_python_finds(held, wanted):
    condition, parameters = compiled({"a.b": wanted})
    with sqlite3.connect(":memory:") as db:
        db.execute("CREATE TABLE events (seq INTEGER PRIMARY KEY, data TEXT)")
        db.executemany("INSERT INTO events (data) VALUES (?)", [(record(0, a={"b": one}).data,) for one in held])
        found = [row[0] - 1 for row in db.execute(f"SELECT seq FROM events WHERE {condition}", parameters)]
    assert found == [place for place, one in enumerate(held) if matches(one, wanted)]


def test_a_field_that_is_not_there_is_none(store, path):
    store.write([record(1, a=None), record(2), record(3, a=0), record(4, a={"b": 1})])
    reader = EventReader(path)
    assert ids(reader.query(where={"a": None})) == [1, 2]
    assert ids(reader.query(where={"a.b": [1, 2]})) == [4]
    assert ids(reader.query(where={"a.b": None, "id": ["id-00000002", "id-00000004"]})) == [2]


@pytest.mark.parametrize("name", ["x') OR 1=1 --", "a' OR '1'='1", "$", "a[0]", "%"])
def test_names_of_fields_are_names_and_no_sql(store, path, name):
    store.write([record(1, **{name: "here"}), record(2, other="here")])
    assert ids(EventReader(path).query(where={name: "here"})) == [1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"where": {'a"b': 1}},
        {"where": {"": 1}},
        {"where": {"a..b": 1}},
        {"where": {7: 1}},
        {"where": {"a": object()}},
        {"where": {"a": {"b": 1}}},
        {"where": {"a": 1 << 70}},
        {"where": {"a": float("nan")}},
        {"where": {"a": "\ud800"}},
        {"where": {"\ud800": 1}},
        {"where": {"a": [[1]]}},
        {"where": {"a": list(range(101))}},
        {"where": {f"a{n}": 1 for n in range(33)}},
        {"where": "a = 1"},
        {"limit": 0},
        {"limit": True},
        {"since": "yesterday"},
        {"until": float("inf")},
        {"types": 7},
        {"types": ["x", int]},
        {"correlation_id": 5},
    ],
)
def test_an_argument_that_means_nothing_is_refused(path, wrong):
    with pytest.raises(ConfigError, match=r"^.*(invalid|expected)"):
        EventReader(path).query(**wrong)


def test_a_class_is_a_type_and_the_base_means_all():
    class OfReader(Event):
        pass

    assert type_names(OfReader) == ["OfReader"]
    assert type_names([OfReader, "b", "b"]) == ["OfReader", "b"]
    assert type_names(Event) is type_names(None) is None


def test_whoever_follows_gets_what_came_in_and_hears_what_was_left_out(store, path):
    reader = EventReader(path)
    store.write([record(n, type="ab"[n % 2]) for n in range(10)])
    found, seq, left_out = reader.after(4, ["a"], 100, 100)
    assert (ids(found), seq, left_out) == ([4, 6, 8], 10, 0)
    assert reader.after(seq, ["a"], 100, 100) == ([], 10, 0)
    found, seq, left_out = reader.after(0, None, 3, 100)
    assert (ids(found), seq, left_out) == ([0, 1, 2], 3, 0)
    found, seq, left_out = reader.after(0, None, 100, 4)
    assert (ids(found), seq, left_out) == ([6, 7, 8, 9], 10, 6)
    found, seq, left_out = reader.after(0, ["b"], 100, 2)
    assert (ids(found), seq, left_out) == ([7, 9], 10, 3)


def test_whoever_follows_a_store_that_was_begun_anew_starts_at_its_beginning(store, path):
    store.write([record(1)])
    found, seq, _ = EventReader(path).after(5000, None, 10, 10)
    assert (ids(found), seq) == ([1], 1)


def test_everything_comes_page_by_page_and_ends(store, path):
    store.write([record(n) for n in range(2500)])
    assert ids(EventReader(path).everything()) == list(range(2500))


def test_a_file_that_is_no_store_is_one_of_our_errors(path):
    path.write_bytes(b"x" * 5000)
    with pytest.raises(ConfigError, match=r"events\.db cannot be read"):
        EventReader(path).query()


def test_a_reader_sees_each_transaction_whole(store, path):
    """A reader between two writes of two events each never sees one of them."""
    reader = EventReader(path)
    for n in range(0, 100, 2):
        store.write([record(n), record(n + 1)])
        assert len(reader.query()) % 2 == 0


def test_numbers_beyond_what_the_store_counts_in_are_no_error(store, path):
    store.write([record(1)])
    reader = EventReader(path)
    assert ids(reader.query(limit=10**30, since=-(10**400), until=10**400)) == [1]
    assert reader.query(since=10**400) == []


def test_whoever_follows_gets_only_what_was_asked_for_whatever_its_time(store, path):
    store.write([record(n, at=2000.0 - n, correlation_id="ab"[n % 2], even=n % 4 == 0) for n in range(2000)])
    reader = EventReader(path)
    found, seq, left_out = reader.after(0, ["x"], 500, 10_000, "a", {"even": True})
    assert (ids(found), seq, left_out) == (list(range(0, 2000, 4)), 1997, 0)
    assert reader.after(seq, ["x"], 500, 10_000, "a", {"even": True}) == ([], 2000, 0)
    with pytest.raises(ConfigError, match="where is invalid"):
        reader.after(0, None, 10, 10, where={"": 1})
