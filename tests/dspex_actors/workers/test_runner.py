"""Whatever a program or metric does, its example has a result that can be sent, written down and counted."""

import asyncio
import contextlib
import sys

import orjson
import pytest

import dspex_actors as dspex
from dspex_actors.data.fields import pack_example
from dspex_actors.errors import AdapterParseError, Overloaded, RateLimited
from dspex_actors.lm.backend import set_process_backend
from dspex_actors.lm.reply import LMReply
from dspex_actors.lm.usage import Usage
from dspex_actors.workers.calling import Metric
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
    one._program, one._metric, one._lm = program, Metric(metric), None
    return one


def do(act, metric=lambda *_: True):
    class Program(dspex.Module):
        async def aforward(self, ticket):
            return dspex.Prediction(out=await act())

    names = ("prediction", "score", "error", "latency", "usage", "asked", "cost", "success")
    return dict(zip(names, asyncio.run(run_example(runner(Program(), metric), PAYLOAD)), strict=True))


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
        (raising(RateLimited("slow", retry_after=object())), "RateLimited", "slow"),
        (raising(AdapterParseError("no", completion="\udc00", found=[10**30])), "AdapterParseError", "no"),
        (cancelled_inside, "CancelledError", ""),
    ],
)
def test_every_error_is_a_record_that_can_be_written_down(act, kind, message):
    error = do(act)["error"]
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
    """A backend: gives replies and raises errors in turn."""

    def __init__(self, *script):
        self.script = list(script)

    def complete(self, request):
        item = self.script.pop(0)
        if isinstance(item, Exception):
            raise item
        return item

    async def acomplete(self, request):
        return self.complete(request)


@pytest.fixture
def backend():
    yield lambda *script: set_process_backend(Scripted(*script))
    set_process_backend(None)


def reply(text, asked=1, cost=0.5):
    return LMReply(text, Usage(input_total=10), cost=cost, model="m", asked=asked)


def test_every_request_is_counted_whoever_made_it_and_whatever_came_of_it(backend):
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
    assert (found["error"], found["score"], found["asked"], found["cost"]) == (None, 1.0, 6 + 1 + 2 + 1, 1.5)
    assert found["usage"]["input_total"] == 30


def test_the_requests_of_a_call_that_fails_the_example_are_counted_once(backend):
    backend(Overloaded("down", asked=6))
    found = do(lambda: dspex.LM("openai/x").acall("q"))
    assert (found["error"]["type"], found["asked"], found["usage"]) == ("Overloaded", 6, None)


def test_records_of_foreign_errors_have_no_more_than_the_end_of_the_traceback():
    try:
        sys.exit("bye " + "x" * 5000)
    except SystemExit as error:
        record = error_record(error)
    assert len(record["message"]) == 2000
    assert len(record["traceback"]) <= 2000
