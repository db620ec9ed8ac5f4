"""Modules on the disk: what is written is there whole, once, and only as long as a version has it."""

import sqlite3
import stat

import pytest

from dspex_actors.errors import ConfigError
from dspex_actors.modules.core import Table, Version
from dspex_actors.modules.store import Store, digest_of, read_blobs


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path)
    yield made
    made.close()


def version(store, program, around=b"around"):
    return Version(0, *store.stage(program, around), None, 1.0, "why")


def blobs(store):
    with sqlite3.connect(store.path) as db:
        return {bytes(data) for [data] in db.execute("SELECT data FROM blobs")}


def serve(store, *programs):
    table, made = Table(), None
    for number, program in enumerate(programs):
        what = version(store, program)
        after = table.updated("m", what, f"t{number}") if number else table.created("m", what, {"inputs": []}, "t")
        store.write(made, after)
        store.unstage([what.program, what.around])
        table.take(after)
        made = after
    return table


def test_what_was_written_is_read_again(store, tmp_path):
    table = serve(store, b"one", b"two", b"one")
    after = table.rolled_back("m", None, "b")
    store.write(table.get("m"), after)
    store.count([("m", 2, [1, {3: 4}]), ("m", 9, [2]), ("n", 1, [2])])
    store.close()
    again = Store(tmp_path)
    assert again.modules() == [after]
    assert again.counts() == {("m", 2): [1, {3: 4}]}
    assert stat.S_IMODE(again.path.stat().st_mode) == 0o600
    again.close()


def test_programs_are_stored_once(store):
    serve(store, b"one", b"two", b"one", b"one")
    assert blobs(store) == {b"one", b"two", b"around"}
    assert read_blobs(store.path, [digest_of(b"two"), digest_of(b"around")]) == [b"two", b"around"]


def test_what_no_version_has_any_more_is_removed(store, monkeypatch):
    monkeypatch.setattr("dspex_actors.modules.core.MOST_VERSIONS", 2)
    table = serve(store, b"one", b"two", b"one", b"three", b"four")
    assert blobs(store) == {b"three", b"four", b"around"}
    with pytest.raises(ConfigError, match=r"does not have the program [0-9a-f]{12} any more"):
        read_blobs(store.path, [digest_of(b"one")])
    store.remove(table.get("m"))
    assert blobs(store) == set()
    assert store.modules() == []


def test_what_is_being_made_is_not_removed_with_others(store, monkeypatch):
    monkeypatch.setattr("dspex_actors.modules.core.MOST_VERSIONS", 1)
    staged = version(store, b"one")
    table = serve(store, b"one", b"two", b"three")
    assert b"one" in blobs(store)
    after = table.updated("m", staged, "t9")
    store.write(table.get("m"), after)
    assert blobs(store) == {b"one", b"around"}


def test_what_was_being_made_when_the_manager_was_killed_is_gone(store, tmp_path):
    serve(store, b"one")
    version(store, b"half")
    store.close()
    again = Store(tmp_path)
    assert blobs(again) == {b"one", b"around"}
    again.close()


def test_a_change_that_cannot_be_written_changes_nothing(store):
    table = serve(store, b"one")
    before = table.get("m")
    after = table.updated("m", version(store, b"two"), "t2")
    with sqlite3.connect(store.path) as db:
        db.execute("CREATE TRIGGER full BEFORE INSERT ON versions BEGIN SELECT RAISE(ABORT, 'disk is full'); END")
    with pytest.raises(OSError, match="disk is full"):
        store.write(before, after)
    assert store.modules() == [before]
