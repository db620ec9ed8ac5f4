"""The runs under leases that a node coordinates, without nodes: what its evaluators are told, what it claims."""

import asyncio
from types import SimpleNamespace

import pytest

from dspex_actors.data.opening import open_dataset
from dspex_actors.errors import ConfigError
from dspex_actors.journal.copies import Leased
from dspex_actors.journal.errors import Fenced, JournalError, JournalFull
from dspex_actors.journal.records import RunSpec
from dspex_actors.journal.sameness import IN_NODE, OPTIMISE
from dspex_actors.journal.store import Batch
from dspex_actors.journal.writer import Journal
from dspex_actors.runs.messages import NO_ROWS, Add
from dspex_actors.runs.standby import claiming as claiming_module
from dspex_actors.runs.standby import looking as module
from dspex_actors.runs.standby.claiming import Claiming
from dspex_actors.runs.standby.coordination import Coordination, _Followed
from dspex_actors.runs.standby.leading import Leading
from dspex_actors.runs.standby.led import Led
from dspex_actors.runs.standby.looking import Looking
from dspex_actors.runs.standby.settling import IDLE_SECONDS, Settling
from supervisors.cluster.leases.messages import Delete, Read
from supervisors.errors import LeaseHeld, NoMajority, NoProcess


class Counted(Coordination):
    """All that was written counts."""

    def __init__(self, *, held=True, run_ids=("r",)):
        async def release():
            self.released = True

        self.run_id, self.counts, self.released = run_ids[0], 0, False
        self.holding = SimpleNamespace(held=held, name=f"run:{self.run_id}", release=release)
        self._followed = dict.fromkeys(run_ids)
        self.sync, self.is_fenced, self._senders, self._waiters = SimpleNamespace(all_counts=True), False, {}, []
        self._news_event = SimpleNamespace(set=lambda: None)

    async def counted(self, run_id):
        self.counts += 1


class Keeper:
    """The keeper of runs, as those who work for it see it; the store of leases has this node in each set."""

    def __init__(self, folder):
        self.node = {"data_dir": folder, "name": "me", "uid": "me", "incarnation": 1}
        self.ref, self.asked, self.said, self.cast_ = SimpleNamespace(uid="k"), [], [], []
        self.log = SimpleNamespace(info=self.say, warning=self.say)

    def say(self, what, **about):
        self.said.append(about)

    def spawn(self, work):
        work.close()

    def cast(self, to, message):
        self.cast_.append((to, message))

    async def call(self, to, request, timeout):  # noqa: ASYNC109 - as GenServer has it
        self.asked.append(request)
        return (["me"], 1) if isinstance(request, Read) else 2


@pytest.fixture
def keeper(tmp_path):
    return Keeper(tmp_path)


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path / "journal.db", owner="me") as one:
        one.create_run(RunSpec(run_id="r"))
        one.claim("r", 5, "me")
        yield one


@pytest.mark.parametrize("held", [True, False])
def test_an_evaluator_that_stood_still_is_not_told_that_its_run_is_its_own_by_a_node_that_did_too(keeper, held):
    """The node's journal knows nothing of who has claimed the run elsewhere meanwhile; its lease tells."""
    led, run = Led(), Counted(held=held)
    led.add(run)
    settling = Settling(keeper, SimpleNamespace(is_far=False, owner="me"), led)
    asked, written = (settling.settled(Add("r", 7, 1, 3, rows)) for rows in (NO_ROWS, b"rows"))
    asyncio.run(written)  # what was asked for before is written down all the same: its copies refuse it if they have to
    if held:
        asyncio.run(asked)
    else:
        with pytest.raises(JournalError, match="its lease"):
            asyncio.run(asked)
    assert run.counts == 1 + held


def test_a_keeper_that_has_just_come_back_writes_nothing_under_a_lease_before_it_knows_of_its_cluster(keeper, journal):
    """It would say that a result counts which is on its own disk alone."""
    leading, add = Leading(keeper, journal, None, None), Add("r", 5, 1, 1, b"rows")
    leading.guard(add)  # a node that was in a cluster, and is alone now, has claimed it for itself
    journal.owner = ""
    with pytest.raises(JournalError, match="waits for its lease"):
        leading.guard(add)
    journal.owner, journal.is_leased = "me", True
    with pytest.raises(JournalError, match="waits for its lease"):
        leading.guard(add)
    leading._led.add(Counted())
    leading.guard(add)
    leading._led.lose(leading._led.get("r"))
    with pytest.raises(Fenced):
        leading.guard(add)


def test_a_run_that_cannot_be_looked_at_keeps_none_of_the_others_waiting(keeper, monkeypatch):
    monkeypatch.setattr(module, "leased_runs", lambda journal: [Leased(name, "evaluate", "b") for name in "rst"])
    looked = []

    async def look_at(run):
        looked.append(run.run_id)
        if run.run_id == "r":
            raise JournalFull("no space left")
        if run.run_id == "t":
            raise asyncio.CancelledError

    looking = Looking(keeper, None, Led(), None, dict, None, None)
    looking._look_at = look_at
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(looking.keep_looking())
    assert looked == ["r", "s", "t"]
    assert keeper.said == [{"run": "r", "why": "no space left"}]


@pytest.mark.parametrize("error", [JournalFull("no space left"), NoProcess("the branch is just coming back")])
@pytest.mark.parametrize("paused", [False, True])
def test_a_run_that_was_claimed_goes_on_when_the_disk_has_space_again_unless_it_was_paused(
    keeper, journal, monkeypatch, paused, error
):
    """It is led here, so nobody looks for it any more: it stood still for good."""
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)
    led, tried = Led(), []
    led.add(Counted())

    async def go_on(row):
        tried.append(row.run_id)
        if paused:
            journal.set_state("r", "paused")
        if paused or len(tried) < 3:
            raise error

    asyncio.run(Looking(keeper, journal, led, None, dict, None, go_on)._have_go_on("r"))
    assert tried == ["r"] * (1 if paused else 3)


def test_where_a_run_is_not_gone_on_with_as_its_dataset_is_missing_whoever_follows_it_is_told_once(
    keeper, journal, tmp_path
):
    data, claimed = tmp_path / "data.jsonl", []
    data.write_text('{"q": "x"}\n')
    journal.create_run(RunSpec(run_id="d", dataset=open_dataset(data).descriptor))
    data.rename(tmp_path / "elsewhere.jsonl")

    async def claim(run_id, wait):
        claimed.append(run_id)
        raise LeaseHeld("b has it")

    looking = Looking(keeper, journal, Led(), Claiming(keeper, journal, Led(), dict, 2), dict, None, None)
    looking._claiming.claim = claim
    for _ in range(3):
        asyncio.run(looking._take("d", "a"))
    [(to, note)] = keeper.cast_
    assert (to, note.run_id, claimed) == (keeper.ref, "d", [])
    assert "nobody goes on with it: node me may, but has not its dataset: " in note.note["trouble"]
    assert "data.jsonl" in note.note["trouble"]
    (tmp_path / "elsewhere.jsonl").rename(data)
    asyncio.run(looking._take("d", "a"))
    assert claimed == ["d"]
    assert [note.note for _, note in keeper.cast_[1:]] == [{}]  # it is told no more


def test_what_was_said_of_a_run_that_nobody_goes_on_with_is_taken_back_when_somebody_does(keeper, journal):
    async def get(name):
        return SimpleNamespace(holder="a")

    looking = Looking(keeper, journal, Led(), Claiming(keeper, journal, Led(), dict, 2), dict, None, None)
    looking._claiming.leases, looking._said["r"] = SimpleNamespace(get=get), "its file is not here"
    for _ in range(2):
        asyncio.run(looking._look_at(Leased("r", "evaluate", "me")))
    assert [(note.run_id, note.note) for _, note in keeper.cast_] == [("r", {})]


@pytest.mark.parametrize(("owner", "above"), [("another", 5), ("me", 4), ("", 5)])
def test_a_run_that_was_written_under_epochs_that_the_store_does_not_know_can_be_claimed(keeper, journal, owner, above):
    """The store of leases was lost, or is another cluster's: its first epochs were refused for ever."""
    asked = []

    async def acquire(name, wait, above):
        asked.append((name, above))
        return SimpleNamespace(name=name, epoch=above + 1, held=True)

    async def main():
        claiming = Claiming(keeper, journal, Led(), dict, 2)
        claiming.leases = SimpleNamespace(acquire=acquire)
        run, row = await claiming.claim("r", 0.0)
        assert (row.claimed, row.owner, run.sync.me) == (above + 1, "me", "me")

    with journal.transaction() as db:
        db.execute("UPDATE runs SET owner = ?", (owner,))
    asyncio.run(main())
    assert asked == [("run:r", above)]


@pytest.mark.parametrize("last", [None, LeaseHeld("b has it")])
def test_a_lease_that_was_lost_is_asked_for_again_whatever_stands_in_the_way(keeper, journal, monkeypatch, last):
    """A full disk had the keeper of all runs fall, again and again."""
    monkeypatch.setattr(claiming_module, "AGAIN_SECONDS", 0.0)
    led, run, fails = Led(), Counted(), [JournalFull("no space left"), NoMajority("two are away"), last]
    led.add(run)
    claiming = Claiming(keeper, journal, led, dict, 2)

    async def claim(run_id, wait):
        if (error := fails.pop(0)) is not None:
            raise error

    claiming.claim = claim
    asyncio.run(claiming.claim_again("r"))
    assert (fails, led.is_lost("r"), run.is_fenced) == ([], last is not None, last is not None)


def test_what_does_not_go_on_is_let_go_of_after_a_while_so_that_another_node_may_have_it(keeper, journal):
    led, run = Led(), Counted()
    led.add(run)
    settling = Settling(keeper, journal, led)
    asyncio.run(settling.end_idle(0.0))
    journal.set_state("r", "paused")
    for now, released in ((100.0, False), (100.0 + IDLE_SECONDS, False), (100.1 + IDLE_SECONDS, True)):
        asyncio.run(settling.end_idle(now))
        assert (run.released, "r" in led) == (released, not released)
    assert not any(isinstance(one, Delete) for one in keeper.asked)  # who is in sync is still to be known


def test_what_has_ended_and_does_not_count_yet_is_let_go_of_when_it_does(keeper, journal):
    led, run = Led(), Counted()
    led.add(run)
    settling = Settling(keeper, journal, led)
    journal.set_state("r", "finished")
    run.note = lambda which: None
    run.sync.all_counts = False
    asyncio.run(settling.settled(("cancel", "r", "enough")))
    asyncio.run(settling.end_idle(0.0))
    assert not run.released
    run.sync.all_counts = True
    asyncio.run(settling.end_idle(0.0))
    assert run.released
    assert any(isinstance(one, Delete) for one in keeper.asked)


def test_what_ends_while_another_one_is_let_go_of_is_let_go_of_next(keeper, journal):
    journal.create_run(RunSpec(run_id="s"))
    led, first, second = Led(), Counted(), Counted(run_ids=("s",))
    settling = Settling(keeper, journal, led)
    led.add(second)  # looked at before the other one
    led.add(first)
    second.note, second.sync.all_counts = lambda which: None, False

    async def ends():
        journal.set_state("s", "cancelled")
        await settling.settled(("cancel", "s", "enough"))
        first.released = True

    async def main():
        journal.set_state("r", "paused")
        await settling.end_idle(0.0)
        first.holding.release = ends
        await settling.end_idle(0.1 + IDLE_SECONDS)
        second.sync.all_counts = True
        await settling.end_idle(0.2 + IDLE_SECONDS)

    asyncio.run(main())
    assert (first.released, second.released) == (True, True)


def test_of_a_step_that_is_over_nothing_is_kept_in_memory():
    """An optimisation has many, and its node all of them for as long as it goes on."""
    run, one = Counted(run_ids=("o", "o.0")), _Followed("o.0", None)
    run._followed["o.0"] = one
    one.recent.add(3, Batch(1, 1), b"packed")
    run.is_over("o.0")
    assert (one.is_over, one.recent.get(3)) == (True, None)


@pytest.fixture
def leading(keeper, journal):
    """A node's, which tells what it takes."""
    one = Leading(keeper, journal, None, None)
    one.taken = []

    async def take(row, *, force):
        one.taken.append(row.run_id)

    async def look():
        return True

    one.take, one.look = take, look
    return one


def lead(leading, *request):
    asyncio.run(leading.lead(request))
    taken, leading.taken = leading.taken, []
    return taken


def test_a_run_that_is_paused_is_claimed_before_it_is_cancelled_so_that_its_copies_know(leading, journal):
    """One that was resumed at its standby went on, though it had been cancelled."""
    assert lead(leading, "cancel", "r", "enough") == []  # it is under way, or another node's
    for state in ("paused", "failed"):
        journal.set_state("r", state)
        assert lead(leading, "cancel", "r", "enough") == lead(leading, "pause", "r", "why") == ["r"]
    leading._led.add(Counted())
    assert lead(leading, "cancel", "r", "enough") == []
    journal.create_run(RunSpec(run_id="alone"), state="paused")
    assert lead(leading, "cancel", "alone", "enough") == []  # it never had copies


def test_a_run_of_an_optimisation_is_claimed_with_that_and_one_of_a_program_by_itself(leading, journal):
    for head, settings in (("o", {IN_NODE: True}), ("p", {})):
        journal.create_run(RunSpec(run_id=head, kind=OPTIMISE, settings=settings), state="paused")
        journal.create_run(RunSpec(run_id=f"{head}.0", parent_id=head), state="paused")
        for run_id in (head, f"{head}.0"):
            journal.claim(run_id, 3, "me")
    assert lead(leading, "cancel", "o.0", "enough") == lead(leading, "cancel", "o", "enough") == ["o"]
    assert lead(leading, "cancel", "p.0", "enough") == ["p.0"]
    assert lead(leading, "cancel", "p", "enough") == []


def test_a_run_of_an_optimisation_that_goes_on_is_not_deleted(leading, journal):
    """Its copy went, the set of nodes in sync stayed what it was: a node of it could go on without the run."""
    deleted = []

    async def delete(row, head):
        deleted.append((row.run_id, head))

    leading.afterwards.delete = delete
    journal.create_run(RunSpec(run_id="o", kind=OPTIMISE, settings={IN_NODE: True}))
    journal.create_run(RunSpec(run_id="o.0", parent_id="o"), state="paused")
    journal.claim("o", 3, "me")
    row, run = journal.get_run("o.0"), Counted(run_ids=("o", "o.0"))
    leading._led.add(run)
    with pytest.raises(ConfigError, match=r"run o\.0 is of optimisation o, which goes on: pause that first"):
        asyncio.run(leading.delete(row))
    leading._led.forget(run)
    asyncio.run(leading.delete(row))
    assert deleted == [("o.0", "o")]
