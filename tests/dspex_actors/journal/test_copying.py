"""Runs into another journal: all of it, once, whatever is broken off."""

import json
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
import warm
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from property_kit import examples

from dspex_actors.cli.main import dspex
from dspex_actors.errors import ConfigError
from dspex_actors.journal import copying
from dspex_actors.journal.copying import Copied, content_of, copy_run, source_at, target_at
from dspex_actors.journal.reader import JournalReader
from dspex_actors.journal.records import ResultRow, RunSpec, StepRow
from dspex_actors.journal.steps import add_step, end_workflow, open_workflow
from dspex_actors.journal.writer import Journal
from dspex_actors.lm.attempts import Attempt


def result(index, **fields):
    return ResultRow(**{"index": index, "score": 0.1 * index, "example": b"\0e", "worker": "n/w", "at": 0.1} | fields)


def attempt(index, **fields):
    usual = {"send": 1, "n": 1, "at": 9.1, "provider": "openai", "model": "x", "outcome": "answered", "cost": 0.1}
    return Attempt(index, **(usual | fields))


def fill(path, count=1200, state="finished"):
    with Journal(path) as journal:
        journal.create_run(RunSpec(run_id="r", program=b"\0p", program_digest="p", labels={"a": "b"}, total=count))
        journal.next_epoch("r")
        journal.add_results("r", map(result, range(count)), map(attempt, range(count)))
        journal.add_results("r", [result(count, error={"type": "T"}, cached="disk", extra=b"\1")], [attempt(0, n=2)])
        journal.set_state("r", state, "why \0")
    return source_at(str(path))


def copy(source, target):
    with target_at(str(target)) as other:
        return [copy_run(source, other, row) for row in source.list_runs()]


def same(source, target, run_id="r"):
    return content_of(source, run_id) == content_of(source_at(str(target)), run_id)


def test_a_copy_belongs_to_nobody_and_was_claimed_by_nobody(tmp_path):
    """Epochs of its cluster were above those of the one that it went to: it could not be gone on with there."""
    source = fill(tmp_path / "a.db", 3)
    with Journal(tmp_path / "a.db", owner="u") as journal:
        journal.claim("r", 7, "u")
    copy(source, tmp_path / "b.db")
    row = JournalReader(tmp_path / "b.db").get_run("r")
    assert (row.owner, row.claimed) == ("", 0)
    with Journal(tmp_path / "b.db", owner="v") as journal:
        assert journal.claim("r", 1, "v").claimed == 1


def test_a_copy_has_all_of_the_run_and_a_second_one_does_nothing(tmp_path):
    source = fill(tmp_path / "one.db")
    assert copy(source, tmp_path / "two.db") == [Copied("r", "copied", 1201, 1201)]
    assert copy(source, tmp_path / "two.db") == [Copied("r", "there", 1201, 1201)]
    reader = JournalReader(tmp_path / "two.db")
    assert list(reader.iter_results("r")) == list(source.iter_results("r"))
    assert list(reader.iter_attempts("r")) == list(source.iter_attempts("r"))
    assert reader.get_run("r") == source.get_run("r")
    assert same(source, tmp_path / "two.db")
    assert reader.spent() == []  # it was paid once


def test_workflows_are_copied_with_their_steps(tmp_path):
    with Journal(tmp_path / "one.db") as journal:
        epoch = open_workflow(journal, RunSpec(run_id="w", kind="workflow"), {"pid": 1, "born": 1.0}, bool).epoch
        for name in ("b", "a"):
            add_step(journal, "w", epoch, StepRow(name, "completed", 1, 0.5, 3.0, None, b"\0"))
        end_workflow(journal, "w", epoch, "finished", None)
    source = source_at(str(tmp_path / "one.db"))
    assert copy(source, tmp_path / "two.db") == [Copied("w", "copied")]
    assert JournalReader(tmp_path / "two.db").steps("w") == source.steps("w")
    assert same(source, tmp_path / "two.db", "w")


def test_what_came_since_the_last_copy_is_copied(tmp_path):
    source = fill(tmp_path / "one.db", 600, "paused")
    with Journal(tmp_path / "one.db") as journal:
        journal.add_results("r", [], [attempt(9, send=2, outcome="lost", cost=None)])
    copy(source, tmp_path / "two.db")
    with Journal(tmp_path / "one.db") as journal:
        journal.add_results("r", [result(700)], [attempt(9, send=2), attempt(3, send=2)])
        journal.set_state("r", "finished")
    assert not same(source, tmp_path / "two.db")
    assert copy(source, tmp_path / "two.db") == [Copied("r", "copied", 602, 603)]
    assert same(source, tmp_path / "two.db")


def test_a_run_that_goes_on_or_is_another_one_is_not_touched(tmp_path):
    source = fill(tmp_path / "one.db", 5, "running")
    assert copy(source, tmp_path / "two.db") == [Copied("r", "running")]
    assert JournalReader(tmp_path / "two.db").list_runs() == []
    with Journal(tmp_path / "one.db") as journal:
        journal.set_state("r", "paused")
    copy(source, tmp_path / "two.db")
    with Journal(tmp_path / "two.db") as journal:
        journal.add_results("r", [result(99)])
        before = journal.get_run("r")
    with pytest.raises(ConfigError, match="has gone on there"):
        copy(source, tmp_path / "two.db")
    assert JournalReader(tmp_path / "two.db").get_run("r") == before
    with Journal(tmp_path / "three.db") as journal:
        journal.create_run(RunSpec(run_id="r", program_digest="another"))
    with pytest.raises(ConfigError, match="is another one"):
        copy(source, tmp_path / "three.db")


def test_a_run_that_changes_while_it_is_copied_is_not_taken_for_whole(tmp_path, monkeypatch):
    source = fill(tmp_path / "one.db", 5, "paused")

    def changed(*arguments):
        with Journal(tmp_path / "one.db") as journal:
            journal.set_state("r", "running")

    monkeypatch.setattr(copying, "_copy_attempts", changed)
    with pytest.raises(ConfigError, match="has gone on while it was copied"):
        copy(source, tmp_path / "two.db")
    row = JournalReader(tmp_path / "two.db").get_run("r")
    assert (row.state, row.reason.startswith("its copy is not finished")) == ("paused", True)


class Broken(Exception):
    pass


@settings(max_examples=examples(15), deadline=None)
@given(st.lists(st.integers(1, 6), max_size=4))
def test_a_copy_that_is_broken_off_anywhere_goes_on(tmp_path_factory, breaks):
    folder = tmp_path_factory.mktemp("j")
    source = fill(folder / "one.db", 1200)

    class Fragile(Journal):
        left = 0

        @contextmanager
        def transaction(self, **options):
            self.left -= 1
            with super().transaction(**options) as db:
                yield db
                if self.left == 0:
                    raise Broken

    done = False
    for count in breaks:
        with Fragile(folder / "two.db") as target:
            target.left = count
            try:
                copy_run(source, target, source.get_run("r"))
                done = True
            except Broken:
                assert done or not same(source, folder / "two.db")
    copy(source, folder / "two.db")
    assert same(source, folder / "two.db")
    Journal(folder / "two.db").close()


SCRIPT = """
import sys
from dspex_actors.journal import copying
copying.PAGE = 20
source = copying.source_at(sys.argv[1])
with copying.target_at(sys.argv[2]) as target:
    real, pages = target.transaction, 0
    def transaction(**options):
        global pages
        pages += 1
        print(pages, flush=True)
        return real(**options)
    target.transaction = transaction
    copying.copy_run(source, target, source.get_run("r"))
"""


def test_a_copy_that_is_killed_goes_on(tmp_path):
    source = fill(tmp_path / "one.db")
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "one.db"), str(tmp_path / "two.db")]
    with warm.Popen(command, stdout=subprocess.PIPE, text=True) as copier:
        for line in copier.stdout:
            if int(line) > 20:
                copier.send_signal(signal.SIGKILL)
                break
    before = JournalReader(tmp_path / "two.db").get_run("r")
    assert before.reason.startswith("its copy is not finished")
    assert copy(source, tmp_path / "two.db") == [Copied("r", "copied", 1201, 1201)]
    assert same(source, tmp_path / "two.db")


def test_the_commands(tmp_path):
    fill(tmp_path / "one.db", 5)
    one, two = str(tmp_path / "one.db"), str(tmp_path / "two.db")

    def said(*arguments, status=0):
        done = CliRunner().invoke(dspex, ["journal", *arguments])
        assert done.exit_code == status, done.output
        return json.loads(done.stdout) if "--json" in arguments else done.stdout

    assert said("copy", one, two, "--json") == [{"run_id": "r", "outcome": "copied", "results": 6, "attempts": 6}]
    assert "there" in said("copy", one, two)
    [row] = said("verify", one, two, "--json")
    assert (row["outcome"], row["source"], row["source"]["results"]) == ("same", row["target"], 6)
    with Journal(two) as journal, journal.transaction() as db:
        db.execute("UPDATE results SET score = 0.25 WHERE score = 0.2")
    assert "differs" in said("verify", one, two, status=1)
    with Journal(two) as journal:
        journal.delete_run("r")
    assert said("verify", one, two, "--json", status=1)[0]["outcome"] == "missing"


def test_what_is_no_journal_is_refused(tmp_path):
    for text in (str(tmp_path), str(tmp_path / "none.db"), ""):
        with pytest.raises(ConfigError, match=r"^journal is invalid: got .*expected"):
            source_at(text)
    with pytest.raises(ConfigError, match=r"~/\.pgpass"):
        source_at("postgresql://me:secret@h/db")
