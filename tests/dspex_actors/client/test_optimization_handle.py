"""Who follows an optimisation reads what is new, and neither programs that it has nor all the examples."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

import dspex_actors as dspex
from dspex_actors.client.optimisations import OptimizationHandle
from dspex_actors.journal.reader import JournalReader
from dspex_actors.journal.records import RunSpec, StepRow
from dspex_actors.journal.sameness import OPTIMISE
from dspex_actors.journal.steps import add_step, end_workflow, open_workflow
from dspex_actors.journal.writer import Journal
from dspex_actors.runs.optimisations import CANDIDATE, pack_found

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
