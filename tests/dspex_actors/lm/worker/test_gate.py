"""A worker's side of a budget, with a client actor that is a function."""

import asyncio

import pytest

from dspex_actors.errors import Overloaded, RateLimited
from dspex_actors.lm.control.budget import Budget
from dspex_actors.lm.lm import LM
from dspex_actors.lm.worker.gate import WorkerGate
from dspex_actors.lm.worker.session import Outcome
from supervisors.errors import NoProcess


class Worker:
    """Stands for the http worker; `answer(request)` is the client actor."""

    ref = "me"

    def __init__(self, answer):
        self.answer = answer
        self.casts = []

    def cast(self, target, message):
        self.casts.append(message)

    async def call(self, target, request):
        await asyncio.sleep(0)
        return self.answer(request)

    def spawn(self, coroutine):
        return asyncio.ensure_future(coroutine)


async def nothing():
    pass


def run(body):
    return asyncio.run(asyncio.wait_for(body(), 10))


def budget(lm):
    made = []

    def answer(request):
        now = asyncio.get_running_loop().time()
        if not made:
            made.append(Budget(lm.rpm, lm.tpm, now))
        return made[0].reserve(request[1], now)

    return answer


def test_a_turn_that_does_not_come_in_time_is_refused_and_takes_no_place_in_the_line():
    lm = LM("openai/x", rpm=60)
    leased = []

    def answer(request):
        leased.append(request[1])
        return budget_answer(request)

    budget_answer = budget(lm)

    async def body():
        gate = WorkerGate(Worker(answer), lm, nothing)
        got = await asyncio.gather(*(gate.acquire(10, 1.5) for _ in range(10)), return_exceptions=True)
        refused = [one for one in got if isinstance(one, RateLimited)]
        assert len(refused) >= 7
        assert all(one.retryable is False for one in refused)
        begun = asyncio.get_running_loop().time()
        await gate.acquire(10, 10.0)
        assert asyncio.get_running_loop().time() - begun < 4.0
        assert sum(map(len, leased)) <= 5

    run(body)


def test_one_lease_is_no_more_than_the_token_rate_lets_through():
    lm = LM("openai/x", tpm=6000)
    leased = []

    async def body():
        def answer(request):
            leased.append(request[1])
            return [0.0] * len(request[1])

        gate = WorkerGate(Worker(answer), lm, nothing)
        await asyncio.gather(*(gate.acquire(20, 10.0) for _ in range(6)), gate.acquire(500, 10.0))

    run(body)
    assert leased == [[20, 20], [20, 20], [20, 20], [500]]


def test_a_client_actor_that_is_gone_is_revived():
    lm = LM("openai/x", rpm=6000)
    there = []

    def answer(request):
        if len(there) < 2:
            raise NoProcess("client")
        return [0.0] * len(request[1])

    async def revive():
        there.append(True)
        if len(there) == 1:
            raise Overloaded("not yet")

    async def body():
        await WorkerGate(Worker(answer), lm, revive).acquire(10, 5.0)

    run(body)
    assert len(there) == 2


def test_a_reservation_for_a_turn_that_comes_too_late_is_given_back():
    worker = Worker(lambda request: [60.0] * len(request[1]))

    async def body():
        gate = WorkerGate(worker, LM("openai/x", tpm=6000), nothing)
        with pytest.raises(RateLimited):
            await gate.acquire(70, 1.0)
        gate._tell()

    run(body)
    assert ("used", 70) in worker.casts


@pytest.mark.parametrize("turns", [None, 0, 1, 2, 5])
def test_the_reservation_of_a_request_that_is_cancelled_is_given_back(turns):
    """`turns` of the loop after the lease was given; None: while it is being given."""

    async def body():
        leased = asyncio.Event()

        def answer(request):
            leased.set()
            if turns is None:
                waiting.cancel()
            return [60.0] * len(request[1])

        worker = Worker(answer)
        gate = WorkerGate(worker, LM("openai/x", tpm=6000), nothing)
        waiting = asyncio.ensure_future(gate.acquire(30, 100.0))
        await leased.wait()
        for _ in range(turns or 0):
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        gate._tell()
        assert ("used", 30) in worker.casts

    run(body)


def test_only_a_pause_of_all_is_told_to_the_others():
    worker = Worker(None)

    async def body():
        gate = WorkerGate(worker, LM("openai/x"), nothing)
        error = RateLimited("slow", retry_after=3.0)
        gate.report(Outcome(10, error=error))
        assert [message[0] for message in worker.casts] == ["join"]
        gate.report(Outcome(10, error=error, pause=3.0))
        assert worker.casts[-1] == ("pause", "me", 3.0)

    run(body)
