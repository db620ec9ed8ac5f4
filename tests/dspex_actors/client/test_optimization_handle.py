"""Who follows an optimisation reads what is new, and neither programs that it has nor all the examples."""

import time
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest

import dspex_actors as dspex
from dspex_actors.client import elsewhere, looking, optimisations
from dspex_actors.client.optimisations import OptimizationHandle, status_at
from dspex_actors.journal.errors import JournalError
from dspex_actors.journal.reader import JournalReader
from dspex_actors.journal.records import RunSpec, StepRow
from dspex_actors.journal.sameness import OPTIMISE
from dspex_actors.journal.steps import add_step, end_workflow, open_workflow
from dspex_actors.journal.writer import Journal
from dspex_actors.runs.keeper.workflows import FORCED_AT
from dspex_actors.runs.keeper.workflows import answer as keep
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

    def steps(self, run_id, after=0, most=None):
        found = super().steps(run_id, after, most)
        self.largest = max(len(row.data) for row in found) if found else 0
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

    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=lambda seconds: None, time=lambda: 0.0)
    monkeypatch.setattr(optimisations, "time", clock)
    monkeypatch.setattr(elsewhere, "time", clock)
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


def test_a_journal_that_refuses_for_good_ends_the_waiting_with_why_while_the_node_lives(journal, monkeypatch):
    opened(journal)
    now, refused = [0.0], JournalError("the journal at pg lets this user not in")

    def standing(run_id):
        now[0] += 10.0
        raise refused

    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=lambda seconds: None)
    for module in (optimisations, elsewhere, looking):
        monkeypatch.setattr(module, "time", clock)
    there = SimpleNamespace(standing=standing)
    handle = OptimizationHandle(SimpleNamespace(journal=there, _ask=lambda what, timeout: None), "o")
    words = r"lets this user not in; so it has been for 130 seconds, and nobody can tell how o is\."
    with pytest.raises(JournalError, match=words):
        handle.wait()

    def progress(*request, timeout):
        now[0] += 10.0
        raise refused

    with pytest.raises(JournalError, match="nobody can tell how r is"):
        looking.look("r", progress, journal.path.parent, journal)


def test_a_list_reads_no_programs(journal):
    reader, epoch = Counting(journal.path), opened(journal)
    program = dspex.Predict("question -> answer")
    program.demos = [dspex.Example(question="long " * 5000, answer="b")]
    data = pack_found("large", 60.0, True, program, "large")
    add_step(journal, "o", epoch, StepRow("large", CANDIDATE, 1, 0.0, 1.0, None, data))
    tell(journal, epoch, "small", 50.0)
    status = status_at(reader, reader.get_run("o", code=False))
    assert (status.best, status.best_score, status.candidates) == ("large", 60.0, 2)
    assert reader.largest < len(data) / 2


def test_force_holds_for_what_was_there_and_a_later_resume_does_not_inherit_it(journal):
    def enlist(spec, *, force=False):
        assert keep(journal, ("enlist", asdict(spec), force), lambda row: None) == "paused"
        return journal.get_run("o").spec.settings.get(FORCED_AT)

    assert enlist(SPEC) is None
    before = time.time()
    forced = enlist(replace(SPEC, program_digest="q"), force=True)
    assert before <= forced <= time.time()
    assert enlist(replace(SPEC, program_digest="q")) == forced
    with pytest.raises(dspex.ConfigError, match="another program"):
        enlist(SPEC)
