"""Who follows an optimisation reads what is new, and neither programs that it has nor all the examples."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

import dspex_actors as dspex
from dspex_actors.client import optimisations
from dspex_actors.client.optimisations import OptimizationHandle
from dspex_actors.journal.errors import JournalError
from dspex_actors.journal.reader import JournalReader
from dspex_actors.journal.records import RunSpec, StepRow
from dspex_actors.journal.sameness import OPTIMISE
from dspex_actors.journal.steps import add_step, end_workflow, open_workflow
from dspex_actors.journal.writer import Journal
from dspex_actors.runs.optimisations import CANDIDATE, pack_found
from supervisors.errors import CallTimeout

HOLDER = {"pid": 1, "born": 1}
SPEC = RunSpec(
    run_id="o", kind=OPTIMISE, program=b"code", program_digest="p", dataset={"kind": "trainset"}, dataset_digest="d",
    settings={"optimizer": "COPRO", "program": "Predict"},
)  # fmt: skip


class Counting(JournalReader):
    """A reader that tells which steps were read, and whether code was."""

    def __init__(self, path):
        super().__init__(path)
        self.read, self.code = [], []

    def steps(self, run_id, after=0):
        found = super().steps(run_id, after)
        self.read += [row.step for row in found]
        return found

    def get_run(self, run_id, *, code=True):
        self.code.append(code)
        return super().get_run(run_id, code=code)


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path / "journal.db") as one:
        yield one


def tell(journal, epoch, name, score):
    program = dspex.Predict("question -> answer")
    data = pack_found(name, score, True, program, name)
    add_step(journal, "o", epoch, StepRow(name, CANDIDATE, 1, 0.0, 1.0, None, data))


def opened(journal, spec=SPEC):
    return open_workflow(journal, spec, HOLDER, lambda holder: False).epoch


def test_a_handle_reads_each_candidate_once_and_never_the_code(journal):
    reader = Counting(journal.path)
    handle = OptimizationHandle(SimpleNamespace(journal=reader), "o")
    epoch = opened(journal)
    tell(journal, epoch, "a", 50.0)
    assert (handle.status().best, handle.status().candidates) == ("a", 1)
    tell(journal, epoch, "b", 75.0)
    assert (handle.status().best, handle.status().candidates) == ("b", 2)
    assert [one.name for one in handle.candidates()] == ["a", "b"]
    assert isinstance(handle.best(), dspex.Predict)
    assert reader.read == ["a", "b"]
    assert not any(reader.code)


def test_another_optimisation_of_the_same_id_is_read_from_its_start(journal):
    handle = OptimizationHandle(SimpleNamespace(journal=Counting(journal.path)), "o")
    epoch = opened(journal)
    tell(journal, epoch, "a", 50.0)
    assert [one.name for one in handle.candidates()] == ["a"]
    end_workflow(journal, "o", epoch, "failed", "it is over")
    assert journal.delete_run("o")
    tell(journal, opened(journal, replace(SPEC, program_digest="q")), "c", 25.0)
    assert [one.name for one in handle.candidates()] == ["c"]


@pytest.mark.parametrize(("slow", "waits"), [(3, True), (9, False)])
def test_who_waits_goes_on_waiting_for_a_node_that_is_only_slow(journal, monkeypatch, slow, waits):
    epoch, now, asked = opened(journal), [0.0], []

    def ask(what, timeout):
        asked.append(what)
        if len(asked) <= slow:
            now[0] += timeout
            raise CallTimeout("runs")
        end_workflow(journal, "o", epoch, "failed", "it is over")

    monkeypatch.setattr(
        optimisations, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=lambda seconds: None, time=lambda: 0.0)
    )
    there = SimpleNamespace(journal=JournalReader(journal.path), _ask=ask, data_dir=journal.path.parent)
    handle = OptimizationHandle(there, "o")
    with pytest.raises(dspex.RunFailed if waits else dspex.RunInterrupted, match="over" if waits else "went away"):
        handle.wait()


def test_who_waits_waits_for_a_journal_that_is_away_for_a_moment(journal):
    epoch, reader, away = opened(journal), JournalReader(journal.path), [JournalError("away"), JournalError("away")]

    def standing(run_id):
        if away:
            raise away.pop()
        end_workflow(journal, "o", epoch, "failed", "it is over")
        return reader.standing(run_id)

    there = SimpleNamespace(standing=standing, get_run=reader.get_run, steps=reader.steps)
    handle = OptimizationHandle(SimpleNamespace(journal=there, _ask=lambda what, timeout: None), "o")
    with pytest.raises(dspex.RunFailed, match="it is over"):
        handle.wait()
