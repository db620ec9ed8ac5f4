"""The keeper of runs: what its end does to the runs that are under way."""

import asyncio
import time
from dataclasses import asdict
from types import SimpleNamespace

import pytest

from dspex_actors.journal.reader import JournalReader
from dspex_actors.journal.records import RunSpec
from dspex_actors.journal.sameness import OPTIMISE
from dspex_actors.journal.schema import attempt_values
from dspex_actors.journal.spend import TOLD_SECONDS, Sums
from dspex_actors.journal.writer import Journal
from dspex_actors.lm.attempts import Attempt
from dspex_actors.names import run_name
from dspex_actors.runs import notes
from dspex_actors.runs.keeper.actor import Runs
from dspex_actors.runs.keeper.evaluators import Evaluators
from dspex_actors.runs.keeper.waiting import Waiting
from dspex_actors.runs.messages import Paid
from dspex_actors.runs.standby.leading import Leading
from supervisors import ExitReason, Ref


def keeper_of(folder):
    """Return a keeper that has its journal, and is no process."""
    keeper = Runs.__new__(Runs)
    keeper._journal, keeper._notes = Journal(folder / "journal.db"), {}
    keeper._leading = Leading(SimpleNamespace(node={"data_dir": folder}), keeper._journal, None, None)
    keeper._waiting = Waiting(keeper, keeper._is_under_way)
    return keeper


@pytest.mark.parametrize(
    ("kind", "state"), [("error", "running"), ("shutdown", "paused"), ("normal", "paused"), ("killed", "paused")]
)
def test_runs_are_paused_when_the_node_is_stopped_and_not_when_their_keeper_crashes(tmp_path, kind, state):
    keeper = keeper_of(tmp_path)
    keeper._journal.create_run(RunSpec(run_id="r"))
    asyncio.run(keeper.terminate(ExitReason(kind, None)))
    assert JournalReader(tmp_path / "journal.db").get_run("r").state == state


@pytest.fixture
def left(tmp_path):
    """A keeper of node b, whose journal has a run that node a has left; nothing goes on really."""

    async def alone():
        return False

    async def go_on(row):
        return row.state

    keeper = keeper_of(tmp_path)
    keeper._leading.look, keeper._go_on = alone, go_on
    keeper._journal.owner = "b"
    keeper._journal.create_run(RunSpec(run_id="r", program_digest="p", settings={"budget": 1.0}), state="paused")
    keeper._journal.claim("r", 3, "a")
    return keeper


def asked(keeper, *request):
    return asyncio.run(keeper._reply_to(request))


def test_a_run_that_another_node_has_left_goes_on_with_another_budget(left):
    """It was refused for the budget, which was written down before the run was this node's."""
    assert asked(left, "resume", "r", False, 5.0) == ("ok", "paused")
    row = left._journal.get_run("r")
    assert (row.owner, row.claimed, row.spec.settings["budget"]) == ("b", 4, 5.0)


def test_a_budget_that_is_used_up_is_refused_before_a_run_is_taken(left):
    with left._journal.transaction() as db:
        db.execute("UPDATE runs SET cost = 7.0")
    kind, error = asked(left, "resume", "r", False, 5.0)
    assert (kind, left._journal.get_run("r").owner) == ("error", "a")
    assert "has cost $7.0000 already" in error["message"]


def test_a_run_that_another_node_has_left_is_continued_under_its_id(left):
    other = asdict(RunSpec(run_id="r", program_digest="q"))
    kind, error = asked(left, "create", other, False)
    assert (kind, left._journal.get_run("r").owner) == ("error", "a")
    assert "with another program" in error["message"]
    again = asdict(RunSpec(run_id="r", program_digest="p", settings={"max_in_flight": 3}))
    assert asked(left, "create", again, False) == ("ok", "paused")
    row = left._journal.get_run("r")
    assert (row.owner, row.spec.settings) == ("b", {"max_in_flight": 3})


def test_what_is_noted_beside_the_journal_goes_with_its_run(tmp_path):
    """And a run that was resumed while its end was waited for stays."""
    keeper = keeper_of(tmp_path)
    dropped = []
    keeper._datasets = SimpleNamespace(drop=dropped.append)
    for run_id in ("r", "s"):
        keeper._journal.create_run(RunSpec(run_id=run_id), state="paused")
        notes.Notes(tmp_path, run_id, 1, 1).write(0, 1, 1, 0.0, 1, "openai", "x")

    async def resumed(run_id):
        if run_id == "s":
            keeper._journal.set_state("s", "running")

    keeper._evaluators = SimpleNamespace(clear_away=resumed)
    assert asyncio.run(keeper._reply_to(("delete", "r"))) == ("ok", None)
    assert "resumed meanwhile" in asyncio.run(keeper._reply_to(("delete", "s")))[1]["message"]
    assert [keeper._journal.get_run(run_id) is None for run_id in ("r", "s")] == [True, False]
    assert [notes.folder_of(tmp_path, run_id).exists() for run_id in ("r", "s")] == [False, True]
    assert [row.run_id for row in dropped] == ["r"]


def sums(cost):
    found = Sums()
    found.add("", [attempt_values(Attempt(0, 0, 1, 7.0, "openai", "x", "answered", cost=cost))])
    return found.take()


def test_a_keeper_that_is_killed_between_the_disk_and_its_answer_books_nothing_twice(tmp_path, monkeypatch):
    """The worker has not heard of it, and tells its successor again."""
    first, second = (Ref("127.0.0.1", 1, 5, 1, uid) for uid in ("first", "second"))

    def told(*messages):
        keeper = keeper_of(tmp_path)  # each time another one
        for message in messages:
            assert asyncio.run(keeper._reply_to(message)) == ("ok", None)
        keeper._journal.close()
        return sum(row.cost for row in JournalReader(tmp_path / "journal.db").spent(0, ()))

    assert told(Paid(first, 1, sums(1.0))) == 1.0
    assert told(Paid(first, 1, sums(1.0)), Paid(first, 2, sums(1.0))) == 2.0
    assert told(Paid(first, 2, sums(1.0)), Paid(second, 1, sums(1.0)), Paid(first, 3, sums(1.0))) == 4.0
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now + TOLD_SECONDS + 1)
    assert told(Paid(Ref("127.0.0.1", 1, 5, 1, "third"), 1, sums(1.0))) == 5.0
    with Journal(tmp_path / "journal.db") as journal, journal.reading() as db:
        assert [row[0] for row in db.execute("SELECT worker FROM told")] == ["third"]


@pytest.mark.parametrize(
    ("request_", "state", "of_parts"),
    [
        (("pause", "o", "lunch"), "paused", "paused"),
        (("cancel", "o", "enough"), "cancelled", "cancelled"),
        (("workflow", "give up", "o", "its server died 9 times"), "failed", "paused"),
    ],
)
def test_all_runs_of_an_optimisation_are_halted_before_the_first_evaluator_is_waited_for(
    tmp_path, request_, state, of_parts
):
    """Else some went on, and were paid for, while others ended, and for good if the keeper was killed meanwhile."""
    keeper, ending, together = keeper_of(tmp_path), [], asyncio.Event()
    keeper._journal.create_run(RunSpec(run_id="o", kind=OPTIMISE))
    for part in ("o.0", "o.1", "o.2"):
        keeper._journal.create_run(RunSpec(run_id=part, parent_id="o"))
    keeper._journal.set_state("o.2", "finished")

    async def terminate_child(supervisor, name):
        ending.append((name, [keeper._journal.get_run(f"o.{number}").state for number in range(3)]))
        if len(ending) == 3:
            together.set()
        await asyncio.wait_for(together.wait(), 10)

    keeper.terminate_child = terminate_child
    keeper._evaluators = Evaluators(keeper, keeper._journal, 1, keeper._leading.has, keeper._halt)
    kind, summary = asyncio.run(keeper._reply_to(request_))
    assert (kind, summary["state"]) == ("ok", state)
    assert [name for name, _ in ending] == [run_name(run_id) for run_id in ("o", "o.0", "o.1")]
    assert all(states == [of_parts, of_parts, "finished"] for _, states in ending)
