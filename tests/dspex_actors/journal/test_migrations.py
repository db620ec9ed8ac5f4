"""Journals of earlier versions: read as they are; the writer brings them to this version and keeps a copy."""

import shutil
import sqlite3
import stat
from pathlib import Path

import pytest

from dspex_actors.journal import migrations
from dspex_actors.journal.errors import JournalCorrupt, JournalFull
from dspex_actors.journal.migrations import VERSION, copy_path, version_of
from dspex_actors.journal.reader import JournalReader
from dspex_actors.journal.records import ResultRow, RunSpec
from dspex_actors.journal.writer import Journal
from dspex_actors.lm.attempts import Attempt

OLD = Path(__file__).parents[2] / "data" / "journal_17e5cbe" / "journal.db"
NEW_RUN_COLUMNS = ("parent_id", "lm_digest", "options_digest", "identity", "epoch", "labels")


@pytest.fixture
def old(tmp_path):
    return Path(shutil.copy(OLD, tmp_path / "journal.db"))


def schema_of(path):
    with sqlite3.connect(path) as db:
        found = dict(db.execute("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"))
    db.close()
    return found


def columns_of(path, table):
    with sqlite3.connect(path) as db:
        found = [(row[1], row[2], row[3], row[4], row[5]) for row in db.execute(f"PRAGMA table_info({table})")]
    db.close()
    return found


def test_a_reader_reads_an_old_journal_and_leaves_it_as_it_is(old):
    before = old.read_bytes()
    reader = JournalReader(old)
    runs = {row.run_id: row for row in reader.list_runs()}
    assert runs["desk-paused"].done == 12
    spec = runs["desk-paused"].spec
    assert (spec.parent_id, spec.lm_digest, spec.options_digest, spec.identity, spec.labels) == (None,) * 4 + ({},)
    rows = list(reader.iter_results("desk-paused"))
    assert len(rows) == 12
    assert (rows[0].finish_reason, rows[0].extra) == (None, None)
    assert list(reader.iter_attempts("desk-paused")) == []
    assert old.read_bytes() == before
    assert [path.name for path in old.parent.iterdir()] == ["journal.db"]


def test_the_writer_migrates_it_and_keeps_a_copy(old):
    before = {row.run_id: row for row in JournalReader(old).list_runs()}
    results = {name: list(JournalReader(old).iter_results(name)) for name in before}
    with Journal(old) as journal:
        assert {row.run_id: row for row in journal.list_runs()} == before
        assert {name: list(journal.iter_results(name)) for name in before} == results
        journal.check()
    copy = copy_path(old, 1)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with sqlite3.connect(f"file:{copy}?mode=ro&immutable=1", uri=True) as db:
        assert version_of(db) == 1
    db.close()
    assert {row.run_id: row for row in JournalReader(copy).list_runs()} == before
    assert sorted(path.name for path in old.parent.iterdir()) == ["journal.db", "journal.db.v1"]


def test_a_migrated_journal_and_a_new_one_have_the_same_tables(old, tmp_path):
    new = tmp_path / "new" / "journal.db"
    for path in (old, new):
        Journal(path).close()
    assert schema_of(old).keys() == schema_of(new).keys()
    for table in ("runs", "results", "attempts", "events"):
        assert columns_of(old, table) == columns_of(new, table)
    assert {name for name, *_ in columns_of(old, "runs")} >= set(NEW_RUN_COLUMNS)
    assert not copy_path(new, 0).exists()


def test_a_run_of_an_old_journal_goes_on_with_requests_as_rows(old):
    with Journal(old) as journal:
        before = journal.get_run("desk-paused")
        attempt = Attempt(index=20, send=1, n=1, at=1.0, provider="embedded", model="nearest", outcome="answered")
        assert journal.add_results("desk-paused", [ResultRow(index=20, example=b"e")], [attempt]) == 1
        after = journal.get_run("desk-paused")
    assert (after.done, after.asked) == (before.done + 1, before.asked + 1)


def test_a_migration_that_fails_leaves_the_journal_as_it_was(old, monkeypatch):
    def broken(db):
        db.execute("ALTER TABLE runs ADD COLUMN half TEXT")
        raise sqlite3.OperationalError("no")

    monkeypatch.setattr(migrations, "STEPS", (*migrations.STEPS[:1], broken))
    with pytest.raises(Exception, match="no"):
        Journal(old)
    assert "half" not in {name for name, *_ in columns_of(old, "runs")}
    monkeypatch.undo()
    with Journal(old) as journal:
        assert journal.get_run("desk-paused").done == 12


def test_a_copy_that_is_there_is_not_written_over(old):
    copy_path(old, 1).write_bytes(b"the first one")
    Journal(old).close()
    assert copy_path(old, 1).read_bytes() == b"the first one"


def test_without_space_for_the_copy_nothing_is_migrated(old, monkeypatch):
    def full(path, db):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dspex_actors.journal.writer.keep_copy", full)
    with pytest.raises(JournalFull):
        Journal(old)
    with sqlite3.connect(old) as db:
        assert version_of(db) == 1
    db.close()


def test_a_journal_of_a_newer_version_is_refused_in_one_line(tmp_path):
    path = tmp_path / "journal.db"
    Journal(path).close()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {VERSION + 1}")
    db.close()
    for opened in (lambda: Journal(path), lambda: JournalReader(path).list_runs()):
        with pytest.raises(
            JournalCorrupt, match=rf"newer dspex \(schema {VERSION + 1}, known here {VERSION}\)"
        ) as found:
            opened()
        assert "\n" not in found.value.message


def test_what_a_run_is_comes_back_from_the_journal(tmp_path):
    spec = RunSpec(
        run_id="r",
        parent_id="p",
        lm_digest="l",
        options_digest="o",
        identity={"metric": {"closure value limit": "3"}},
        labels={"team": "desk"},
    )
    with Journal(tmp_path / "journal.db") as journal:
        assert journal.create_run(spec).spec == spec
        assert [journal.next_epoch("r").epoch for _ in range(2)] == [1, 2]
