"""Evaluators as their keeper starts them: what the first one is told, and that no other one is told it."""

import asyncio
import os
from types import SimpleNamespace

import pytest

from dspex_actors.errors import ConfigError
from dspex_actors.journal.errors import Fenced, JournalError
from dspex_actors.journal.writer import Journal
from dspex_actors.runs.keeper import actor, evaluators
from dspex_actors.runs.keeper.actor import Runs
from dspex_actors.runs.keeper.evaluators import Evaluators
from dspex_actors.runs.keeper.waiting import Waiting
from dspex_actors.runs.standby.leading import Leading
from supervisors import ExitReason, Ref
from supervisors.errors import AlreadyStarted, ServerExited, SupervisorsError
from supervisors.host import processes

HERE = Ref("127.0.0.1", 1, os.getpid(), processes.born(os.getpid()), "run:r")


@pytest.fixture
def keeper(tmp_path, monkeypatch):
    """A keeper that is no process; who it starts is in `started`, and `answers` says what each start comes to."""
    made = Runs.__new__(Runs)
    made._journal, made._notes = Journal(tmp_path / "journal.db"), {}
    made._leading = Leading(SimpleNamespace(node={"data_dir": tmp_path}), made._journal, None, None)
    made._waiting = Waiting(made, made._is_under_way)
    made._evaluators = Evaluators(made, made._journal, 2, made._leading.has, made._halt)
    made.started, made.answers, made.watched, made.spawned = [], [], [], []

    async def take(row, *, force):
        return row

    async def start_child(supervisor, spec):
        made.started.append(spec)
        answer = made.answers.pop(0) if made.answers else HERE
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def delete_child(supervisor, name):
        return None

    async def there(*_):
        return None

    monkeypatch.setattr(made._leading, "take", take)
    monkeypatch.setattr(evaluators, "ensure_branch", there)
    monkeypatch.setattr(evaluators, "START_SECONDS", 0.0)
    made.start_child, made.delete_child, made.monitor = start_child, delete_child, made.watched.append
    made.spawn = lambda coroutine: made.spawned.append(asyncio.ensure_future(coroutine))
    yield made
    made._journal.close()


def away(*_):
    raise JournalError("away")


def create(keeper, **spec):
    return asyncio.run(keeper._answer(("create", {"run_id": "r", **spec}, False)))


def told(keeper):
    return [spec.args[2] for spec in keeper.started]


def test_the_first_evaluator_of_a_run_is_told_what_it_would_ask_for(keeper):
    create(keeper, program=b"p", metric=b"m")
    (found,) = told(keeper)
    assert (found["program"], found["metric"], found["epoch"], found["depth"]) == (b"p", b"m", 1, 1)
    assert keeper._journal.get_run("r").epoch == 1
    assert keeper.watched == [HERE]


def test_one_that_is_started_again_opens_the_run_itself(keeper):
    """Its batches would be taken for those of the first one, which may have written some."""
    keeper.answers += [ServerExited("the supervisor ended"), ServerExited("again"), HERE]
    create(keeper)
    first, *later = told(keeper)
    assert first["epoch"] == 1
    assert later == [None, None]


def test_none_is_started_again_by_its_supervisor(keeper):
    create(keeper)
    assert [spec.restart for spec in keeper.started] == ["temporary"]


def test_one_that_died_is_started_again_by_the_keeper_and_opens_the_run_itself(keeper):
    async def die():
        await keeper._answer(("create", {"run_id": "r"}, False))
        keeper._evaluators.down(HERE, ExitReason("killed", None))
        await asyncio.gather(*keeper.spawned)

    asyncio.run(die())
    assert [found is None for found in told(keeper)] == [False, True]


def test_one_that_dies_while_the_journal_is_away_is_there_again_at_once_and_one_that_ended_is_looked_at_later(
    keeper, monkeypatch
):
    later = []
    keeper.send_after = lambda seconds, message: later.append(message)
    done, killed = ExitReason("normal", None), ExitReason("killed", None)

    async def die(reason):
        keeper._evaluators.ended("r", reason)
        await asyncio.gather(*keeper.spawned)

    create(keeper)
    with monkeypatch.context() as patch:
        patch.setattr(keeper._journal, "get_run", away)
        asyncio.run(die(done))
        assert (len(keeper.started), later) == (1, [("ended", "r", done)])
        keeper.spawned.clear()
        for _ in range(evaluators.MAX_FALLS + 1):
            asyncio.run(die(killed))
            keeper.spawned.clear()
    assert told(keeper)[1:] == [None] * evaluators.MAX_FALLS
    assert later[1:] == [("ended", "r", killed)]


def test_a_run_that_goes_on_is_opened_by_its_evaluator(keeper):
    create(keeper)
    keeper._journal.set_state("r", "paused")
    create(keeper)  # under its id
    asyncio.run(keeper._answer(("resume", "r", False)))
    assert told(keeper)[1:] == [None, None]


def test_one_that_is_there_already_is_watched(keeper):
    there = AlreadyStarted("there")
    there.ref = HERE
    keeper.answers.append(there)
    create(keeper)
    assert keeper.watched == [HERE]


def test_what_is_large_is_not_told_at_the_start(keeper):
    create(keeper, program=bytes(actor.MOST_TOLD + 1))
    assert told(keeper) == [None]
    assert keeper._journal.get_run("r").epoch == 0


def test_a_journal_that_is_away_when_the_run_is_there_leaves_the_opening_to_its_evaluator(keeper, monkeypatch):
    monkeypatch.setattr(actor, "opened", away)
    assert create(keeper)["state"] == "running"
    assert told(keeper) == [None]


def test_a_run_that_is_paused_as_it_is_put_in_is_put_in_and_its_evaluator_does_not_open_it(keeper, monkeypatch):
    async def take(row, *, force):
        keeper._journal.set_state("r", "paused")
        return row

    monkeypatch.setattr(keeper._leading, "take", take)
    create(keeper)
    assert told(keeper) == [None]
    with pytest.raises(Fenced, match="run r is paused"):
        asyncio.run(keeper._answer(("open", "r")))


def test_one_that_cannot_be_started_is_written_down(keeper):
    keeper.answers.append(SupervisorsError("no"))
    with pytest.raises(ConfigError, match="cannot start"):
        create(keeper)
    assert keeper._journal.get_run("r").state == "failed"
