"""What is under way of a stream of inferences, while its node comes and goes."""

import asyncio
import threading
from types import SimpleNamespace

import pytest

from dspex_actors.client import flow
from dspex_actors.client.flow import Flow
from dspex_actors.inference.messages import Answered, Given
from supervisors import ChildSpec, GenServer, Ref
from supervisors.errors import NodeDown

FEEDER = Ref("127.0.0.1", 1, 1, 1, "0" * 16)


class Node:
    """A node that is away for the first request, and while its feeder is looked for then.

    Args:
        heard: whether what was asked then arrived all the same.
    """

    def __init__(self, heard):
        self.heard, self.away, self.got, self.last = heard, 0, [], -1
        self.answers = []

    def whereis(self, name):
        if self.away == 1:
            self.away = 2
            raise NodeDown("away")
        return FEEDER

    def call(self, feeder, request, timeout):
        is_away = self.away == 0
        if not is_away or self.heard:
            for number in request.numbers:
                if number > self.last:  # as a feeder has it
                    self.last = number
                    self.got.append(number)
                    self.answers.append(Answered(number))
        if is_away:
            self.away = 1
            raise NodeDown("away")
        return Given(request.got + 1, self.answers[request.got :], 1)

    def stop(self, name, timeout):
        pass


@pytest.mark.parametrize("heard", [True, False])
def test_inputs_that_were_sent_to_a_node_that_is_away_are_sent_again(monkeypatch, heard):
    """Also where the feeder cannot be looked for at once, as while the door is being restarted."""
    monkeypatch.setattr(flow, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(flow, "MOST_INPUTS", 2)
    node = Node(heard)
    found = Flow(
        SimpleNamespace(node=node), ChildSpec("stream:1", GenServer), lambda n: n, ({"n": n} for n in range(6)), 6,
        ordered=True,
    )  # fmt: skip
    taken = []

    def take():
        while (result := found.next()) is not None:
            taken.append(result.index)

    found.begin(None)
    taker = threading.Thread(target=take, daemon=True)
    taker.start()
    taker.join(20)
    found.close()
    assert taken == list(range(6))
    assert node.got == list(range(6))


def test_who_reads_async_inputs_ends_with_the_stream_though_none_comes():
    ended = []

    async def endless():
        try:
            yield {"n": 1}
            await asyncio.Event().wait()
        finally:
            ended.append("the inputs")

    async def main():
        node = Node(heard=True)
        node.away = 2
        found = Flow(
            SimpleNamespace(node=node), ChildSpec("stream:2", GenServer), lambda n: n, endless(), 6, ordered=True
        )
        loop, there = asyncio.get_running_loop(), asyncio.Event()
        found.begin(loop)
        async with asyncio.timeout(30):
            while found.look(lambda: loop.call_soon_threadsafe(there.set))[0] is None:
                await there.wait()
                there.clear()
            assert not ended
            await asyncio.to_thread(found.close)
            await asyncio.wait([found._reading[1]])

    asyncio.run(main())
    assert ended == ["the inputs"]
