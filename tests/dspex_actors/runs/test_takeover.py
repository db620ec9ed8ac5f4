"""Runs of a node that is down, while the journal comes and goes too."""

import asyncio
import contextlib
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest

from dspex_actors.journal.errors import Fenced, JournalError
from dspex_actors.journal.records import RunSpec
from dspex_actors.runs.keeper import takeover
from dspex_actors.runs.keeper.takeover import TakeOver
from supervisors.cluster.membership.messages import MEMBERSHIP, Lookup, Member, NodeChanged, NodeUp
from supervisors.errors import NoProcess


class Journal:
    """A journal that is away each time that it is used first."""

    is_far = True

    def __init__(self):
        self.away, self.runs = {"list", "r", "go on r"}, ["r", "s"]

    def use(self, what):
        if what in self.away:
            self.away.discard(what)
            raise JournalError("the journal does not answer")

    def list_runs(self, state):
        self.use("list")
        spec = RunSpec(run_id="", kind="evaluate")
        return [SimpleNamespace(run_id=run_id, owner="other", seq=1, spec=spec) for run_id in self.runs]

    def take_over(self, row, force):
        self.use(row.run_id)
        self.runs.remove(row.run_id)
        if row.run_id == "s":
            raise Fenced("another node has it")
        return row


def test_runs_are_taken_over_though_the_journal_is_away_meanwhile(monkeypatch):
    """The keeper stays: its successor would know nothing of the node that is down."""
    monkeypatch.setattr(takeover, "AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(takeover.Copies, "open", lambda self, descriptor: None)
    journal, went_on = Journal(), []
    log = SimpleNamespace(warning=lambda *args, **about: None)

    async def go_on(row):
        journal.use(f"go on {row.run_id}")
        went_on.append(row.run_id)

    taker = TakeOver(SimpleNamespace(node={"name": "me", "data_dir": "."}, log=log), journal, go_on)
    taker._members = {"me": Member("me", "u", "h", 1), "down": Member("down", "v", "h", 2, state="down")}

    async def take():
        async with asyncio.timeout(20):
            await taker._take("down", "other")

    asyncio.run(take())
    assert went_on == ["r"]
    assert (journal.runs, journal.away) == ([], set())


def test_a_node_that_died_while_the_membership_was_started_anew_is_not_forgotten(monkeypatch):
    monkeypatch.setattr(takeover, "MISSED_SECONDS", 0.01)
    taken, tasks = [], []
    me, other, well = (Member(name, name, "h", number) for number, name in enumerate(["me", "other", "well"]))
    memberships = iter([("first", [me, other, well]), ("second", [me, replace(other, state="down"), well])])
    now = {}

    async def whereis(name):
        now["ref"], now["members"] = next(memberships)
        return now["ref"]

    async def call(to, request):
        return now["members"] if to == now["ref"] else ("ok", f"owner of {request.name if to == MEMBERSHIP else to}")

    async def main():
        keeper = SimpleNamespace(node={"name": "me", "data_dir": "."}, ref=None, whereis=whereis, call=call)
        keeper.spawn = lambda work: tasks.append(asyncio.create_task(work))
        taker = TakeOver(keeper, Journal(), None)

        async def take(node, owner):
            taken.append(node)

        taker._take = take
        async with asyncio.timeout(20):
            for _ in range(2):
                await taker._subscribe()
                while not all(task.done() for task in tasks):
                    await asyncio.gather(*tasks)
        assert set(taker._owners) == {"well"}

    asyncio.run(main())
    assert taken == ["other"]


@pytest.mark.parametrize(("others", "writes"), [("cd", 9), ("", 0), ("", 4)])
def test_a_node_that_may_be_cut_off_takes_nothing_that_is_written_on(monkeypatch, others, writes):
    """Node b and one more have gone; `others` are left. The run is written on `writes` times, then no more."""
    monkeypatch.setattr(takeover.Copies, "open", lambda self, descriptor: None)
    monkeypatch.setattr(takeover, "APART_SECONDS", 0.0)
    monkeypatch.setattr(takeover, "QUIET_SECONDS", 0.0)
    looks, went_on = [], []

    class Written(Journal):
        def list_runs(self, state):
            looks.append(state)
            row = super().list_runs(state)[0]
            row.seq = min(len(looks), writes)
            return [row]

        def use(self, what):
            pass

        def take_over(self, row, force):
            return row

    async def go_on(row):
        went_on.append(len(looks))

    log = SimpleNamespace(warning=lambda *args, **about: None)

    async def main():
        taker = TakeOver(SimpleNamespace(node={"name": "a", "data_dir": "."}, log=log), Written(), go_on)
        for name in ("b", "x", "a", *others):
            taker._members[name] = Member(name, name, "h", 1)
        for name in ("b", "x"):
            taker._is(Member(name, name, "h", 1, state="down"))
        async with asyncio.timeout(30):
            await taker._take("b", "other")

    asyncio.run(main())
    # At once where most are here; else when nobody has written between two looks.
    assert went_on == [1 if others else max(writes, 1) + 1]


def test_a_node_is_asked_by_one_at_a_time_however_often_it_tells_of_its_load_and_one_that_only_works_by_nobody(
    monkeypatch,
):
    monkeypatch.setattr(takeover, "AGAIN_SECONDS", 0.0)
    full, worker = Member("full", "u", "h", 1), Member("worker", "v", "h", 2, role="worker")
    asked, tasks = [], []
    answers = iter([NoProcess("not yet"), NoProcess("not yet"), "its keeper", ("ok", "what it is called")])

    async def call(to, request):
        asked.append(request)
        if isinstance(answer := next(answers), Exception):
            raise answer
        return answer

    async def main():
        keeper = SimpleNamespace(node={"name": "me", "data_dir": "."}, call=call)
        keeper.spawn = lambda work: tasks.append(asyncio.create_task(work))
        taker = TakeOver(keeper, Journal(), None)
        taker.hear(NodeUp(full))
        for load in range(5):
            taker.hear(NodeChanged(replace(full, load=load)))
            taker.hear(NodeChanged(replace(worker, load=load)))
            await asyncio.sleep(0)
        async with asyncio.timeout(30):
            await asyncio.gather(*tasks)
        assert taker._owners == {"full": "what it is called"}
        taker.hear(NodeUp(replace(full, incarnation=1)))
        assert len(tasks) == 2  # another one is asked anew
        tasks[1].cancel()

    asyncio.run(main())
    assert [each.node for each in asked if isinstance(each, Lookup)] == ["full"] * 3


def test_an_optimisation_brings_its_runs_along_and_is_left_while_one_of_them_is_written_on():
    def row(run_id, owner="down", seq=1, parent_id=None, **settings):
        kind = "optimise" if parent_id is None else "evaluate"
        return SimpleNamespace(
            run_id=run_id,
            owner=owner,
            seq=seq,
            spec=RunSpec(run_id=run_id, kind=kind, parent_id=parent_id, settings=settings),
        )

    own, program = row("o", in_node=True), row("p")
    running = [
        row("o.1", seq=7, parent_id="o"),
        own,
        program,
        row("p.1", parent_id="p"),
        row("q", "other", in_node=True),
    ]
    running.append(row("q.1", parent_id="q"))
    # One that its program carries out ends with that; what it has begun goes on, as any run.
    assert [one.run_id for one in takeover._to_take(running, "down")] == ["o", "p.1"]
    assert takeover._written(own, running) == 8


def test_the_keeper_answers_others_while_the_journal_takes_its_time_over_a_take_over(monkeypatch):
    monkeypatch.setattr(takeover.Copies, "open", lambda self, descriptor: None)
    asked, goes_on = [], threading.Event()

    class Slow(Journal):
        def use(self, what):
            asked.append(what)
            loop.call_soon_threadsafe(goes_on.set)
            assert goes_on.wait(20), "the keeper's loop stood still"
            goes_on.clear()

    log = SimpleNamespace(warning=lambda *args, **about: None)
    journal, went_on, loop = Slow(), [], None

    async def go_on(row):
        went_on.append(row.run_id)

    async def main():
        taker = TakeOver(SimpleNamespace(node={"name": "me", "data_dir": "."}, log=log), journal, go_on)
        taker._members = {"me": Member("me", "u", "h", 1), "down": Member("down", "v", "h", 2, state="down")}
        nonlocal loop
        loop = asyncio.get_running_loop()
        await taker._take("down", "other")

    asyncio.run(main())
    assert (asked, went_on) == (["list", "r", "s"], ["r"])


def test_a_coordinator_that_does_not_start_is_tried_for_by_one(monkeypatch):
    own = SimpleNamespace(spec=RunSpec(run_id="o", kind="optimise", settings={"in_node": True}))
    spawned, tries = [], []

    async def revive(keeper):
        tries.append(None)
        if len(tries) == 2:
            raise asyncio.CancelledError

    monkeypatch.setattr(takeover, "revive", revive)
    keeper = SimpleNamespace(node={"name": "me", "data_dir": "."}, spawn=spawned.append)
    taker = TakeOver(keeper, SimpleNamespace(is_far=True, has=lambda row: True), None)

    def ended():
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(spawned.pop())

    for _ in range(3):
        for _ in range(3):
            taker.revive([own])
        assert len(spawned) == 1
        ended()
    assert len(tries) == 3
