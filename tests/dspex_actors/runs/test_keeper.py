"""The keeper of runs: what its end does to the runs that are under way."""

import pytest

from dspex_actors.journal.reader import JournalReader
from dspex_actors.journal.records import RunSpec
from dspex_actors.journal.writer import Journal
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
