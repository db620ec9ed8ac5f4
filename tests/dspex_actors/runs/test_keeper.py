"""The keeper of runs: what its end does to the runs that are under way."""

import asyncio

import pytest

from dspex_actors.journal.reader import JournalReader
from dspex_actors.journal.records import RunSpec
from dspex_actors.journal.writer import Journal
from dspex_actors.runs import notes
from dspex_actors.runs.keeper.actor import Runs
from supervisors import ExitReason


@pytest.mark.parametrize(
    ("kind", "state"), [("error", "running"), ("shutdown", "paused"), ("normal", "paused"), ("killed", "paused")]
)
def test_runs_are_paused_when_the_node_is_stopped_and_not_when_their_keeper_crashes(tmp_path, kind, state):
    keeper = Runs.__new__(Runs)
    keeper._journal = Journal(tmp_path / "journal.db")
    keeper._journal.create_run(RunSpec(run_id="r"))
    keeper.terminate(ExitReason(kind, None))
    assert JournalReader(tmp_path / "journal.db").get_run("r").state == state


def test_what_is_noted_beside_the_journal_goes_with_its_run(tmp_path, monkeypatch):
    """And a run that was resumed while its end was waited for stays."""
    keeper = Runs.__new__(Runs)
    keeper._journal, keeper._notes = Journal(tmp_path / "journal.db"), {}
    for run_id in ("r", "s"):
        keeper._journal.create_run(RunSpec(run_id=run_id), state="paused")
        notes.Notes(tmp_path, run_id, 1, 1).write(0, 1, 1, 0.0, 1, "openai", "x")

    async def resumed(run_id):
        if run_id == "s":
            keeper._journal.set_state("s", "running")

    monkeypatch.setattr(keeper, "_clear_away", resumed)
    assert asyncio.run(keeper._reply_to(("delete", "r"))) == ("ok", None)
    assert "resumed meanwhile" in asyncio.run(keeper._reply_to(("delete", "s")))[1]["message"]
    assert [keeper._journal.get_run(run_id) is None for run_id in ("r", "s")] == [True, False]
    assert [notes.folder_of(tmp_path, run_id).exists() for run_id in ("r", "s")] == [False, True]
