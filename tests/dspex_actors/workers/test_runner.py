"""Whatever a program or metric does, its example has a result that can be sent, written down and counted."""

import asyncio
import contextlib
import sys
import threading
import time

import orjson
import pytest

import dspex_actors as dspex
from dspex_actors.data.fields import pack_example
from dspex_actors.errors import (
    AdapterParseError,
    DeadlineExceeded,
    InvalidRequest,
    Overloaded,
    RateLimited,
    Timeout,
)
from dspex_actors.lm.attempts import Attempt, Ledger, current_ledger
from dspex_actors.lm.backend import set_process_backend
from dspex_actors.lm.reply import LMReply
from dspex_actors.lm.usage import Usage
from dspex_actors.runs.snapshot import Surroundings
from dspex_actors.runs.spec import Job
from dspex_actors.workers import calling
from dspex_actors.workers.evaluate_runner import EvaluateRunner
from dspex_actors.workers.runner import error_record, run_example

PAYLOAD = pack_example({"ticket": "x"}, ["ticket"])


class Broken(Exception):
    def __str__(self):
        raise RuntimeError("no words")


async def cancelled_inside():
    task = asyncio.ensure_future(asyncio.sleep(60))
    task.cancel()
    await task


def runner(program, metric=lambda *_: True):
    one = EvaluateRunner.__new__(EvaluateRunner)
    one._program, one._metric = calling.Program(program), calling.Metric(metric)
    one._surroundings = Surroundings(Job("run", "evaluate", b"", b""))
    return one


def do(act, metric=lambda *_: True):
    class Program(dspex.Module):
        async def aforward(self, ticket):
            return dspex.Prediction(out=await act())

    return asyncio.run(run_example(runner(Program(), metric), PAYLOAD))


def raising(error):
    async def act():
        raise error

    return act


@pytest.mark.parametrize(
    ("act", "kind", "message"),
    [
        (raising(ValueError("half \ud800 a pair")), "ValueError", r"half \ud800 a pair"),
        (raising(Broken()), "Broken", "(its text cannot be had: RuntimeError)"),
        (raising(SystemExit(3)), "SystemExit", "3"),
        (raising(KeyboardInterrupt()), "KeyboardInterrupt", ""),
        (raising(GeneratorExit()), "GeneratorExit", ""),
        (raising(BaseExceptionGroup("two", [KeyboardInterrupt()])), "BaseExceptionGroup", "two (1 sub-exception)"),
        (raising(RateLimited("slow", retry_after=object())), "RateLimited", "slow"),
        (raising(AdapterParseError("no", completion="\udc00", found=[10**30])), "AdapterParseError", "no"),
        (cancelled_inside, "CancelledError", ""),
    ],
)
def test_every_error_is_a_record_that_can_be_written_down(act, kind, message):
    error = do(act).error
    assert (error["type"], error["message"]) == (kind, message)
    orjson.dumps(error)


def test_a_run_that_is_dropped_does_not_answer():
    async def go():
        started = asyncio.Event()

        class Waits(dspex.Module):
            async def aforward(self, ticket):
                started.set()
                await asyncio.sleep(60)

        task = asyncio.ensure_future(run_example(runner(Waits()), PAYLOAD))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(go())


class Scripted:
    """A backend: gives replies and raises errors in turn, and books the requests that it would have made."""

    def __init__(self, *script):
        self.script = list(script)
        self.asked = 0

    def complete(self, request):
        self.asked += 1
        item = self.script.pop(0)
        failed = isinstance(item, Exception)
        for place in range(item.asked or 0):
            ledger = current_ledger()
            outcome = "failed" if failed or place < item.asked - 1 else "answered"
            ledger.book(Attempt(0, 1, ledger.begin(0.0, "openai", "m", 1), 0.0, "openai", "m", outcome))
        if failed:
            raise item
        return item

    async def acomplete(self, request):
        return self.complete(request)


@pytest.fixture
def backend():
    def use(*script):
        made = Scripted(*script)
        set_process_backend(made)
        return made

    yield use
    set_process_backend(None)


def reply(text, asked=1, cost=0.5):
    return LMReply(text, Usage(input_total=10), cost=cost, model="m", asked=asked)


def outcomes(result):
    return [attempt.outcome for attempt in result.attempts]


def test_every_request_is_booked_whoever_made_it_and_whatever_came_of_it(backend):
    lm = dspex.LM("openai/x")

    async def act():
        await lm.acall("directly")
        with contextlib.suppress(Overloaded):
            await lm.acall("in vain")
        return (await dspex.Predict("a -> b").acall(a="x", lm=lm)).b

    backend(
        reply("one"),
        Overloaded("down", asked=6),
        reply("[[ ## b ## ]]\nB", asked=2),
        reply("judged"),
    )
    found = do(act, metric=lambda *_: lm("judge").text == "judged")
    assert (found.error, found.score) == (None, 1.0)
    assert outcomes(found) == ["answered", *["failed"] * 6, "failed", "answered", "answered"]
    assert [attempt.n for attempt in found.attempts] == list(range(1, 11))


def test_the_requests_of_a_call_that_fails_the_example_are_booked_once(backend):
    backend(Overloaded("down", asked=6))
    found = do(lambda: dspex.LM("openai/x").acall("q"))
    assert (found.error["type"], outcomes(found)) == ("Overloaded", ["failed"] * 6)


class RateLimitedOfAUser(Exception):
    pass


RateLimitedOfAUser.__name__ = "RateLimited"


@pytest.mark.parametrize(
    ("error", "failure", "again"),
    [
        (Overloaded("down", retryable=True), "Overloaded", "yes"),
        (Timeout("late", retryable=True), "Timeout", "yes"),
        (DeadlineExceeded("late"), "DeadlineExceeded", "yes"),
        (DeadlineExceeded("it was 429 until then", status=429), "DeadlineExceeded", "free"),
        (RateLimited("slow", retryable=True), "RateLimited", "free"),
        (RateLimited("the request is larger than a minute's budget", retryable=False), "RateLimited", "no"),
        (InvalidRequest("wrong", retryable=False), "InvalidRequest", "no"),
        (AdapterParseError("no fields"), "AdapterParseError", "no"),
        (ValueError("the program's"), None, "no"),
        (RateLimitedOfAUser("of another family"), None, "no"),
    ],
)
def test_only_what_an_lm_could_not_answer_for_the_moment_is_tried_again(error, failure, again):
    found = do(raising(error))
    assert (found.failure, found.again) == (failure, again)
    assert found.error["type"] == type(error).__name__


@pytest.mark.parametrize(
    ("faults", "asked", "kind"),
    [
        ([Overloaded("down", retryable=True)], 3, None),
        ([RateLimited("slow", retryable=True)] * 2, 4, None),
        ([RateLimited("slow", retryable=True)] * 3, 4, "RateLimited"),
        ([InvalidRequest("wrong", retryable=False)], 2, "InvalidRequest"),
    ],
)
def test_a_judge_that_fails_for_the_moment_is_asked_again_and_the_program_not(backend, faults, asked, kind):
    lm = dspex.LM("openai/x")
    made = backend(reply("prediction"), *faults, reply("judged"))
    found = do(lambda: lm.acall("program"), metric=lambda *_: lm("judge").text == "judged")
    assert (made.asked, found.score) == (asked, None if kind else 1.0)
    assert (found.error or {}).get("type") == kind
    assert found.prediction is not None
    assert found.again == "no"


def within(seconds, program):
    ledger = Ledger(seconds=seconds)
    begun = time.monotonic()
    found = asyncio.run(run_example(runner(program), PAYLOAD, ledger=ledger))
    assert time.monotonic() - begun < 60
    assert found.error["type"] == "DeadlineExceeded"
    assert f"deadline={seconds:g} s" in found.error["message"]
    assert found.again == "no"
    return found


def test_an_example_has_a_deadline_though_its_thread_cannot_be_ended(backend):
    lm = dspex.LM("openai/x")
    made = backend(reply("late"))
    go_on, ended = threading.Event(), threading.Event()
    raised = []

    class Blocks(dspex.Module):
        def forward(self, ticket):
            go_on.wait(20)
            try:
                current_ledger().left()
                lm("too late")
            except DeadlineExceeded as error:
                raised.append(error)
            ended.set()

    async def go():
        # Not `asyncio.run`, which waits for its threads.
        return await run_example(runner(Blocks()), PAYLOAD, ledger=Ledger(seconds=0.05))

    loop = asyncio.new_event_loop()
    found = loop.run_until_complete(go())
    assert found.error["type"] == "DeadlineExceeded"
    go_on.set()
    assert ended.wait(60)
    loop.close()
    assert raised
    assert made.asked == 0


def test_an_async_example_has_a_deadline():
    class Waits(dspex.Module):
        async def aforward(self, ticket):
            await asyncio.Event().wait()

    within(0.05, Waits())


def test_what_an_example_leaves_behind_is_ended_and_booked():
    class Leaves(dspex.Module):
        async def aforward(self, ticket):
            async def asks():
                ledger = current_ledger()
                ledger.calls.add(asyncio.current_task())
                number = ledger.begin(0.0, "openai", "m", 1)
                started.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    ledger.book(Attempt(0, 1, number, 0.0, "openai", "m", "cancelled"))

            started = asyncio.Event()
            self.left = asyncio.ensure_future(asks())
            await started.wait()
            return dspex.Prediction(out="done")

    found = asyncio.run(run_example(runner(Leaves()), PAYLOAD))
    assert (found.error, outcomes(found)) == (None, ["cancelled"])


def test_records_of_foreign_errors_have_no_more_than_the_end_of_the_traceback():
    try:
        sys.exit("bye " + "x" * 5000)
    except SystemExit as error:
        record = error_record(error)
    assert len(record["message"]) == 2000
    assert len(record["traceback"]) <= 2000
