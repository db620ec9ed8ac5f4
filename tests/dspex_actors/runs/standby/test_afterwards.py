"""Copies of runs that have ended, or were deleted, while their node was away: between journals, without nodes."""

import asyncio
import functools
from types import SimpleNamespace

import pytest

from dspex_actors.errors import ConfigError, DspexError
from dspex_actors.journal import copies as copies_module
from dspex_actors.journal.copies import (
    UNFINISHED,
    Portion,
    Stand,
    portion_after,
    set_aside,
    stale_runs,
    stand_of,
    take_portion,
)
from dspex_actors.journal.copying import content_of
from dspex_actors.journal.deleted import delete_copy, deleted_after, forget_deleted
from dspex_actors.journal.reader import JournalReader
from dspex_actors.journal.records import ResultRow, RunSpec
from dspex_actors.journal.schema import values_of_result
from dspex_actors.journal.store import Batch
from dspex_actors.journal.writer import Journal
from dspex_actors.runs.standby.afterwards import Afterwards
from dspex_actors.runs.standby.answering import answer_reader
from dspex_actors.runs.standby.messages import DropRun, GetPortion, OfReader
from supervisors.cluster.leases.messages import LEASES, Acquire, Delete, Get, Read, Release
from supervisors.cluster.leases.store import Lease
from supervisors.cluster.membership.messages import MEMBERSHIP, Member
from supervisors.errors import CallTimeout, LeaseHeld, NoMajority


def in_a_loop(test):
    @functools.wraps(test)
    def run(*args, **kwargs):
        asyncio.run(test(*args, **kwargs))

    return run


class World:
    """Keepers of runs, each with a journal in a file, and a store of leases."""

    def __init__(self, folder, names="abc"):
        self.folder = folder
        self.values, self.holders, self.away, self.has_no_majority = {}, {}, set(), False
        self.keepers = {name: Keeper(self, name) for name in names}

    def journal(self, name):
        return self.keepers[name].journal

    def content(self, name):
        return content_of(JournalReader(self.folder / f"{name}.db"), "r")

    def store(self, me, request):
        if self.has_no_majority:
            raise NoMajority("two of three voters are away")
        match request:
            case Read(name):
                return self.values.get(name), int(name in self.values)
            case Get(name):
                return Lease(name, self.holders.get(name, ""), 1, 5.0, None)
            case Acquire(name, holder):
                if self.holders.setdefault(name, holder) != holder:
                    raise LeaseHeld("it is held")
                return Lease(name, holder, 9, 5.0, None)
            case Release(name):
                self.holders.pop(name, None)
            case Delete(name):
                self.values.pop(name, None)
        return None


class Keeper:
    """What `Afterwards` needs of the keeper of runs."""

    def __init__(self, world, name):
        self.world, self.name = world, name
        self.journal = Journal(world.folder / f"{name}.db", owner=name)
        self.node = {"name": name, "uid": name, "incarnation": 1}
        self.ref = SimpleNamespace(uid=name)
        self.log = SimpleNamespace(info=lambda what, **words: None)
        self.coordinated, self.lock, self.forgotten = set(), asyncio.Lock(), []
        self.copies = Afterwards(self, self.journal, self.others, self.coordinated, lambda run: self.lock)
        self.copies.deleted = lambda row: self.forgotten.append(row.run_id)

    def others(self):
        return [Member(name, name, "h", 1) for name in self.world.keepers if name not in {self.name} | self.world.away]

    def spawn(self, work):
        return asyncio.ensure_future(work)

    async def call(self, target, request, timeout=5.0):  # noqa: ASYNC109 - as GenServer has it
        await asyncio.sleep(0)
        if target == MEMBERSHIP:
            return request.node
        if target == LEASES:
            return self.world.store(self.name, request)
        if target in self.world.away:
            raise CallTimeout("no answer")
        other = self.world.keepers[target]
        try:
            if isinstance(request, DropRun):
                return "ok", await other.copies.drop(request.run_id, request.created_at)
            assert isinstance(request, OfReader)
            return "ok", answer_reader(other.journal, request)
        except DspexError as error:
            return "error", error.to_record()


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    for keeper in made.keepers.values():
        keeper.journal.close()


def write(journal, number, *indices, epoch):
    results = [ResultRow(index=n, example=b"e", prediction=b"p", score=1.0, worker="w", at=5.0) for n in indices]
    journal.append("r", epoch, Batch(1, number), list(map(values_of_result, results)), [])


def copied(world, source, target):
    """Bring a copy to where a journal is, as its coordinator would."""
    here, there = world.journal(source), world.journal(target)
    stand = stand_of(there, "r")
    take_portion(there, "r", stand_of(here, "r").claimed, stand, portion_after(here, "r", stand.seq))


@pytest.fixture
def begun(world):
    """A run of a with three results, of which b has a copy."""
    a = world.journal("a")
    a.create_run(RunSpec(run_id="r", program=b"p"))
    a.claim("r", 1, "a")
    a.next_epoch("r")
    write(a, 1, 0, 1, 2, epoch=1)
    copied(world, "a", "b")
    world.values["run:r"] = ["a", "b"]
    return world


def finish(world, name):
    """The run ends on a node, without the others: its value in the store is deleted."""
    world.journal(name).set_state("r", "finished")
    world.values.pop("run:r", None)


async def look(world, name):
    """Have a keeper do what it does once a second."""
    world.keepers[name].copies.is_up(world.keepers["c"].others()[0])
    await world.keepers[name].copies._hear_of_deleted()
    await world.keepers[name].copies._complete_stale()


@in_a_loop
async def test_a_standby_that_was_away_when_its_run_ended_is_completed(begun):
    a, b = begun.journal("a"), begun.journal("b")
    write(a, 2, 3, 4, epoch=1)
    finish(begun, "a")
    copies = begun.keepers["b"].copies
    assert await copies.complete("r", None)
    assert begun.content("b") == begun.content("a")
    assert b.get_run("r") == a.get_run("r")
    assert not await copies.complete("r", None)  # nothing is lacking


@in_a_loop
async def test_a_coordinator_that_was_away_drops_what_only_it_had(begun):
    a, b = begun.journal("a"), begun.journal("b")
    write(a, 2, 3, 4, epoch=1)
    b.claim("r", 2, "b")
    b.next_epoch("r")
    write(b, 1, 7, epoch=2)
    finish(begun, "b")
    assert await begun.keepers["a"].copies.complete("r", None)
    assert list(a.done_indices("r")) == [0, 1, 2, 7]
    assert begun.content("a") == begun.content("b")


@in_a_loop
async def test_a_copy_that_was_set_aside_and_one_that_is_half_there_are_completed(begun, monkeypatch):
    a, b = begun.journal("a"), begun.journal("b")
    write(a, 2, 3, 4, epoch=1)
    set_aside(b, "r", "its copy here is not in sync")
    monkeypatch.setattr(copies_module, "ROWS", 2)
    finish(begun, "a")
    first = Portion(*answer_reader(a, GetPortion("r", 0)))
    take_portion(begun.journal("c"), "r", 1, Stand(), first)
    assert not first.is_last
    assert begun.journal("c").get_run("r").reason == UNFINISHED
    for name in "bc":
        await look(begun, name)
        assert begun.content(name) == begun.content("a")
        assert stale_runs(begun.journal(name)) == []


@in_a_loop
async def test_a_copy_of_a_paused_run_is_completed_from_those_that_have_all_and_no_others(begun):
    a, b, c = (begun.journal(name) for name in "abc")
    copied(begun, "a", "c")
    write(a, 2, 3, 4, epoch=1)
    copied(begun, "a", "b")
    a.set_state("r", "paused", "for now")
    set_aside(c, "r", "not in sync")
    begun.away.add("a")
    begun.values["run:r"] = ["a"]
    await look(begun, "c")  # b may have all of it, or less: nobody says so
    assert list(c.done_indices("r")) == [0, 1, 2]
    begun.away.clear()
    await look(begun, "c")
    assert list(c.done_indices("r")) == [0, 1, 2, 3, 4]
    before = stand_of(b, "r")
    begun.holders["run:r"] = "somebody"  # who goes on with it looks after its copies himself
    set_aside(b, "r", "not in sync")
    await look(begun, "b")
    assert stand_of(b, "r") == before


@in_a_loop
async def test_another_run_of_the_name_is_no_source(begun):
    other = begun.journal("c")
    other.create_run(RunSpec(run_id="r", program=b"p"))
    other.claim("r", 5, "c")
    other.set_state("r", "finished")
    begun.away.add("a")
    begun.values.clear()
    assert not await begun.keepers["b"].copies.complete("r", None)


@in_a_loop
async def test_a_run_is_deleted_with_its_copies_and_later_on_nodes_that_are_away(begun):
    a = begun.journal("a")
    copied(begun, "a", "c")
    finish(begun, "a")
    begun.away.add("c")
    await begun.keepers["a"].copies.delete(a.get_run("r"), "r")
    assert [begun.journal(name).get_run("r") for name in "ab"] == [None, None]
    assert begun.journal("c").get_run("r") is not None
    assert (begun.values, begun.holders, begun.keepers["b"].forgotten) == ({}, {}, ["r"])
    # The one that deleted it is away for good: another one that was there knows it.
    begun.away = {"a"}
    await look(begun, "c")
    assert begun.journal("c").get_run("r") is None
    assert begun.keepers["c"].forgotten == ["r"]
    assert [one.run_id for one in deleted_after(begun.journal("c"), 0)] == ["r"]


@in_a_loop
async def test_a_run_that_is_made_anew_under_the_name_stays(begun):
    a = begun.journal("a")
    created_at = a.get_run("r").created_at
    await begun.keepers["a"].copies.delete(a.get_run("r"), "r")
    b = begun.journal("b")
    b.create_run(RunSpec(run_id="r", program=b"q"))
    assert b.get_run("r").created_at != created_at
    await look(begun, "b")
    assert not await begun.keepers["b"].copies.drop("r", created_at)
    assert b.get_run("r").spec.program == b"q"


@pytest.mark.soak
@in_a_loop
async def test_a_run_that_goes_on_elsewhere_or_of_which_nothing_is_known_is_not_deleted(begun):
    a, row = begun.keepers["a"], begun.journal("a").get_run("r")
    begun.has_no_majority = True
    with pytest.raises(ConfigError, match="cannot be deleted now: two of three voters are away"):
        await a.copies.delete(row, "r")
    begun.has_no_majority = False
    begun.holders["run:r"] = "b"
    with pytest.raises(ConfigError, match="goes on at another node"):
        await a.copies.delete(row, "r")
    assert begun.journal("a").get_run("r") == row
    assert deleted_after(begun.journal("a"), 0) == []
    begun.keepers["b"].coordinated.add("r")  # somebody forced it to go on there
    assert not await begun.keepers["b"].copies.drop("r", row.created_at)


@in_a_loop
async def test_a_run_of_an_optimisation_is_deleted_under_the_lease_of_that(begun):
    a, row = begun.keepers["a"], begun.journal("a").get_run("r")
    begun.values["run:o"], begun.holders["run:o"] = ["a", "b"], "b"
    with pytest.raises(ConfigError, match="run o goes on at another node"):
        await a.copies.delete(row, "o")
    assert all(begun.journal(name).get_run("r") for name in "ab")
    del begun.holders["run:o"]
    await a.copies.delete(row, "o")
    assert not any(begun.journal(name).get_run("r") for name in "ab")
    assert begun.values["run:o"] == ["a", "b"]  # that has its copies still


def test_deletions_are_numbered_for_ever_and_forgotten_after_months(begun):
    b, day = begun.journal("b"), 86_400.0
    for at, run in ((0.0, "x"), (1.0, "x"), (2.0, "y")):
        assert not delete_copy(b, run, 5.0, at * day)
    assert [one[1:] for one in deleted_after(b, 0)] == [("x", 5.0), ("y", 5.0)]
    forget_deleted(b, 91 * day)
    assert [one.number for one in deleted_after(b, 0)] == [2]
    forget_deleted(b, 900 * day)
    delete_copy(b, "z", 5.0, 900 * day)
    assert [one.number for one in deleted_after(b, 2)] == [3]
