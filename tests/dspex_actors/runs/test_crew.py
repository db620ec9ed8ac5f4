"""Whom an evaluator finds to work for its run: without a node."""

import asyncio
from types import SimpleNamespace

from dspex_actors.runs.evaluator.crew import AT_ONCE, Crew
from supervisors import Ref
from supervisors.cluster.membership.messages import Lookup, Member, NodeUp, Subscribe
from supervisors.testing import wait_until_async

HERE = Ref("127.0.0.1", 1, 9, 1, "9" * 16)
#: Nodes that are there, and their hosts: the second five have one host, as all of loopback is one.
HOSTS = {f"n{number}": f"10.0.0.{number}" if number < 5 else f"127.0.0.{number}" for number in range(20)}


class Found:
    """An evaluator that takes in workers, on a node whose membership finds them when it is let."""

    node, ref = {"name": "here"}, HERE

    def __init__(self):
        self.asked, self.most, self.joined_, self.tasks = set(), 0, [], []
        self.let = asyncio.Event()

    async def whereis(self, name):
        return HERE

    async def call(self, target, request, timeout=5.0):  # noqa: ASYNC109 - as a server has it
        if isinstance(request, Subscribe):
            return []
        if not isinstance(request, Lookup):
            return {"workers": 1}
        self.asked.add(request.node)
        self.most = max(self.most, sum(HOSTS[node].startswith("127.") for node in self.asked))
        await self.let.wait()
        self.asked.discard(request.node)
        number = int(request.node[1:])
        return Ref(HOSTS[request.node], 7000, number, 1, f"{number:016x}")

    def spawn(self, coroutine):
        self.tasks.append(asyncio.get_running_loop().create_task(coroutine))
        return self.tasks[-1]

    def monitor(self, ref):
        pass

    def joined(self, hand):
        self.joined_.append(hand.node)

    def rests(self, name, *, rests):
        pass


def test_workers_of_one_host_are_looked_for_a_few_at_a_time_and_hosts_do_not_wait_for_each_other():
    """A node that only works starts its worker then: a hundred of one host at once would leave nothing for the rest."""

    async def body():
        found = Found()
        crew = Crew(found, SimpleNamespace(joined=found.joined, rests=found.rests), "r", 0, None)
        for name, host in HOSTS.items():
            crew.hear(NodeUp(Member(name, name, host, 7000)))
        await wait_until_async(lambda: len(found.asked) == 5 + AT_ONCE, 30.0)
        found.let.set()
        await wait_until_async(lambda: len(found.joined_) == len(HOSTS), 30.0)
        assert found.most == AT_ONCE
        crew.close()
        for task in found.tasks:
            task.cancel()

    asyncio.run(body())
