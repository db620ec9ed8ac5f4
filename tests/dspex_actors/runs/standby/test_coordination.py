"""The coordinator of a run and its standbys, between journals in files and without nodes: what counts, and when."""

import asyncio
import contextlib
from collections import Counter
from types import SimpleNamespace

import pytest

from dspex_actors.errors import DspexError
from dspex_actors.journal.copying import content_of
from dspex_actors.journal.errors import Fenced, JournalError, JournalFull
from dspex_actors.journal.reader import JournalReader
from dspex_actors.journal.records import ResultRow, RunSpec
from dspex_actors.journal.rows import packed_rows, unpacked_rows
from dspex_actors.journal.schema import values_of_result
from dspex_actors.journal.store import Batch
from dspex_actors.journal.writer import Journal
from dspex_actors.runs.standby import coordination as module
from dspex_actors.runs.standby import sender
from dspex_actors.runs.standby.answering import answer_coordinator
from dspex_actors.runs.standby.coordination import Coordination, note_of
from supervisors.cluster.leases.messages import LEASES, Put, Read
from supervisors.cluster.membership.messages import MEMBERSHIP, Member
from supervisors.errors import CallTimeout, NoMajority, VersionConflict
from supervisors.testing import wait_until_async as until


class World:
    """The keeper of runs of node a, as its coordinator sees it: other nodes, and a store of leases."""

    def __init__(self, folder, names="abc"):
        self.journals = {name: Journal(folder / f"{name}.db", owner=name) for name in names}
        self.members = {name: Member(name, name, "h", place) for place, name in enumerate(names)}
        self.full, self.silent, self.store_away = set(), set(), False
        self.set, self.version = ["a"], 1
        self.tasks = []
        self.log = SimpleNamespace(info=print, warning=print)

    def spawn(self, work):
        self.tasks.append(asyncio.create_task(work))

    async def call(self, target, request, timeout=5.0):  # noqa: ASYNC109 - as GenServer has it
        if target == MEMBERSHIP:
            return request.node
        if target == LEASES:
            return self.store(request)
        return await self.ask(target, request)

    def store(self, request):
        if self.store_away:
            raise NoMajority("two of three voters are away")
        match request:
            case Read():
                return self.set, self.version
            case Put(value=value, version=version):
                if version != self.version:
                    raise VersionConflict("another version")
                self.set, self.version = value, version + 1
                return self.version

    async def ask(self, node, request):
        await asyncio.sleep(0)
        while node in self.silent:  # noqa: ASYNC110 - tests change it whenever they like
            await asyncio.sleep(0.01)
        if not self.members[node].is_up:
            raise CallTimeout("no answer")
        try:
            if node in self.full:
                raise JournalFull("no space left")
            return "ok", answer_coordinator(self.journals[node], request)
        except DspexError as error:
            return "error", error.to_record()

    def call_then(self, target, request, function, timeout=5.0):
        async def asked():
            try:
                reply, error = await self.ask(target, request), None
            except CallTimeout as why:
                reply, error = None, why
            function(reply, error)

        self.spawn(asked())

    def down(self, name, state="down"):
        self.members[name] = Member(name, name, "h", 1, state=state)

    def begin(self, copies=2, parts=()):
        journal = self.journals["a"]
        for run_id, state in parts:
            journal.create_run(RunSpec(run_id=run_id, parent_id="r"))
            self.write_part(run_id)
            journal.set_state(run_id, state)
        journal.create_run(RunSpec(run_id="r"))
        journal.claim("r", 7, "a")
        journal.next_epoch("r")
        holding = SimpleNamespace(name="run:r", epoch=7)
        self.run = Coordination(
            self, journal, "r", holding, "a", self.set, self.version, copies, lambda: list(self.members.values()),
            [(run_id, state == "finished") for run_id, state in parts],
        )  # fmt: skip
        self.numbers = Counter()
        return self.run

    def write(self, count=1, run="r"):
        """Write rows of the whole, whose keeper says which, or of a run of a step, whose keeper says that there are."""
        for _ in range(count):
            self.numbers[run] += 1
            batch = Batch(1, self.numbers[run])
            row = ResultRow(index=batch.number, score=1.0, example=b"e", worker="a/w", at=1.0)
            packed = packed_rows([values_of_result(row)], [])
            appended = self.journals["a"].append(run, 7, batch, *unpacked_rows(packed))
            if run == "r":
                self.run.wrote(run, appended.seq, batch, packed)
        if run != "r":
            self.run.note(run)

    def write_part(self, run_id, count=3):
        journal = self.journals["a"]
        rows = [ResultRow(index=at, score=1.0, example=b"e", worker="a/w", at=1.0) for at in range(count)]
        journal.append(
            run_id, journal.get_run(run_id).claimed, Batch(1, 1), [values_of_result(row) for row in rows], []
        )

    def part(self, run_id):
        """Have a run of a step begin, under the lease of the whole."""
        journal = self.journals["a"]
        journal.create_run(RunSpec(run_id=run_id, parent_id="r"))
        journal.claim(run_id, 7, "a")
        self.run.add(run_id)

    def same(self, *names, run="r"):
        found = [content_of(JournalReader(self.journals[name].path), run) for name in names]
        return found[0] is not None and found == found[:1] * len(found)

    def close(self):
        for journal in self.journals.values():
            journal.close()


@pytest.fixture
def world(tmp_path, monkeypatch):
    for name, value in (("LOOK_SECONDS", 0.01), ("SLOW_SECONDS", 60.0), ("REST_SECONDS", 0.1), ("STORE_SECONDS", 0.01)):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(sender, "AGAIN_SECONDS", 0.01)
    with contextlib.closing(World(tmp_path)) as one:
        yield one


def run_with(world, story):
    async def main():
        async with asyncio.timeout(60):
            await story()
        world.run.end()
        for task in world.tasks:
            task.cancel()
        ended = await asyncio.gather(*world.tasks, return_exceptions=True)
        assert [one for one in ended if isinstance(one, Exception)] == []

    asyncio.run(main())


def test_what_counts_is_on_the_disk_of_a_standby(world):
    async def story():
        run = world.begin()
        await run.first()
        assert len(world.set) == 2
        [standby] = set(world.set) - {"a"}
        world.write(20)
        await run.counted()
        assert world.same("a", standby)
        world.silent.add(standby)
        world.write()
        assert run.sync.counted < run.sync.written
        assert "is behind" in run.why()
        assert note_of([run], 3) == []

    run_with(world, story)


@pytest.mark.parametrize(("how", "what"), [("full", "r"), ("silent", "r"), ("down", "r"), ("full", "r.0")])
def test_a_standby_that_is_full_or_slow_or_down_is_left_out_and_another_comes_in(world, how, what, monkeypatch):
    """What lacks something of one run of an optimisation could go on with it, too, and pay again for what it lacks."""
    if how == "silent":
        monkeypatch.setattr(module, "SLOW_SECONDS", 0.5)

    async def story():
        run = world.begin()
        await run.first()
        [standby] = set(world.set) - {"a"}
        [other] = {"b", "c"} - {standby}
        if what != "r":
            world.part(what)
        world.write(3, what)
        await run.counted()
        if how == "down":
            world.down(standby)
        else:
            (world.full if how == "full" else world.silent).add(standby)
        world.write(3, what)
        await run.counted()
        assert standby not in world.set
        await until(lambda: other in world.set)
        world.write(3, what)
        await run.counted()
        await until(lambda: world.same("a", other, run=what))
        assert not world.same("a", standby, run=what)

    run_with(world, story)


def test_of_two_nodes_the_one_that_is_full_comes_back_and_meanwhile_people_are_told(world):
    async def story():
        world.down("c")
        run = world.begin()
        await run.first()
        world.full.add("b")
        world.write(2)
        await run.counted()
        assert world.set == ["a"]
        assert note_of([run], 2) == ["run r: 1 of 2 copies, b no space left"]
        world.full.clear()
        await until(lambda: world.set == ["a", "b"])
        world.write(2)
        await run.counted()
        assert world.same("a", "b")
        assert note_of([run], 2) == []

    run_with(world, story)


def test_a_journal_that_cannot_be_read_for_a_moment_is_read_again(world, monkeypatch):
    """The keeper of all runs fell with it."""

    async def story():
        run = world.begin()
        await run.first()
        note, fails = run.note, [JournalError("an I/O error"), JournalFull("no space left")]
        monkeypatch.setattr(run, "note", lambda: note() if not fails else (_ for _ in ()).throw(fails.pop()))
        await until(lambda: not fails)
        world.write(3)
        await run.counted()

    run_with(world, story)


def test_more_copies_than_nodes_are_as_many_as_there_are_nodes(world):
    async def story():
        run = world.begin(copies=5)
        await until(lambda: world.set == ["a", "b", "c"])
        world.write(5)
        await run.counted()
        assert world.same("a", "b", "c")
        assert note_of([run], 3) == ["run r: 3 of 5 copies, the cluster has 3 full nodes"]

    run_with(world, story)


def test_who_is_in_sync_cannot_be_changed_so_nothing_counts(world, monkeypatch):
    """Else the standby, which may have the voters on its side, could go on without what counted here."""
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.5)

    async def story():
        run = world.begin()
        await run.first()
        [standby] = set(world.set) - {"a"}
        world.store_away = True
        world.down(standby)
        world.write()
        with pytest.raises(JournalError, match=r"who has it cannot be changed \(two of three voters are away"):
            await run.counted()
        world.store_away = False
        await run.counted()
        assert standby not in world.set

    run_with(world, story)


def test_a_coordinator_that_another_has_followed_hears_it_from_its_standby(world):
    async def story():
        run = world.begin()
        await run.first()
        [standby] = set(world.set) - {"a"}
        world.journals[standby].claim("r", 8, standby)
        world.write()
        with pytest.raises(Fenced):
            await run.counted()

    run_with(world, story)


def test_a_copy_with_another_content_is_begun_anew_only_when_it_is_out_of_the_set(world):
    """It is in the set as one that has all that counts: until it is out it may claim the run."""

    async def story():
        world.down("c")
        journal = world.journals["b"]
        run = world.begin()
        await run.first()
        world.write(3)
        await run.counted()
        run.end()
        journal.claim("r", 9, "b")  # b has gone on, and has something that nobody else has
        world.journals["a"].claim("r", 10, "a")
        world.store_away = True
        world.run = run = Coordination(
            world, world.journals["a"], "r", SimpleNamespace(name="run:r", epoch=10), "a", world.set, world.version, 2,
            lambda: list(world.members.values()),
        )  # fmt: skip
        await asyncio.sleep(0.2)
        assert journal.get_run("r").claimed == 9
        world.store_away = False
        await until(lambda: journal.get_run("r").claimed == 10 and world.set == ["a", "b"])
        await run.counted()
        assert world.same("a", "b")

    run_with(world, story)


def test_who_is_in_the_set_of_an_optimisation_has_its_runs_too_those_that_are_over_first(world, monkeypatch):
    monkeypatch.setattr(module, "CATCHING_UP", 2)
    over = [(f"r.{number}", "finished") for number in range(9)]

    async def story():
        world.down("c")
        world.full.add("b")
        run = world.begin(parts=[*over, ("r.9", "running")])
        await asyncio.sleep(0.1)
        assert world.set == ["a"]
        world.full.clear()
        await until(lambda: world.set == ["a", "b"])
        assert all(world.same("a", "b", run=part) for part, _ in [*over, ("r.9", "running")])
        await until(lambda: len(run._senders) == 2)  # of what is over nobody keeps looking

    run_with(world, story)


def test_what_is_written_of_a_run_of_an_optimisation_counts_when_the_nodes_of_the_whole_have_it(world, monkeypatch):
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.3)

    async def story():
        world.down("c")
        run = world.begin()
        await run.first()
        world.part("r.0")
        await run.counted("r.0")
        assert world.same("a", "b", run="r.0")
        world.silent.add("b")
        world.write(3, "r.0")
        await run.counted("r")  # the others do not wait for it
        with pytest.raises(JournalError, match="b is behind"):
            await run.counted("r.0")
        with pytest.raises(JournalError, match="b is behind"):
            await run.counted()
        world.silent.clear()
        await run.counted()
        assert world.same("a", "b", run="r.0")

    run_with(world, story)


def test_a_run_that_was_made_under_a_name_by_who_died_gives_way_to_that_of_the_set(world):
    """Nobody else had it; the next coordinator has made it again."""

    async def story():
        world.down("c")
        world.journals["b"].create_run(RunSpec(run_id="r.0", parent_id="r"))
        world.journals["b"].claim("r.0", 6, "b")
        run = world.begin()
        await run.first()
        assert world.set == ["a", "b"]
        world.part("r.0")
        world.write(3, "r.0")
        await run.counted()
        await until(lambda: world.set == ["a", "b"])
        assert world.same("a", "b", run="r.0")

    run_with(world, story)


def test_a_step_that_goes_on_is_sent_with_its_program_once_more(world):
    async def story():
        world.down("c")
        run = world.begin()
        await run.first()
        world.part("r.0")
        await run.counted()
        journal = world.journals["a"]
        journal.set_state("r.0", "paused")
        run.note("r.0")
        await run.counted()
        journal.create_run(RunSpec(run_id="r.0", parent_id="r", program=b"as it is opened here"))
        journal.set_state("r.0", "running")
        run.add("r.0")
        await run.counted()
        assert world.journals["b"].get_run("r.0").spec.program == b"as it is opened here"

    run_with(world, story)
