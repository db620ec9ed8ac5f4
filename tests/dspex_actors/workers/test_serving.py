"""Inferences in a worker and in the processor: nothing is left of what is given up, whenever that is."""

import asyncio

import pytest

from dspex_actors.cache.key import pack_inputs
from dspex_actors.ecosystem.inference import processor as processor_module
from dspex_actors.ecosystem.inference.messages import Process
from dspex_actors.ecosystem.inference.processor import OutputProcessor
from dspex_actors.foundation.codec import pack
from dspex_actors.runs.spec import dump_code
from dspex_actors.runs.work import Result
from dspex_actors.workers.serving import GiveUp, Inferences, Serve
from supervisors import Ref

HERE = Ref("127.0.0.1", 1, 1, 1, "0" * 16)


class Waits:
    """A runner whose inferences wait until the test lets them go."""

    def __init__(self):
        self.began, self.go = asyncio.Event(), asyncio.Event()

    async def attempt(self, example):
        self.began.set()
        await self.go.wait()
        return Result(prediction=b"x", success=True)


@pytest.mark.parametrize("has_begun", [False, True])
def test_a_worker_has_nothing_left_of_what_is_given_up(has_begun):
    async def main():
        sent, runner = [], Waits()
        serving = Inferences(asyncio.ensure_future, sent.extend)
        serving.begin(runner)
        serving.take(Serve(HERE, [1, 2], [pack_inputs({"n": 1})] * 2, [60.0] * 2, [b""] * 2))
        tasks = list(serving._tasks.values())
        if has_begun:
            await runner.began.wait()
        serving.give_up([1])
        runner.go.set()
        await asyncio.wait(tasks)
        await asyncio.sleep(0)
        assert serving.active == 0
        assert [result.index for result in sent] == [2]

    asyncio.run(main())


class Processor(OutputProcessor):
    """A processor without a node."""

    def __init__(self):
        self.sent = []

    def spawn(self, coroutine):
        return asyncio.ensure_future(coroutine)

    def cast(self, to, message):
        self.sent.append(message)

    def monitor(self, ref):
        pass

    @property
    def ref(self):
        return HERE


@pytest.mark.parametrize("has_begun", [False, True])
def test_the_processor_has_nothing_left_of_what_is_given_up(has_begun, monkeypatch):
    monkeypatch.setattr(processor_module, "report_from_actor", lambda server: None)

    async def main():
        began, go = asyncio.Event(), asyncio.Event()

        async def waits(prediction):
            began.set()
            await go.wait()
            return prediction

        processor = Processor()
        processor.init(dump_code((None, [])))
        processor._check, processor._transformations = lambda fields: None, [("waits", waits)]
        processor.handle_cast(Process(HERE, [1, 2], [pack({"a": 1})] * 2, [b""] * 2))
        tasks = list(processor._tasks.values())
        if has_begun:
            await began.wait()
        processor.handle_cast(GiveUp(HERE, [1]))
        go.set()
        await asyncio.wait(tasks)
        await asyncio.sleep(0)
        assert processor.handle_call("stats", None)["active"] == 0
        assert [message.numbers for message in processor.sent] == [[2]]

    asyncio.run(main())
