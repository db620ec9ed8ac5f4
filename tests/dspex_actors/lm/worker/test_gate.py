"""A worker's side of a budget, with a client actor that is a function."""

import asyncio

import pytest

from dspex_actors.errors import Overloaded, RateLimited
from dspex_actors.lm.control.budget import Budget
from dspex_actors.lm.control.messages import Join, Leave, Outcomes, Pause
from dspex_actors.lm.deployment import Limits
from dspex_actors.lm.lm import LM
from dspex_actors.lm.worker.gate import WorkerGate
from dspex_actors.lm.worker.outcome import Outcome
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


def gate_of(worker, lm, revive=nothing):
    """Return a gate in whose worker an LM asks."""
    parts = lm.request([], {}).lm
    gate = WorkerGate(worker, parts.deployment.digest, revive)
    gate.tell(parts.limits)
    return gate


def run(body):
    return asyncio.run(asyncio.wait_for(body(), 10))


def budget(lm):
    made = []

    def answer(request):
        now = asyncio.get_running_loop().time()
        if not made:
            made.append(Budget(lm.rpm, lm.tpm, now))
        return made[0].reserve(request.tokens, now)

    return answer


def test_a_turn_that_does_not_come_in_time_is_refused_and_takes_no_place_in_the_line():
    lm = LM("openai/x", rpm=60)
    leased = []

    def answer(request):
        leased.append(request.tokens)
        return budget_answer(request)

    budget_answer = budget(lm)

    async def body():
        gate = gate_of(Worker(answer), lm, nothing)
        got = await asyncio.gather(*(gate.acquire(10, 1.5) for _ in range(10)), return_exceptions=True)
        refused = [one for one in got if isinstance(one, RateLimited)]
        assert len(refused) >= 7
        assert all(one.retryable for one in refused)
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
            leased.append(request.tokens)
            return [0.0] * len(request.tokens)

        gate = gate_of(Worker(answer), lm, nothing)
        await asyncio.gather(*(gate.acquire(20, 10.0) for _ in range(6)), gate.acquire(500, 10.0))

    run(body)
    assert leased == [[20, 20], [20, 20], [20, 20], [500]]


def test_a_client_actor_that_is_gone_is_revived():
    lm = LM("openai/x", rpm=6000)
    there = []

    def answer(request):
        if len(there) < 2:
            raise NoProcess("client")
        return [0.0] * len(request.tokens)

    async def revive():
        there.append(True)
        if len(there) == 1:
            raise Overloaded("not yet")

    async def body():
        await gate_of(Worker(answer), lm, revive).acquire(10, 5.0)

    run(body)
    assert len(there) == 2


def test_a_reservation_for_a_turn_that_comes_too_late_is_given_back():
    worker = Worker(lambda request: [60.0] * len(request.tokens))

    async def body():
        gate = gate_of(worker, LM("openai/x", tpm=6000), nothing)
        with pytest.raises(RateLimited):
            await gate.acquire(70, 1.0)
        gate._tell()

    run(body)
    assert worker.casts[-1].unused == 70


@pytest.mark.parametrize("turns", [None, 0, 1, 2, 5])
def test_the_reservation_of_a_request_that_is_cancelled_is_given_back(turns):
    """`turns` of the loop after the lease was given; None: while it is being given."""

    async def body():
        leased = asyncio.Event()

        def answer(request):
            leased.set()
            if turns is None:
                waiting.cancel()
            return [60.0] * len(request.tokens)

        worker = Worker(answer)
        gate = gate_of(worker, LM("openai/x", tpm=6000), nothing)
        waiting = asyncio.ensure_future(gate.acquire(30, 100.0))
        await leased.wait()
        for _ in range(turns or 0):
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        gate._tell()
        assert worker.casts[-1].unused == 30

    run(body)


def test_only_a_pause_of_all_is_told_to_the_others():
    worker = Worker(None)

    async def body():
        gate = gate_of(worker, LM("openai/x"), nothing)
        error = RateLimited("slow", retry_after=3.0)
        gate.report(Outcome(10, error=error))
        assert [type(message) for message in worker.casts] == [Join]
        gate.report(Outcome(10, error=error, pause=3.0))
        assert worker.casts[-1] == Pause(LM("openai/x").deployment, 3.0, "me")

    run(body)


def test_new_limits_hold_at_once_and_are_told_and_the_smallest_wins():
    worker = Worker(None)

    async def body():
        gate = gate_of(worker, LM("openai/x", rpm=60))
        assert not gate.tell(Limits(60.0))
        assert gate.tell(Limits(30.0, None, 4))
        assert gate.limits == Limits(30.0, None, 4)
        assert [limits for limits, _ in worker.casts[-1].told] == [(60.0, None, None), (30.0, None, 4)]
        gate.rule(Limits(10.0, 600.0))
        assert gate.limits == Limits(10.0, 600.0, 4)

    run(body)


def test_what_other_workers_are_told_holds_for_lms_without_limits_too():
    leased = []

    def answer(request):
        leased.append(request.tokens)
        return [0.0] * len(request.tokens)

    async def body():
        gate = gate_of(Worker(answer), LM("openai/x"))
        await gate.acquire(5, 1.0)
        assert leased == []
        gate.rule(Limits(600.0))
        await gate.acquire(5, 1.0)
        assert leased == [[5]]

    run(body)


def test_a_session_that_is_closed_tells_its_last_counts_and_leaves():
    worker = Worker(None)

    async def body():
        gate = gate_of(worker, LM("openai/x"))
        gate.report(Outcome(10, cancelled=True))
        gate.leave()
        *_, told, left = worker.casts
        assert (told, left) == (Outcomes("me", (((None, None, None), told.told[0][1]),), {"cancelled": 1}), Leave("me"))

    run(body)
