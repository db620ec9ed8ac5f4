"""Calls of a run that wait for batches: who pays, what is the same, and what the collector may say."""

import asyncio
import json
import sqlite3
from types import SimpleNamespace

import pytest

import dspex_actors as dspex
from dspex_actors.lm.attempts import Ledger
from dspex_actors.lm.batches import collector as collecting
from dspex_actors.lm.batches.collector import Batches
from dspex_actors.lm.batches.messages import AskInBatch, BatchNews, EndBatches, InBatch
from dspex_actors.lm.batches.store import ANSWERED, FAILED, BatchStore
from dspex_actors.lm.batches.store import _Transaction as Transaction
from dspex_actors.lm.worker import batched
from dspex_actors.lm.worker.batched import Batched
from dspex_actors.lm.worker.caching import AnswerCache
from supervisors import NO_REPLY, Ref
from supervisors.errors import ServerExited

REF = Ref("127.0.0.1", 1, 1, 1, "0" * 16)
MESSAGES = [{"role": "user", "content": "hi"}]
BODY = json.dumps(
    {
        "model": "m",
        "choices": [{"message": {"content": "fine"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1_000_000, "completion_tokens": 0},
    }
).encode()


def lm(**settings):
    return dspex.LM("openai/gpt-5", **{"cache": False, **settings})


def ledger(index=0, send=1):
    return Ledger(index, send, run="run", batch=(1.0, 1.0))


class Worker:
    """Asks a collector that says what it is told to."""

    ref = REF

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    async def call(self, name, request, timeout):  # noqa: ASYNC109 - as a server's
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if asyncio.isfuture(answer):
            return await answer
        return answer(request) if callable(answer) else answer


def answered(request, place=None, status=200, body=BODY):
    return ("answer", status, "req_1", body, request.place if place is None else place, 100.0)


def complete(tmp_path, worker, *calls):
    """Answer calls, each an LM and a ledger, one after the other."""

    async def main():
        side = Batched(worker, AnswerCache(tmp_path))
        return [await side.complete(one.request(MESSAGES, {}), book) for one, book in calls]

    return asyncio.run(main())


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(batched, "AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(batched, "DISK_SECONDS", 0.01)


def test_an_answer_is_booked_as_the_request_that_was_first_at_half_the_price(tmp_path):
    book = ledger(index=7, send=9)
    worker = Worker(lambda request: answered(request, place=(7, 2, 5)))
    (reply,) = complete(tmp_path, worker, (lm(), book))
    assert (reply.text, reply.cost, reply.asked) == ("fine", pytest.approx(0.625), 1)
    (row,) = book.attempts
    assert (row.index, row.send, row.n, row.outcome, row.cost) == (7, 2, 5, "answered", pytest.approx(0.625))


def test_a_collector_that_dies_or_has_no_disk_is_asked_again(tmp_path):
    worker = Worker(ServerExited("gone"), ("again", "no space"), answered)
    (reply,) = complete(tmp_path, worker, (lm(), ledger()))
    assert reply.text == "fine"
    assert len({request.key for request in worker.asked}) == 1


def test_the_same_question_of_an_example_is_another_request_each_time_but_not_after_a_kill(tmp_path):
    book, again, other = ledger(), ledger(send=2), ledger(index=1)
    worker = Worker(*[answered] * 4)
    complete(tmp_path, worker, (lm(), book), (lm(), book), (lm(), again), (lm(), other))
    first, second, after, others = (request.key for request in worker.asked)
    assert first == after
    assert len({first, second, others}) == 3


def test_where_answers_are_cached_equal_questions_are_one_request_and_one_pays(tmp_path):
    book, other = ledger(), ledger(index=1)

    async def main():
        side = Batched(worker, AnswerCache(tmp_path))
        request = lm(cache=True).request(MESSAGES, {})
        tasks = [asyncio.create_task(side.complete(request, one)) for one in (book, other)]
        while len(worker.asked) < 2:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0)
        for future, place in zip(futures, ((0, 1, 1), None), strict=True):
            future.set_result(("answer", 200, None, BODY, place, 100.0))
        replies = await asyncio.gather(*tasks)
        assert (await side.complete(request, ledger(index=2))).cached == "memory"
        return replies

    loop = asyncio.new_event_loop()
    futures = [loop.create_future() for _ in range(2)]
    worker = Worker(*futures)
    mine, theirs = loop.run_until_complete(main())
    loop.close()
    assert len({request.key for request in worker.asked}) == 1
    assert (mine.cached, theirs.cached, theirs.cost, theirs.asked) == (None, "memory", 0.0, 0)
    assert (len(book.attempts), len(other.attempts)) == (1, 0)


def test_what_is_given_up_in_a_batch_is_booked_as_lost_and_what_is_in_none_is_not(tmp_path):
    async def main(tell):
        future = asyncio.get_running_loop().create_future()
        worker, book = Worker(future), ledger()
        side = Batched(worker, AnswerCache(tmp_path))
        task = asyncio.create_task(side.complete(lm().request(MESSAGES, {}), book))
        while not worker.asked:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0)
        side.hear(BatchNews("run", "batch of 5: 2 done"))
        assert book.waits_for == "batch of 5: 2 done"
        if tell:
            side.hear(InBatch("run", [worker.asked[0].key], [worker.asked[0].place]))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert book.waits_for is None
        return [(row.outcome, row.cost) for row in book.attempts]

    assert asyncio.run(main(True)) == [("lost", None)]
    assert asyncio.run(main(False)) == []


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (("error", {"type": "AuthError", "message": "no key"}), dspex.AuthError),
        (("answer", 500, None, b'{"error": {"message": "oh"}}', (0, 1, 1), 1.0), dspex.Overloaded),
        (("answer", 200, None, b"<html>", (0, 1, 1), 1.0), dspex.Overloaded),
    ],
)
def test_a_failure_is_an_error_of_its_call(tmp_path, answer, kind):
    with pytest.raises(kind) as error:
        complete(tmp_path, Worker(answer), (lm(), ledger()))
    assert (error.value.provider, error.value.model) == ("openai", "gpt-5")


@pytest.mark.parametrize("model", ["gemini/gemini-2.5-flash", "embedded/nearest"])
def test_an_lm_without_batches_is_refused_also_where_nobody_saw_it_before(tmp_path, model):
    worker = Worker()
    with pytest.raises(dspex.ConfigError, match="batch is invalid with"):
        complete(tmp_path, worker, (dspex.LM(model), ledger()))
    assert worker.asked == []


class Collector(Batches):
    """A collector without a node."""

    def __init__(self, folder):
        self._store = BatchStore(folder / "batches.db")
        self._waiting, self._workers, self._rounds, self._carriers, self._told = {}, {}, {}, {}, {}
        self.spawned = []

    def _start(self, coroutine):
        coroutine.close()
        self.spawned.append(coroutine)

    def when_given_up(self, caller, function):
        self.gone = function


def asks(number):
    deployment = {"provider": "openai", "model_name": "m", "base_url": None, "api_key": None}
    return AskInBatch("run", b"%d" % number, deployment, "chat", b"{}", (number, 1, 1), (1.0, 1.0), REF)


def test_a_full_disk_is_waited_for(tmp_path):
    collector = Collector(tmp_path)
    assert collector.handle_call(asks(1), None) is NO_REPLY
    store = collector._store

    def full(*asked):
        raise sqlite3.OperationalError("database or disk is full")

    collector._store = SimpleNamespace(find=store.find, line_for=full)
    kind, why = collector.handle_call(asks(2), None)
    assert (kind, "disk is full" in why) == ("again", True)
    collector._store = store
    assert collector.handle_call(asks(2), None) is NO_REPLY


def test_what_is_given_up_before_it_is_in_a_batch_is_not_submitted(tmp_path):
    collector = Collector(tmp_path)
    collector.handle_call(asks(1), None)
    assert len(collector.spawned) == 1  # a round has begun
    collector.gone()
    assert collector._store.find("run", b"1") is None
    assert (collector._waiting, collector._workers) == ({}, {})


class FullDisk:
    """A store that can read, and write nothing more."""

    def __init__(self, store):
        self._store = store

    def __getattr__(self, name):
        if name in ("drop", "told", "end_run", "change"):
            raise sqlite3.OperationalError("database or disk is full")
        return getattr(self._store, name)


def test_all_that_wait_for_a_batch_are_answered_though_the_disk_is_full(tmp_path):
    """What is on the disk already is told once only: whoever is passed over would wait for ever."""
    collector = Collector(tmp_path)
    collector.handle_call(asks(1), "one")
    collector.handle_call(asks(2), "two")
    store = collector._store
    batch = store.begin(store.line_for(asks(1)).id, 10, 10**6, 100)
    first, second = store.keys_of(batch.id)
    rows = store.set_results(
        batch.id, [(first.id, ANSWERED, 200, None, BODY), (second.id, FAILED, 0, None, b'{"type": "LMError"}')]
    )
    replies = []
    collector.reply = lambda caller, answer: replies.append((caller, answer[0]))
    collector._store = FullDisk(store)
    collector._have("run", rows)
    assert replies == [("one", "answer"), ("two", "error")]
    assert (collector._waiting, collector._workers) == ({}, {})


def test_the_end_of_a_run_is_asked_for_again_while_the_disk_is_full_and_its_batches_end_all_the_same(tmp_path):
    collector, ended, errors = Collector(tmp_path), [], []
    collector._store = FullDisk(collector._store)
    collector.reply_error = lambda caller, error: errors.append(str(error))

    def cancel():
        raise sqlite3.OperationalError("database or disk is full")

    line = SimpleNamespace(run="run")
    for number in (1, 2):
        collector._carriers[number] = SimpleNamespace(
            line=line, end=lambda number=number: ended.append(number), cancel=cancel
        )
    assert collector.handle_call(EndBatches("run"), None) is NO_REPLY
    assert ended == [1, 2]
    assert "disk is full" in errors[0]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), sqlite3.OperationalError("disk is full")])
def test_a_batch_that_cannot_be_written_to_its_file_waits_for_the_disk(tmp_path, monkeypatch, error):
    monkeypatch.setattr(collecting, "_DISK_SECONDS", 0.0)
    collector, carried = Collector(tmp_path), []
    monkeypatch.setattr(Collector, "log", SimpleNamespace(error=lambda *args, **about: None))
    collector._carry = carried.append

    async def full():
        raise error

    asyncio.run(collector._run(SimpleNamespace(run=full, batch="batch")))
    assert carried == ["batch"]


def test_a_transaction_whose_commit_fails_leaves_none_open(tmp_path):
    store = BatchStore(tmp_path / "batches.db")

    class Refuses:
        """A connection whose first commit fails."""

        def __init__(self, db):
            self.db, self.fails = db, True

        def execute(self, statement):
            if statement == "COMMIT" and self.fails:
                self.fails = False
                raise sqlite3.OperationalError("database or disk is full")
            return self.db.execute(statement)

        in_transaction = property(lambda self: self.db.in_transaction)

    db = Refuses(store._db)
    with pytest.raises(sqlite3.OperationalError, match="full"), Transaction(db):
        pass
    assert not store._db.in_transaction

    def rolled_back_by_sqlite():
        with Transaction(db):
            db.execute("ROLLBACK")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        rolled_back_by_sqlite()
    with Transaction(db):
        pass
