"""What an http worker takes, from whom, and how fast; without a node."""

import asyncio
from types import SimpleNamespace

import pytest

import dspex_actors as dspex
from dspex_actors.data.fields import pack_example
from dspex_actors.runs.notes import Notes
from dspex_actors.runs.work import Chunk, Forget, Result, Written
from dspex_actors.workers import task as tasks
from dspex_actors.workers.actor import HttpWorker
from dspex_actors.workers.task import RunTask
from supervisors import Ref

NOW, BEFORE = (Ref("h", port, port, 1, f"{port:016x}") for port in (1, 2))


@pytest.fixture
def task(tmp_path):
    return RunTask("r", NOW, Notes(tmp_path, "r", 1, 1), asyncio.ensure_future, lambda *batch: None)


@pytest.fixture
def worker(task):
    said = []
    log = SimpleNamespace(error=lambda what, **about: said.append(what))
    one = HttpWorker.__new__(HttpWorker)
    one._supervisors_engine = SimpleNamespace(log=log, said=said)
    one._runs, one._notes, one._calls = {"r": task}, {"r": task.notes}, 0
    return one


def test_what_an_earlier_evaluator_said_does_not_hold_for_the_next_one(worker, task):
    task._outbox.add(b"", Result(index=0, send=1))
    task._outbox.next_batch()
    worker.handle_cast(Written("r", BEFORE, 1))
    worker.handle_cast(Forget("r", BEFORE))
    assert (worker._runs, worker._notes) == ({"r": task}, {"r": task.notes})
    assert [one.index for one in task._outbox.take_piece().results] == [0]
    worker.handle_cast(Forget("r", NOW))
    assert (worker._runs, worker._notes) == ({}, {})


def test_a_request_that_is_not_known_is_answered_and_ends_nobody(worker):
    kind, record = worker.handle_call(("lm", "as", "of", "old"), None)
    assert (kind, record["type"]) == ("error", "ConfigError")
    assert worker._supervisors_engine.said == ["an http worker does not know a request"]


@pytest.mark.parametrize(("seconds", "begun"), [(3600.0, 2), (0.0, 10)])
def test_a_limit_that_lets_nobody_ask_is_not_tried_again_at_once(task, monkeypatch, seconds, begun):
    class Refused:
        async def attempt(self, example):
            raise dspex.errors.RateLimited("wait 60 s", retryable=True)

    payload = pack_example(dspex.Example(x=1).with_inputs("x"))

    async def main():
        task.take(Chunk("r", NOW, 2, list(range(10)), [1] * 10, [payload] * 10))
        task.begin(Refused(), {})
        for _ in range(100):
            await asyncio.sleep(0)
        task.cancel()

    monkeypatch.setattr(tasks, "REFUSED_SECONDS", seconds)
    asyncio.run(main())
    assert task.begun == begun
