"""What outlives the owner of protected keys."""

import msgpack
import pytest

from dspex_actors.protection import store as stores
from dspex_actors.protection.store import FILE, Store


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path)
    yield made
    made.close()


def test_what_was_added_is_read_in_order_and_what_was_cut_is_not(store, tmp_path):
    store.add("enter", "search", "1")
    store.add("leave", "search", "1")
    assert list(Store(tmp_path).read()) == [["enter", "search", "1"], ["leave", "search", "1"]]
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:-3])
    assert list(Store(tmp_path).read()) == [["enter", "search", "1"]]


def test_written_anew_it_has_what_was_written_and_what_was_added_since(store, tmp_path):
    store.add("old")
    store.write([("all", "search")])
    store.add("new")
    assert (list(Store(tmp_path).read()), store.changes) == ([["all", "search"], ["new"]], 1)


@pytest.mark.parametrize("data", [b"", b"\xc1", msgpack.packb(5), msgpack.packb(["enter", "a", "1"])])
def test_a_file_that_is_none_says_nothing(tmp_path, data):
    (tmp_path / FILE).write_bytes(data)
    assert list(Store(tmp_path).read()) == []


def test_after_the_machine_was_started_anew_nothing_holds(store, tmp_path, monkeypatch):
    store.add("enter")
    monkeypatch.setattr(stores, "_boot", lambda: "another")
    assert list(Store(tmp_path).read()) == []
    monkeypatch.undo()
    monkeypatch.setattr(stores.time, "monotonic", lambda: 0.0)
    assert list(Store(tmp_path).read()) == []
