"""The accounts of a run's limits are there for other nodes, also where no worker of its own node asks for anything."""

import asyncio
import os
from types import SimpleNamespace

import pytest

from dspex_actors.foundation.purses import DOLLAR
from dspex_actors.lm.control import shares, spending
from dspex_actors.lm.control.spending_messages import Fund
from dspex_actors.runs.budget import WHOLE_CALLS, run_budget
from dspex_actors.runs.evaluator import accounts as module
from dspex_actors.runs.evaluator.accounts import make_accounts
from supervisors.cluster.leases.messages import Read
from supervisors.host import processes

LIMITS = {
    "budget": 2.0, "paid": 0.5, "began": 5.0, WHOLE_CALLS: 100,
    "above": {"run_id": "o", "began": 4.0, "budget": 9.0, "paid": 1.0},
    "calls": {"run_id": "o", "began": 4.0, "budget": 100, "paid": 40},
}  # fmt: skip


class Owner(spending.Spending):
    """An owner of limits of a node of a cluster; the store of leases is a dict."""

    node = property(lambda self: self._node)

    def __init__(self, folder, name, store):
        folder.mkdir()
        self._node, self.store = {"data_dir": str(folder)}, store
        self.init()
        self._together, self._shares._uid = True, name

    def send_after(self, seconds, message):
        pass

    async def call(self, to, request, timeout):  # noqa: ASYNC109 - as GenServer has it
        value, version = self.store.get(request.name, (None, 0))
        if isinstance(request, Read):
            return value, version
        assert request.version == version
        self.store[request.name] = request.value, version + 1
        return version + 1


class Evaluator:
    """One on the node of an owner."""

    def __init__(self, owner):
        self.owner, self.node = owner, owner.node
        self.ref = SimpleNamespace(pid=os.getpid(), born=processes.born(os.getpid()))

    async def call(self, name, request):
        if isinstance(request, Fund):
            return await self.owner._answer_shared(request)
        return self.owner.handle_call(request, None)


async def nothing(*about):
    pass


@pytest.fixture
def nodes(tmp_path, monkeypatch):
    monkeypatch.setattr(spending, "report_from_actor", lambda actor: None)
    monkeypatch.setattr(shares, "ensure_leases", nothing)
    monkeypatch.setattr(module, "ensure", nothing)
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(module, "others_of", lambda folder: ["b"])
    store = {}
    return [Owner(tmp_path / name, name, store) for name in "ab"]


async def asked_at(owner):
    """Return what a worker of a node that does not coordinate the run is told, of the money and of the calls."""
    budget = run_budget("r", LIMITS, is_far=True)
    holder, told = f"{os.getpid()}-{processes.born(os.getpid())}", []
    for slot, accounts in enumerate((sorted([budget.account, *budget.above]), [budget.calls])):
        _, answer = await owner._answer_shared(Fund("worker", holder, slot + 1, accounts, 0, 1, 1))
        told.append(answer[0])
    return told


def test_a_worker_of_another_node_waits_until_the_evaluator_of_the_run_has_made_its_accounts(nodes):
    async def main():
        here, there = nodes
        assert await asked_at(there) == ["wait", "wait"]
        await make_accounts(Evaluator(here), "r", LIMITS)
        assert await asked_at(there) == ["given", "given"]
        assert (here._book.purses, here._refs) == ({}, {})  # nothing is held back for who asks for nothing
        assert here._book.spent == {"run:r#5000": DOLLAR // 2, "run:o#4000": DOLLAR, "run:o#calls-4000": 40}

    asyncio.run(main())


def test_a_run_without_a_limit_has_no_account(nodes):
    asyncio.run(make_accounts(Evaluator(nodes[0]), "r", {}))
    assert nodes[0].store == {}
