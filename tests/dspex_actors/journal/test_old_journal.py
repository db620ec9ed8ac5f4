"""Journals and saved programs of commit 17e5cbe, before the modules moved: shown, exported, resumed, loaded."""

import importlib
import importlib.util
import json
import shutil
import sqlite3
import sys
from pathlib import Path

import cloudpickle
import pytest
import warm
from click.testing import CliRunner

import dspex_actors as dspex
from dspex_actors.cli import main
from dspex_actors.foundation import codec, moved
from dspex_actors.runs.spec import dump_code, load_code

DATA = Path(__file__).parents[2] / "data" / "journal_17e5cbe"

resumes = pytest.mark.skipif(
    sys.version_info[:2] != (3, 11), reason="user code that went by value runs on the Python that pickled it: 3.11"
)


@pytest.fixture
def old(home):
    """Put the old journal into the test's DSPEX_HOME, as the journal of a node that is gone."""
    folder = home / "embedded" / "20261127-051214-15740-7d1d"
    shutil.copytree(DATA, folder)
    for path in (home, home / "embedded", folder, folder / "spool"):
        path.chmod(0o700)
    with sqlite3.connect(folder / "journal.db") as db:
        for number, text in db.execute("SELECT number, dataset FROM runs").fetchall():
            dataset = json.loads(text)
            dataset["path"] = str(folder / "spool" / Path(dataset["path"]).name)
            db.execute("UPDATE runs SET dataset = ? WHERE number = ?", (json.dumps(dataset), number))
    db.close()
    return folder


@pytest.fixture
def desk(monkeypatch):
    """Load the script that made the journal, as a later process does."""
    spec = importlib.util.spec_from_file_location("desk", DATA / "desk.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "desk", module)
    spec.loader.exec_module(module)
    return module


def dspex_command(*args, status=0):
    found = CliRunner().invoke(main.dspex, args, prog_name="dspex")
    assert found.exit_code == status, found.output
    return found.stdout


def test_everything_in_the_tables_is_there():
    for new in moved.MOVED.values():
        assert importlib.import_module(new)
    for module, name in moved.MOVED_NAMES.values():
        assert getattr(importlib.import_module(module), name).__module__ == module


def test_a_module_that_user_code_refers_to_is_found_where_it_is_now():
    class Before:
        def __reduce__(self):
            return cloudpickle.cloudpickle.subimport, ("dspex_actors.signature",)

    now = importlib.import_module("dspex_actors.signatures.signature")
    assert load_code(dump_code(Before())) is now
    assert codec.unpack(codec.pack([Before()]), objects="load") == [now]


def test_runs_are_listed_and_shown(old):
    found = {row["run_id"]: row for row in json.loads(dspex_command("runs", "--json"))}
    assert {name: row["state"] for name, row in found.items()} == {
        "desk-finished": "finished",
        "desk-paused": "paused",
        "bootstrap-finished": "finished",
        "bootstrap-paused": "paused",
    }
    shown = json.loads(dspex_command("runs", "show", "desk-paused", "--json"))
    assert (shown["total"], shown["done"], shown["failed"]) == (40, 12, 0)
    assert "desk-finished" in dspex_command("runs", "show", "desk-finished")


def test_a_run_is_exported_without_running_its_code(old):
    lines = [json.loads(line) for line in dspex_command("runs", "export", "desk-finished").splitlines()]
    assert [line["index"] for line in lines] == list(range(12))
    assert lines[0]["inputs"] == {"ticket": "invoice 0 was charged twice"}
    assert lines[0]["prediction"] == {"team": "billing", "note": {"team": "billing", "length": 27}}


@pytest.mark.soak
@resumes
def test_a_paused_run_is_resumed_with_the_program_and_metric_of_its_journal(old):
    command = [sys.executable, "-m", "dspex_actors", "runs", "resume", "desk-paused", "--json", "--quiet"]
    resumed = json.loads(warm.run(command, capture_output=True, text=True, check=True).stdout)
    assert (resumed["state"], resumed["done"], resumed["failed"], resumed["asked"]) == ("finished", 40, 0, 40)
    lines = [json.loads(line) for line in dspex_command("runs", "export", "desk-paused").splitlines()]
    assert [line["index"] for line in lines] == list(range(40))
    assert all(line["prediction"]["note"]["team"] == line["prediction"]["team"] for line in lines)


@resumes
def test_a_paused_run_is_continued_with_the_same_program_from_its_script(old, desk):
    with dspex.connect(lm="embedded/nearest", workers=1):
        result = dspex.evaluate(
            desk.Desk(), desk.tickets(40), desk.same_team, run_id="desk-paused", display_progress=False
        )
        assert (result.state, result.n, result.failed, result.asked) == ("finished", 40, 0, 40)
        with pytest.raises(dspex.ConfigError, match="another program"):
            dspex.evaluate(
                dspex.Predict(desk.Triage),
                desk.tickets(40),
                desk.same_team,
                run_id="desk-paused",
                display_progress=False,
            )


@pytest.mark.soak
@resumes
def test_a_bootstrap_is_continued_and_a_finished_one_answers_from_the_journal(old, desk):
    optimizer = dspex.BootstrapFewShot(metric=desk.same_team, max_bootstrapped_demos=6)
    with dspex.connect(lm="embedded/nearest", workers=1):
        made = {
            run_id: optimizer.compile(
                desk.Desk(), trainset=desk.tickets(12), run_id=run_id, max_in_flight=1, display_progress=False
            )
            for run_id in ("bootstrap-finished", "bootstrap-paused")
        }
    finished, continued = ([dict(demo) for demo in program.sort.demos] for program in made.values())
    assert len(finished) == 12
    assert [demo["ticket"] for demo in finished] == [demo["ticket"] for demo in continued]


def test_saved_programs_are_loaded(desk):
    predict = dspex.Predict(desk.Triage)
    predict.load(DATA / "predict.json")
    assert [demo["team"] for demo in predict.demos] == ["billing", "bugs"]
    thinking = dspex.ChainOfThought("ticket -> team")
    thinking.load(DATA / "chain_of_thought.json")
    assert thinking.predict.demos[0]["reasoning"] == "It is about money."


@pytest.mark.parametrize(("name", "kind"), [("predict", dspex.Predict), ("chain_of_thought", dspex.ChainOfThought)])
def test_saved_programs_are_made_from_their_file_alone(name, kind):
    program = importlib.import_module("dspex_actors.programs.rebuild").rebuild(DATA / f"{name}.json")
    assert type(program) is kind
