"""The coordinator of optimisations brings a server back, also where it cannot at once."""

import asyncio
from types import SimpleNamespace

import pytest

from dspex_actors import ConfigError
from dspex_actors.journal.errors import JournalError
from dspex_actors.journal.postgres.reader import PostgresReader
from dspex_actors.journal.records import RunSpec
from dspex_actors.journal.sameness import IN_NODE, OPTIMISE
from dspex_actors.optimisation import coordinator
from dspex_actors.optimisation.coordinator import OptimizationCoordinator
from dspex_actors.optimisation.messages import UnderWay
from supervisors.errors import NoProcess


class Asking(OptimizationCoordinator):
    """A coordinator with an optimisation that is this node's, and a keeper that answers so."""

    def __init__(self, keeper):
        spec = RunSpec(run_id="night", kind=OPTIMISE, settings={IN_NODE: True})
        row = SimpleNamespace(run_id="night", state="running", owner="a", spec=spec)
        self._journal = SimpleNamespace(get_run=lambda run_id, code: row, list_runs=lambda **which: [row])
        self._watched, self.call, self.spawned, self.later = {}, keeper, [], []

    def spawn(self, coroutine):
        self.spawned.append(coroutine)

    def send_after(self, seconds, message):
        self.later.append(message)


class Tried(OptimizationCoordinator):
    """A coordinator whose tries to begin fail so many times."""

    def __init__(self, fails, standing="running", keeper=True):
        self.fails, self.standing_is, self.keeper = fails, standing, keeper
        self.begun, self.told, self.later = 0, [], []
        self._journal = SimpleNamespace(get_run=self._get_run)

    log = SimpleNamespace(error=lambda *args, **kwargs: None)

    def _get_run(self, run_id, code):
        if isinstance(self.standing_is, Exception):
            raise self.standing_is
        return SimpleNamespace(state=self.standing_is, owner="")

    async def _owner(self):
        return ""

    async def _begin(self, run_id):
        self.fails -= 1
        if self.fails >= 0:
            raise ConfigError("the keeper of runs is not back yet")
        self.begun += 1

    async def call(self, name, request, **how):
        if not self.keeper:
            raise NoProcess("runs")
        self.told.append(request)
        return ("error", JournalError("no space").to_record()) if self.keeper == "full" else ("ok", None)

    def send_after(self, seconds, message):
        self.later.append(message)


@pytest.mark.parametrize(
    ("tried", "begun", "told", "later"),
    [
        (Tried(0), 1, 0, []),
        (Tried(4), 1, 0, []),
        (Tried(4, JournalError("the journal is away")), 1, 0, []),
        (Tried(99), 0, 1, []),
        (Tried(99, "paused"), 0, 0, []),
        (Tried(99, keeper=False), 0, 0, ["revive"]),
        (Tried(99, keeper="full"), 0, 1, ["revive"]),
    ],
)
def test_it_is_given_up_only_after_several_tries_and_never_silently(monkeypatch, tried, begun, told, later):
    monkeypatch.setattr(coordinator, "AGAIN_SECONDS", (0.0,) * 5)
    asyncio.run(tried._bring_back("night"))
    assert (tried.begun, len(tried.told), tried.later) == (begun, told, later)


def test_a_keeper_that_cannot_say_whose_it_is_has_said_nothing():
    """Else what it has just taken over was nobody's, and stood still until the node was started again."""

    async def full(name, request):
        return "error", JournalError("no space").to_record()

    async def main():
        asking = Asking(full)
        await asking._revive()
        assert (asking.spawned, asking.later) == ([], ["revive"])
        assert await asking._goes_on("night")

    asyncio.run(main())


def test_who_asks_is_answered_while_the_keeper_takes_its_time():
    async def main():
        answers = asyncio.Event()

        async def slow(name, request):
            await answers.wait()
            return "ok", "a"

        asking = Asking(slow)
        await asyncio.wait_for(asking.handle_info("revive"), 10)
        answers.set()
        await asking.spawned.pop()
        asking.spawned.pop().close()

    asyncio.run(main())


@pytest.mark.parametrize("what", ["what goes on", "whether one goes on"])
def test_who_asks_is_answered_while_a_postgresql_server_takes_its_time(tmp_path, what):
    """The server stands in the loop of the coordinator: were that held up, nobody would be there to let it go on."""
    pytest.importorskip("psycopg")

    async def main():
        async def keeper(name, request):
            return "ok", "a"

        asking, answers = Asking(keeper), []

        async def takes_its_time(reader, writer):
            await reader.read(1)
            answers.append(asking.handle_call(UnderWay(), None))
            writer.close()  # and is gone in the end

        async with await asyncio.start_server(takes_its_time, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            asking._journal = PostgresReader(f"postgresql://dspex@127.0.0.1:{port}/postgres", tmp_path / "journal.json")
            await (asking._revive() if what == "what goes on" else asking._goes_on("night"))
        assert answers
        assert answers == [("ok", [])] * len(answers)
        assert asking.later == (["revive"] if what == "what goes on" else [])

    asyncio.run(main())
