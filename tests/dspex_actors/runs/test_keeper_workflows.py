"""The keeper's part in workflows: who may open one that is written down as somebody's."""

import contextlib
import subprocess
from dataclasses import asdict, replace

import pytest

from dspex_actors.errors import ConfigError
from dspex_actors.journal import steps
from dspex_actors.journal.errors import Fenced
from dspex_actors.journal.reader import JournalReader
from dspex_actors.journal.records import RunSpec, StepRow
from dspex_actors.journal.sameness import IN_NODE, OPTIMISE, WORKFLOW
from dspex_actors.journal.writer import Journal
from dspex_actors.runs.keeper import workflows
from dspex_actors.runs.keeper.workflows import NODES, check_part, pause_forsaken, this_process
from supervisors.host import processes

STEP = tuple(StepRow("c1", "candidate", 1, 0.0, 1.0, None, b"new"))
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


def test_what_goes_on_at_another_node_of_one_journal_is_neither_judged_by_a_number_of_its_process_nor_taken(tmp_path):
    """A process of another host may have ended here, or have the number of one that lives here."""
    spec = asdict(RunSpec(run_id="o", kind=OPTIMISE, settings={IN_NODE: True}))
    path, ended = tmp_path / "journal.db", {"pid": 1 << 30, "born": 1, NODES: True}
    with Journal(path, owner="a") as first, Journal(path, owner="b") as second:
        answer(first, ("enlist", spec, False))
        epoch = answer(first, ("reopen", "o", ended))
        pause_forsaken(second)
        assert first.get_run("o").state == "running"
        for request in (("reopen", "o", ended), ("open", spec, ended, True), ("limits", "o", {})):
            with pytest.raises(ConfigError, match="run o is under way on another node that has this journal"):
                answer(second, request)
        with pytest.raises(Fenced):
            workflows.halt(second, second.get_run("o"), "failed", "cannot be opened")
        answer(first, ("step", "o", epoch, STEP))

        # It is claimed: nothing that the first one writes counts from then on, and it can be opened at once.
        second.take_over(second.get_run("o"), force=True)
        for request in (("step", "o", epoch, STEP), ("end", "o", epoch, "finished", None)):
            with pytest.raises(ConfigError, match="run o was taken over by another process"):
                answer(first, request)
        with pytest.raises(ConfigError, match="under way on another node"):
            answer(first, ("reopen", "o", this_process()))
        again = answer(second, ("reopen", "o", this_process() | {NODES: True}))
        assert (second.get_run("o").owner, again) == ("b", epoch + 1)

        # One that its node has left goes on where it is asked for.
        answer(second, ("end", "o", again, "paused", "lunch"))
        answer(first, ("limits", "o", {"budget": 2.0}))
        assert answer(first, ("reopen", "o", this_process())) == again + 1
        assert first.get_run("o").owner == "a"


def test_the_runs_of_an_optimisation_are_where_that_is(tmp_path):
    optimisation = asdict(RunSpec(run_id="o", kind=OPTIMISE, settings={IN_NODE: True}))
    part = RunSpec(run_id="o.1", kind="evaluate", parent_id="o")
    path = tmp_path / "journal.db"
    with Journal(path, owner="a") as first, Journal(path, owner="b") as second:
        first.is_far = second.is_far = True
        answer(first, ("enlist", optimisation, False))
        answer(first, ("reopen", "o", this_process()))
        first.create_run(part)
        second.take_over(second.get_run("o"), force=True)
        with pytest.raises(ConfigError, match="optimisation o goes on at another node: nothing is started for it here"):
            check_part(first, asdict(part))
        answer(second, ("reopen", "o", this_process()))
        row = second.get_run("o.1")
        assert (row.owner, row.state) == ("b", "paused")  # it begins when the optimisation asks for it
        # What the first one has begun between its last look and the claim.
        first.create_run(replace(part, run_id="o.2"))
        check_part(second, asdict(part) | {"run_id": "o.2"})
        assert second.get_run("o.2").owner == "b"


def test_what_another_node_has_claimed_at_the_same_moment_is_changed_by_it_alone(tmp_path, monkeypatch):
    """Whether a run is this node's is asked before: in between another one that has the journal too may claim it."""
    optimisation = RunSpec(run_id="o", kind=OPTIMISE, settings={IN_NODE: True})
    path = tmp_path / "journal.db"
    with Journal(path, owner="a") as first, Journal(path, owner="b") as second:
        first.create_run(optimisation, state="paused")
        epoch = answer(first, ("reopen", "o", this_process()))
        answer(first, ("step", "o", epoch, STEP))
        second.take_over(second.get_run("o"), force=True)
        there, steps_there = second.get_run("o"), JournalReader(path).steps("o")
        monkeypatch.setattr(steps, "own", lambda journal, run_id: None)
        for change in (
            lambda: steps.set_limits(first, "o", {"budget": 9.0}),
            lambda: steps.begin_anew(first, "o"),
        ):
            with pytest.raises(Fenced):
                change()
        assert (second.get_run("o"), JournalReader(path).steps("o")) == (there, steps_there)

        def claimed_meanwhile(run_id, state, reason=None):
            return second.take_over(second.get_run(run_id), force=True)

        second.set_state("o", "paused")
        first.take_over(first.get_run("o"), force=False)
        monkeypatch.setattr(first, "set_state", claimed_meanwhile)
        with pytest.raises(Fenced):
            steps.reopen(first, "o", {"pid": 1, "born": 1}, lambda holder: False)
        with second.reading() as db:
            (holder,) = db.execute("SELECT holder FROM runs WHERE run_id = 'o'").fetchone()
        assert '"pid":1,' not in holder.replace(" ", "")


def test_of_the_forsaken_ones_another_node_claims_some_and_the_keeper_goes_on(tmp_path, monkeypatch):
    path, ended = tmp_path / "journal.db", {"pid": 1 << 30, "born": 1}
    with Journal(path, owner="a") as first, Journal(path, owner="b") as second:
        for run_id in ("w1", "w2"):
            answer(first, ("open", SPEC | {"run_id": run_id}, ended, True))
        set_state = first.set_state

        def late(run_id, *rest):
            if second.get_run("w1").owner == "a":
                second.take_over(second.get_run("w1"), force=True)
            return set_state(run_id, *rest)

        monkeypatch.setattr(first, "set_state", late)
        assert not pause_forsaken(first)
        assert [first.get_run(run_id).state for run_id in ("w1", "w2")] == ["running", "paused"]
