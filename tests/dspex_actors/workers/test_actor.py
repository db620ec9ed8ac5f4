"""What an http worker takes, from whom, and how fast; without a node."""

import asyncio
from types import SimpleNamespace

import pytest

import dspex_actors as dspex
from dspex_actors.data.fields import pack_example
from dspex_actors.foundation import ownership
from dspex_actors.lm.attempts import current_ledger
from dspex_actors.runs.notes import Notes
from dspex_actors.runs.work import Chunk, Forget, HandOver, Result, SendAgain, Standing, Stands, StillMine, Written
from dspex_actors.workers import task as tasks
from dspex_actors.workers.actor import HttpWorker
from dspex_actors.workers.task import RunTask
from supervisors import Caller, Down, ExitReason, Ref
from supervisors.errors import CallTimeout, NoProcess

NOW, BEFORE = (Ref("h", port, port, 1, f"{port:016x}") for port in (1, 2))


@pytest.fixture(autouse=True)
def no_timer(monkeypatch):
    """Batches go when a test has them go."""
    monkeypatch.setattr(RunTask, "_batch", lambda self: None)


@pytest.fixture
def task(tmp_path):
    return RunTask("r", NOW, 1, Notes(tmp_path, "r", 1, 1), asyncio.ensure_future, lambda *batch: None, None)


@pytest.fixture
def worker(task):
    said = []
    log = SimpleNamespace(error=lambda what, **about: said.append(what))
    one = HttpWorker.__new__(HttpWorker)
    one._supervisors_engine = SimpleNamespace(log=log, said=said, ref=NOW, monitor=lambda target: 1)
    one._runs, one._notes, one._calls = {"r": task}, {"r": task.notes}, 0
    one._directory = SimpleNamespace(coordinators={})
    return one


def chunk(number, indices, *, sitting=1, window=2, evaluator=NOW, epoch=1):
    count = len(indices)
    return Chunk("r", evaluator, epoch, sitting, number, window, indices, [1] * count, [b"x"] * count)


def test_what_an_earlier_evaluator_said_does_not_hold_for_the_next_one(worker, task):
    worker.handle_cast(chunk(1, []))
    task._outbox.add(b"", Result(index=0, send=1))
    task._outbox.next_batch()
    worker.handle_cast(Written("r", BEFORE, 1, 1))
    worker.handle_cast(Forget("r", BEFORE))
    assert (worker._runs, worker._notes) == ({"r": task}, {"r": task.notes})
    assert [one.index for one in task._outbox.take_piece().results] == [0]
    worker.handle_cast(Forget("r", NOW))
    assert (worker._runs, worker._notes) == ({}, {})


@pytest.mark.parametrize("calls", ["wait", "cancel", "leave"])
def test_an_evaluator_that_another_has_followed_gets_nothing_and_ends_nothing(worker, task, calls):
    """It cannot write it down; and the one that has the run would wait for that for ever."""
    replies = []
    worker.reply = lambda caller, reply: replies.append(reply)

    async def main():
        task.epoch = 2
        task._outbox.add(b"", Result(index=0, send=1))
        for epoch in (1, 2):
            await worker._hand_over(Caller(NOW, 1), HandOver("r", calls, epoch))
            assert task.is_orphan == (epoch == 2 and calls != "leave")

    asyncio.run(main())
    assert [[one.index for one in reply.results] for reply in replies] == [[], [0]]


def test_a_chunk_counts_once_and_in_its_turn(worker, task):
    for number in (1, 1, 3, 2):
        worker.handle_cast(chunk(number, [number]))
    assert [index for index, _, _ in task.queue] == [1, 2]
    assert worker.handle_call(Standing("r", NOW, 1), None) == Stands(knows=True, taken=2, sent=0)
    worker.handle_cast(chunk(3, [9], evaluator=BEFORE, epoch=0))
    assert task.taken == 2
    assert worker._runs == {"r": task}


def test_in_another_sitting_what_was_not_begun_is_dropped_and_what_was_sent_is_sent_again(worker, task):
    sent = []
    task._send = lambda task, number, results: sent.append((task.sitting, number, [one.index for one in results]))
    worker.handle_cast(chunk(1, [0, 1, 2]))
    for index in (5, 6):
        task._outbox.add(b"", Result(index=index, send=1))
        task._flush()
    worker.handle_cast(Written("r", NOW, 1, 1))
    task.orphan()  # its evaluator could not be reached
    assert not worker.handle_call(Standing("r", NOW, 1), None).knows
    worker.handle_cast(chunk(1, [3], sitting=2))
    assert [index for index, _, _ in task.queue] == [3]
    assert sent == [(1, 1, [5]), (1, 2, [6]), (2, 1, [6])]
    worker.handle_cast(SendAgain("r", NOW, 1, 1))  # of the sitting before
    worker.handle_cast(chunk(2, [4], sitting=1))
    assert len(sent) == 3
    worker.handle_cast(SendAgain("r", NOW, 2, 1))
    assert sent[3:] == [(2, 1, [6])]
    assert worker.handle_call(Standing("r", NOW, 2), None) == Stands(knows=True, taken=1, sent=1)


def test_a_worker_that_gets_nothing_more_gives_back_what_it_has_not_begun(worker, task):
    sent = []
    task._send = lambda task, number, results: sent.extend(results)
    worker.handle_cast(chunk(1, [0, 1]))
    worker.handle_cast(chunk(2, [], window=0))
    task._flush()
    assert not task.queue
    assert [(one.index, one.again, one.attempts) for one in sent] == [(0, "free", []), (1, "free", [])]


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
        task.take(Chunk("r", NOW, 1, 1, 1, 2, list(range(10)), [1] * 10, [payload] * 10))
        task.begin(Refused(), {})
        for _ in range(100):
            await asyncio.sleep(0)
        task.cancel()

    monkeypatch.setattr(tasks, "REFUSED_SECONDS", seconds)
    asyncio.run(main())
    assert task.begun == begun


def test_an_evaluator_that_is_back_keeps_what_is_under_way_and_its_end_is_seen_again(worker, task, monkeypatch):
    """The time for a successor began when it could not be reached, and is over long after it is back."""
    timers, monitored = [], []
    worker._loop = SimpleNamespace(call_later=lambda seconds, *what: timers.append(what))
    worker._serving, worker._directory.down = {}, lambda ref: None
    monkeypatch.setattr(HttpWorker, "monitor", lambda self, target: monitored.append(target))

    def lost():
        worker.handle_info(Down(NOW, ExitReason("nodedown", None)))
        return timers[-1]

    worker.handle_cast(chunk(1, []))
    (forget, *about) = lost()
    worker.handle_cast(chunk(1, [], sitting=2))
    assert monitored == [NOW]
    forget(*about)
    assert worker._runs == {"r": task}
    (again, *about_again) = lost()
    forget(*about)  # its time is not that of the second loss
    assert worker._runs == {"r": task}
    again(*about_again)
    assert worker._runs == {}


@pytest.mark.parametrize(
    ("answers", "goes_on"),
    [([True], True), ([False], False), ([CallTimeout("slow"), True], True), ([NoProcess("gone")], False)],
)
def test_a_worker_that_stood_still_begins_nothing_before_its_evaluator_still_counts_on_it(
    worker, task, monkeypatch, answers, goes_on
):
    asked, begun, timers = [], [], []
    monkeypatch.setattr(ownership, "STILL_SECONDS", -1.0)  # every look at the clock finds that it stood still

    async def call(self, target, request, timeout):  # noqa: ASYNC109 - as GenServer has it
        asked.append(request)
        monkeypatch.setattr(ownership, "STILL_SECONDS", 3600.0)
        assert (begun, target) == ([0], NOW)
        if isinstance(answer := answers[len(asked) - 1], Exception):
            raise answer
        return answer

    class Program:
        async def attempt(self, example):
            begun.append(example.x)
            await asyncio.sleep(0)
            await current_ledger().may_ask()
            begun.append(f"asked {example.x}")
            return Result()

    monkeypatch.setattr(HttpWorker, "call", call)
    worker._called = "n/w"

    async def main():
        worker._loop = SimpleNamespace(call_later=lambda seconds, *what: timers.append(what))
        monkeypatch.setattr(ownership, "STILL_SECONDS", 3600.0)
        one = RunTask("r", NOW, 1, task.notes, asyncio.ensure_future, lambda *batch: None, worker._is_mine)
        payloads = [pack_example(dspex.Example(x=x).with_inputs("x")) for x in range(3)]
        one.take(Chunk("r", NOW, 1, 1, 1, 1, [0, 1, 2], [1] * 3, payloads))
        one.begin(Program(), {})
        await asyncio.sleep(0)  # the first one is begun
        monkeypatch.setattr(ownership, "STILL_SECONDS", -1.0)
        for _ in range(100):
            await asyncio.sleep(0)
        one.cancel()
        return one

    one = asyncio.run(main())
    assert asked == [StillMine("r", "n/w", 1)] * len(answers)
    assert begun == ([0, "asked 0", 1, "asked 1", 2, "asked 2"] if goes_on else [0])
    assert (one.is_orphan, len(timers)) == (not goes_on, int(not goes_on))


def test_a_run_whose_evaluator_could_not_be_asked_what_it_is_is_not_known(worker):
    """It may be back in a moment, and counts on what it has sent: it is told that nothing of it is here."""

    async def of_run(run_id, evaluator):
        raise NoProcess("its node is down")

    async def main():
        worker._jobs = SimpleNamespace(of_run=of_run)
        worker._supervisors_engine.spawn = asyncio.ensure_future
        worker.handle_cast(chunk(1, [0, 1], evaluator=NOW, epoch=2))
        await worker._open(worker._runs["r"])
        assert worker.handle_call(Standing("r", NOW, 1), None) == Stands(knows=False)

    asyncio.run(main())
