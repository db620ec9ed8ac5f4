"""The runs under leases that a node coordinates, without nodes: what its evaluators are told."""

import asyncio
from types import SimpleNamespace

import pytest

from dspex_actors.journal.copies import Leased
from dspex_actors.journal.errors import JournalError, JournalFull
from dspex_actors.journal.records import RunSpec
from dspex_actors.journal.writer import Journal
from dspex_actors.runs.messages import NO_ROWS, Add
from dspex_actors.runs.standby import looking as module
from dspex_actors.runs.standby.coordination import Coordination
from dspex_actors.runs.standby.leading import Leading
from supervisors.cluster.leases.messages import Read


class Counted(Coordination):
    """All that was written counts."""

    def __init__(self, *, held):
        self.run_id, self.holding, self.counts = "r", SimpleNamespace(held=held), 0

    async def counted(self, run_id):
        self.counts += 1


@pytest.mark.parametrize("held", [True, False])
def test_an_evaluator_that_stood_still_is_not_told_that_its_run_is_its_own_by_a_node_that_did_too(tmp_path, held):
    """The node's journal knows nothing of who has claimed the run elsewhere meanwhile; its lease tells."""
    journal = SimpleNamespace(is_far=False, owner="me")
    leading = Leading(SimpleNamespace(node={"data_dir": tmp_path}), journal, None, None)
    run = leading._runs["r"] = Counted(held=held)
    asked, written = (leading.settled(Add("r", 7, 1, 3, rows)) for rows in (NO_ROWS, b"rows"))
    asyncio.run(written)  # what was asked for before is written down all the same: its copies refuse it if they have to
    if held:
        asyncio.run(asked)
    else:
        with pytest.raises(JournalError, match="its lease"):
            asyncio.run(asked)
    assert run.counts == 1 + held


def test_a_run_that_cannot_be_looked_at_keeps_none_of_the_others_waiting(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "leased_runs", lambda journal: [Leased(name, "evaluate", "b") for name in "rst"])
    looked, said = [], []

    async def look_at(run):
        looked.append(run.run_id)
        if run.run_id == "r":
            raise JournalFull("no space left")
        if run.run_id == "t":
            raise asyncio.CancelledError

    log = SimpleNamespace(info=lambda what, **about: said.append(about))
    keeper = SimpleNamespace(node={"data_dir": tmp_path}, log=log)
    leading = Leading(keeper, SimpleNamespace(is_far=False, owner="me"), None, None)
    leading._look_at = look_at
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(leading._keep_looking())
    assert looked == ["r", "s", "t"]
    assert said == [{"run": "r", "why": "no space left"}]


@pytest.mark.parametrize(("owner", "above"), [("another", 5), ("me", 4), ("", 5)])
def test_a_run_that_was_written_under_epochs_that_the_store_does_not_know_can_be_claimed(tmp_path, owner, above):
    """The store of leases was lost, or is another cluster's: its first epochs were refused for ever."""
    asked = []

    async def acquire(name, wait, above):
        asked.append((name, above))
        return SimpleNamespace(name=name, epoch=above + 1, held=True)

    async def call(to, request, timeout):  # noqa: ASYNC109 - as GenServer has it
        return (["me"], 1) if isinstance(request, Read) else 2

    async def main():
        leading = Leading(keeper, journal, None, None)
        leading._leases = SimpleNamespace(acquire=acquire)
        run, row = await leading._claim("r", 0.0)
        assert (row.claimed, row.owner, run.sync.me) == (above + 1, "me", "me")

    keeper = SimpleNamespace(node={"data_dir": tmp_path}, call=call, spawn=lambda work: work.close())
    with Journal(tmp_path / "journal.db", owner="me") as journal:
        journal.create_run(RunSpec(run_id="r"))
        with journal.transaction() as db:
            db.execute("UPDATE runs SET claimed = 5, owner = ?", (owner,))
        asyncio.run(main())
    assert asked == [("run:r", above)]
