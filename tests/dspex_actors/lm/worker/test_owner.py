"""Where a worker finds the owner of a deployment's limits: who is asked first says who it is."""

import asyncio
from types import SimpleNamespace

import pytest

import dspex_actors as dspex
from dspex_actors.lm.attempts import Ledger, opened
from dspex_actors.lm.control.budget import Budget
from dspex_actors.lm.control.client import client_name
from dspex_actors.lm.control.messages import GetOwner, Leave, Owned
from dspex_actors.lm.deployment import Limits
from dspex_actors.lm.worker import owner as owners
from dspex_actors.lm.worker.owner import Owner
from supervisors import Ref
from supervisors.errors import CallTimeout, NoProcess

HERE, THERE, EVALUATOR, OWNER = (Ref(host, port, port, 1, f"{port:016x}", 9) for port, host in enumerate("heef", 1))


def worker_that(answers, role="full"):
    casts, watched = [], []

    async def call(target, request, _seconds=None):
        answer = answers(target, request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def whereis(name):
        return HERE

    return SimpleNamespace(
        ref=HERE,
        node={"role": role},
        call=call,
        whereis=whereis,
        cast=lambda target, message: casts.append((target, message)),
        monitor=watched.append,
        casts=casts,
        watched=watched,
    )


def test_who_is_asked_first_says_whose_the_limits_are_and_is_asked_again_when_that_one_is_gone():
    asked, coordinators = [], {}
    deployment = dspex.LM("openai/x").deployment
    worker = worker_that(lambda target, request: asked.append((target, request)) or THERE)
    owner = Owner(worker, deployment_of("openai/x"), coordinators)

    async def body():
        assert await owner.find() == HERE
        assert (owner.target, owner.is_far) == (client_name(deployment), False)
        assert not owner.moved(Owned(deployment, None, "no majority"))
        assert owner.why == "no majority"
        assert owner.moved(Owned(deployment, OWNER))
        assert (owner.target, owner.why, owner.is_far) == (OWNER, "", True)
        assert (worker.casts, worker.watched) == ([(client_name(deployment), Leave(HERE))], [OWNER])
        assert not owner.moved(Owned(deployment, OWNER))
        assert await owner.find() is None  # it is known
        assert not owner.was(THERE)
        assert owner.was(OWNER)
        coordinators["r"] = EVALUATOR
        async with opened(Ledger(0, 1, run="r")):
            assert await owner.find() == THERE  # a node that works for another one has no client actor of its own
        assert asked == [(EVALUATOR, GetOwner(owner._deployment.model, deployment))]
        assert (owner.target, worker.watched) == (THERE, [OWNER, THERE])
        # The run is over, and the owner that its coordinator knew is there: none is started here.
        coordinators.clear()
        assert await owner.find() is None
        assert owner.was(THERE)
        assert await owner.find() == HERE

    asyncio.run(body())


@pytest.mark.parametrize("cast", [None, OWNER])
@pytest.mark.parametrize("answer", [None, OWNER])
def test_where_a_cast_has_told_of_the_owner_before_the_answer_comes_that_one_is_asked(answer, cast, monkeypatch):
    monkeypatch.setattr(owners, "AGAIN_SECONDS", 0.001)
    deployment = dspex.LM("openai/x").deployment
    owner = Owner(worker_that(lambda *_: THERE), deployment_of("openai/x"), {})

    async def body():
        await owner.find()
        asked = owner.target
        if cast is not None:  # the same process tells it to all of its workers
            owner.moved(Owned(deployment, cast))
        is_known = OWNER in (answer, cast)
        assert await owner.heed(Owned(deployment, answer), asked) is is_known
        assert owner.target == (OWNER if is_known else asked)

    asyncio.run(body())


def test_where_the_coordinators_node_is_gone_the_client_actor_here_is_asked():
    owner = Owner(worker_that(lambda *_: NoProcess("gone")), deployment_of("openai/x"), {"r": EVALUATOR})

    async def body():
        async with opened(Ledger(0, 1, run="r")):
            assert await owner.find() == HERE

    asyncio.run(body())


def test_a_coordinator_that_is_slow_to_answer_is_asked_again_and_nothing_is_started_here(monkeypatch):
    monkeypatch.setattr(owners, "AGAIN_SECONDS", 0.001)
    answers = [CallTimeout("busy"), CallTimeout("busy"), THERE]
    owner = Owner(worker_that(lambda *_: answers.pop(0)), deployment_of("openai/x"), {"r": EVALUATOR})

    async def body():
        async with opened(Ledger(0, 1, run="r")):
            assert await owner.find() == THERE

    asyncio.run(body())
    assert answers == []


def test_on_a_node_that_only_works_the_next_coordinator_is_waited_for(monkeypatch):
    monkeypatch.setattr(owners, "AGAIN_SECONDS", 0.001)
    coordinators, asked = {"r": EVALUATOR}, []

    def answers(target, request):
        asked.append(target)
        if len(asked) == 3:
            coordinators["r"] = OWNER  # the evaluator that follows gives work
        return THERE if target == OWNER else NoProcess("gone")

    owner = Owner(worker_that(answers, "worker"), deployment_of("openai/x"), coordinators)

    async def body():
        async with opened(Ledger(0, 1, run="r")):
            assert await owner.find() == THERE
            assert asked == [EVALUATOR] * 3 + [OWNER]
            del coordinators["r"]  # nobody has followed: the run was forgotten
            owner.was(THERE)
            assert await owner.find() == HERE

    asyncio.run(body())


def test_on_a_node_that_only_works_nobody_waits_without_end_for_a_coordinator(monkeypatch):
    monkeypatch.setattr(owners, "AGAIN_SECONDS", 0.001)
    monkeypatch.setattr(owners, "NEXT_SECONDS", 0.05)
    owner = Owner(worker_that(lambda *_: NoProcess("gone"), "worker"), deployment_of("openai/x"), {"r": EVALUATOR})

    async def body():
        async with opened(Ledger(0, 1, run="r")):
            assert await owner.find() == HERE

    asyncio.run(body())


def deployment_of(model):
    return dspex.LM(model)._parts.deployment


@pytest.mark.parametrize("told_first", [True, False])
def test_an_owner_that_follows_another_gives_no_tokens_for_a_whole_window(told_first):
    budget = Budget(100.0)
    if told_first:
        budget.limit(Limits(tpm=60), 100.0)
    budget.use_all(100.0)
    budget.limit(Limits(tpm=60), 101.0)
    cost = budget.cost(1, 1, None, None, 101.0)
    refusal = budget.buckets.check(cost, 101.0)
    assert refusal.names == ("tpm",)
    assert 58 < refusal.retry_after <= 60
    assert budget.buckets.check(cost, 161.5) is None
