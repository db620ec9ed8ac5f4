"""The keeper's part in workflows: who may open one that is written down as somebody's."""

import contextlib
import subprocess
from dataclasses import asdict

import pytest

from dspex_actors.errors import ConfigError
from dspex_actors.journal.reader import JournalReader
from dspex_actors.journal.records import RunSpec, StepRow
from dspex_actors.journal.sameness import OPTIMISE, WORKFLOW
from dspex_actors.journal.writer import Journal
from dspex_actors.runs.keeper import workflows
from dspex_actors.runs.keeper.workflows import NODES, pause_forsaken, this_process
from supervisors.host import processes

SPEC = asdict(RunSpec(run_id="w", kind=WORKFLOW))


def answer(journal, request, dropped=None):
    return workflows.answer(journal, request, [].append if dropped is None else dropped.append)


def test_a_process_opens_again_what_it_carries_out_no_more(tmp_path):
    """Its node was away when it gave the run up: nobody heard of the end."""
    with Journal(tmp_path / "journal.db") as journal:
        assert answer(journal, ("open", SPEC, this_process(), True)) == 1
        with pytest.raises(ConfigError, match="is being carried out by process"):
            answer(journal, ("open", SPEC, this_process(), False))
        assert answer(journal, ("open", SPEC, this_process(), True)) == 2
        with pytest.raises(ConfigError, match="is being carried out by process"):
            answer(journal, ("open", SPEC, this_process() | {"born": 1}, True))


def test_a_workflow_of_another_program_that_lives_is_its_own(tmp_path):
    with Journal(tmp_path / "journal.db") as journal, subprocess.Popen(["cat"], stdin=subprocess.PIPE) as other:
        theirs = {"pid": other.pid, "born": processes.born(other.pid)}
        assert answer(journal, ("open", SPEC, theirs, True)) == 1
        with pytest.raises(ConfigError, match=f"is being carried out by process {other.pid}: wait for its end"):
            answer(journal, ("open", SPEC, this_process(), True))
        other.kill()
        other.wait()
        assert answer(journal, ("open", SPEC, this_process(), True)) == 2


def test_an_optimisation_that_another_server_of_the_node_goes_on_with_is_not_forsaken_before_that_is_there(tmp_path):
    """The keeper was away for longer than its server waits, and looks whose servers live as soon as it is back."""
    spec = asdict(RunSpec(run_id="o", kind=OPTIMISE))
    with Journal(tmp_path / "journal.db") as journal:
        answer(journal, ("enlist", spec, False))
        epoch = answer(journal, ("reopen", "o", this_process() | {NODES: True}))
        assert pause_forsaken(journal)
        answer(journal, ("end", "o", epoch, "running", None))
        assert pause_forsaken(journal)
        assert journal.get_run("o").state == "running"
        assert answer(journal, ("reopen", "o", this_process() | {NODES: True})) == epoch + 1
        answer(journal, ("end", "o", epoch + 1, "finished", None))
        assert not pause_forsaken(journal)
        assert journal.get_run("o").state == "finished"


@pytest.mark.parametrize("written", range(4))
def test_an_end_that_is_half_written_down_when_the_keeper_is_killed_pauses_nothing(tmp_path, monkeypatch, written):
    with Journal(tmp_path / "journal.db") as journal:
        epoch = answer(journal, ("open", SPEC, this_process(), True))
        made, transaction = [], journal.transaction

        def killed():
            made.append(None)
            if len(made) > written:
                raise KeyboardInterrupt
            return transaction()

        with monkeypatch.context() as patched, contextlib.suppress(KeyboardInterrupt):
            patched.setattr(journal, "transaction", killed)
            answer(journal, ("end", "w", epoch, "finished", None))
        pause_forsaken(journal)
        assert journal.get_run("w").state in ("running", "finished")


def test_an_optimisation_that_is_forced_under_an_id_has_no_candidates_of_the_one_before(tmp_path):
    def spec(digest):
        return asdict(RunSpec(run_id="o", kind=OPTIMISE, program_digest=digest))

    path = tmp_path / "journal.db"
    with Journal(path) as journal:
        epoch = answer(journal, ("open", spec("a"), this_process(), True, False))
        for before, after, way in (("a", "b", "enlist"), ("b", "c", "open")):
            answer(journal, ("step", "o", epoch, tuple(StepRow("c1", "candidate", 1, 0.0, 1.0, None, b"old"))))
            with pytest.raises(ConfigError, match="o is there already with another program"):
                answer(journal, ("enlist", spec(after), True))  # one that is under way is no other
            answer(journal, ("end", "o", epoch, "paused", "lunch"))
            answer(journal, ("enlist", spec(before), False))
            assert [row.step for row in JournalReader(path).steps("o")] == ["c1"]
            if way == "enlist":
                answer(journal, ("enlist", spec(after), True))
            epoch = answer(journal, ("open", spec(after), this_process(), True, way == "open"))
            assert (JournalReader(path).steps("o"), journal.get_run("o").done) == ([], 0)


def test_what_an_optimisation_has_spooled_goes_when_it_is_finished_and_not_before(tmp_path):
    spec, dropped = asdict(RunSpec(run_id="o", kind=OPTIMISE)), []
    with Journal(tmp_path / "journal.db") as journal:
        for state in ("paused", "failed", "finished"):
            epoch = answer(journal, ("open", spec, this_process(), True), dropped)
            assert dropped == []
            answer(journal, ("end", "o", epoch, state, None), dropped)
        assert [row.run_id for row in dropped] == ["o"]
        epoch = answer(journal, ("open", SPEC, this_process(), True), dropped)
        answer(journal, ("end", "w", epoch, "finished", None), dropped)
        assert len(dropped) == 1
