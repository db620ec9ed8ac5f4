"""Durable workflows in the journal: who carries one out, what a step leaves, how an old journal gets their table."""

import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from dspex_actors.errors import ConfigError
from dspex_actors.journal.migrations import VERSION, _first, _identities_and_attempts, copy_path, version_of
from dspex_actors.journal.reader import JournalReader
from dspex_actors.journal.records import RunSpec, StepRow
from dspex_actors.journal.steps import add_step, end_workflow, forsaken, open_workflow
from dspex_actors.journal.writer import Journal

ME, OTHER = {"pid": 1, "born": 1}, {"pid": 2, "born": 2}
SPEC = RunSpec(run_id="w", kind="workflow", program_digest="p", dataset={"kind": "data"}, dataset_digest="d", total=2)


def step(name, data=b"x"):
    return StepRow(name, "completed", 1, 0.5, 3.0, None, data)


def alive(*holders):
    return lambda holder: holder in holders


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path / "journal.db") as one:
        yield one


def test_steps_come_back_in_the_order_in_which_they_ended(journal):
    row = open_workflow(journal, SPEC, ME, alive())
    assert (row.state, row.epoch, row.done, row.spec.total) == ("running", 1, 0, 2)
    for name in ("b", "a", "b"):
        add_step(journal, "w", row.epoch, step(name))
    assert [one.step for one in JournalReader(journal.path).steps("w")] == ["b", "a"]
    assert JournalReader(journal.path).steps("w")[0] == step("b")
    assert journal.get_run("w").done == 2
    end_workflow(journal, "w", row.epoch, "finished", None)
    assert open_workflow(journal, SPEC, OTHER, alive()).state == "finished"
    assert journal.delete_run("w")
    assert JournalReader(journal.path).steps("w") == []


def test_runs_are_listed_without_their_code_and_only_new_steps_are_read(journal):
    row = open_workflow(journal, replace(SPEC, program=b"code", metric=b"metric"), ME, alive())
    for name in ("a", "b", "c"):
        add_step(journal, "w", row.epoch, step(name))
    reader = JournalReader(journal.path)
    assert [[one.step for one in reader.steps("w", after)] for after in (1, 3)] == [["b", "c"], []]
    whole = reader.get_run("w")
    assert (whole.spec.program, whole.spec.metric) == (b"code", b"metric")
    bare = replace(whole, spec=replace(whole.spec, program=b"", metric=b""))
    assert [reader.get_run("w", code=False), *reader.list_runs(code=False)] == [bare, bare]
    assert reader.list_runs() == [whole]


def test_one_process_has_it_as_long_as_it_lives(journal):
    mine = open_workflow(journal, SPEC, ME, alive(ME))
    with pytest.raises(ConfigError, match="run w is being carried out by process 1: wait for its end"):
        open_workflow(journal, SPEC, OTHER, alive(ME))
    with pytest.raises(ConfigError, match="being carried out"):
        open_workflow(journal, SPEC, ME, alive(ME))  # in another thread of the same program
    add_step(journal, "w", mine.epoch, step("a"))
    theirs = open_workflow(journal, SPEC, OTHER, alive(OTHER))
    for call in (
        lambda: add_step(journal, "w", mine.epoch, step("b")),
        lambda: end_workflow(journal, "w", mine.epoch, "failed", "late"),
    ):
        with pytest.raises(ConfigError, match="run w was taken over by another process"):
            call()
    add_step(journal, "w", theirs.epoch, step("b"))
    assert [one.step for one in JournalReader(journal.path).steps("w")] == ["a", "b"]
    assert journal.get_run("w").state == "running"


@pytest.mark.parametrize(
    ("state", "then"), [("paused", "resume it with run_id='w'"), ("cancelled", "choose another run id")]
)
def test_what_was_under_way_when_it_was_ended_is_kept_and_nothing_more_is_begun(journal, state, then):
    row = open_workflow(journal, SPEC, ME, alive(ME))
    journal.set_state("w", state, "enough")
    with pytest.raises(ConfigError, match=rf"run w is {state} \(enough\): {then}$"):
        add_step(journal, "w", row.epoch, step("a"))
    end_workflow(journal, "w", row.epoch, "failed", "it was refused")
    assert (journal.get_run("w").state, journal.get_run("w").reason) == (state, "enough")
    assert [one.step for one in JournalReader(journal.path).steps("w")] == ["a"]
    if state == "paused":
        assert open_workflow(journal, SPEC, OTHER, alive(ME)).state == "running"
    else:
        with pytest.raises(ConfigError, match=r"was cancelled .*choose another run id$"):
            open_workflow(journal, SPEC, OTHER, alive(ME))


def test_a_workflow_whose_process_has_ended_is_paused(journal):
    open_workflow(journal, SPEC, ME, alive())
    journal.create_run(RunSpec(run_id="evaluation"))
    assert forsaken(journal, alive(ME)) == ["w"]
    assert forsaken(journal, alive()) == []
    assert (journal.get_run("w").state, journal.get_run("w").reason) == ("paused", "its program ended")
    assert journal.get_run("evaluation").state == "running"


def test_another_workflow_under_its_id_is_named(journal):
    told = {"way": {"version": "1"}, "program": {"order": "a, b"}, "dataset": {"q": "1"}}
    one = RunSpec(run_id="w", kind="workflow", program_digest="p", dataset_digest="d", identity=told)
    open_workflow(journal, one, ME, alive())
    other = RunSpec(
        run_id="w",
        kind="workflow",
        program_digest="p2",
        dataset_digest="d2",
        identity=told | {"program": {"order": "b, a"}, "dataset": {"q": "2"}},
    )
    expected = (
        r"run w is there already with other steps \(order was a, b and is b, a\) and other data \(q was 1 and is 2\): "
        "continue it with what it was started with, or choose another run id$"
    )
    with pytest.raises(ConfigError, match=expected):
        open_workflow(journal, other, ME, alive())
    with pytest.raises(ConfigError, match="of another kind: workflow, not evaluate"):
        journal.create_run(RunSpec(run_id="w"))


@pytest.mark.parametrize("version", [1, 2])
def test_a_journal_without_steps_gets_their_table(tmp_path, version):
    path = tmp_path / "journal.db"
    if version == 1:
        shutil.copy(Path(__file__).parents[2] / "data" / "journal_17e5cbe" / "journal.db", path)
    else:
        with sqlite3.connect(path) as db:
            _first(db)
            _identities_and_attempts(db)
            db.execute("PRAGMA user_version = 2")
        db.close()
    before = JournalReader(path).list_runs()
    assert JournalReader(path).steps("w") == []
    with Journal(path) as journal:
        assert journal.list_runs() == before
        add_step(journal, "w", open_workflow(journal, SPEC, ME, alive()).epoch, step("a"))
        journal.check()
    with sqlite3.connect(path) as db:
        assert version_of(db) == VERSION
        [row] = db.execute("SELECT run_id, place, step, state FROM workflow_step").fetchall()
    db.close()
    assert row == ("w", 0, "a", "completed")
    assert copy_path(path, version).exists()
