"""A worker's side of a budget, with a client actor that is a function."""

import asyncio
import itertools
import math
import re
from types import SimpleNamespace

import pytest

from dspex_actors.errors import Overloaded, RateLimited
from dspex_actors.lm.control.budget import Budget
from dspex_actors.lm.control.desk import Desk
from dspex_actors.lm.control.messages import InForce, Join, Leased, Leave, Outcomes, Pause
from dspex_actors.lm.deployment import Limits
from dspex_actors.lm.lm import LM
from dspex_actors.lm.usage import Usage
from dspex_actors.lm.worker.gate import WorkerGate
from dspex_actors.lm.worker.outcome import Outcome
from supervisors.errors import NoProcess
from supervisors.testing import wait_until_async


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

    @property
    def settled(self):
        return [row for message in self.casts if isinstance(message, Outcomes) for row in message.settled]


async def nothing():
    pass


def gate_of(worker, lm, revive=nothing):
    """Return a gate in whose worker an LM asks."""
    parts = lm.request([], {}).lm
    owner = SimpleNamespace(target="client", find_anew=revive, is_far=False, why="")
    gate = WorkerGate(worker, parts.deployment.digest, owner, parts.deployment.model)
    gate.tell(parts.limits)
    return gate


def run(body):
    return asyncio.run(asyncio.wait_for(body(), 30))


class Owner:
    """The client actor's side: a desk by the loop's clock, and what it was asked."""

    def __init__(self, lm, now=None):
        self.lm, self.desk, self.asked = lm, None, []

    def __call__(self, request):
        now = asyncio.get_running_loop().time()
        if self.desk is None:
            budget = Budget(now - 100.0)
            budget.limit(self.lm.request([], {}).lm.limits, now - 100.0)
            self.desk = Desk(budget)
        self.asked.append((now, request))
        self.desk.settle(request.settled, request.late, now)
        return self.desk.ask(request.worker, request.asks, request.spare, request.count, now)


def at_once(request):
    return Leased([(ask[0], 100 + ask[0], 0.0) for ask in request.asks], [], [], 0.1, 1.0)


@pytest.mark.soak
def test_who_cannot_have_his_turn_in_time_is_refused_at_once_and_takes_no_place_in_the_line():
    owner = Owner(LM("openai/x", rpm=60))

    async def body():
        loop = asyncio.get_running_loop()
        gate, begun = gate_of(Worker(owner), owner.lm), loop.time()
        calls = [asyncio.ensure_future(gate.acquire(10, 0, 2.5)) for _ in range(10)]
        done, _ = await asyncio.wait(calls, timeout=1.0)
        refused = [one.exception() for one in done if one.exception()]
        assert len(refused) >= 6, "there is no need to wait for what is sure"
        assert all(one.retryable and 2.4 < one.retry_after < 9.5 for one in refused)
        text = r"^openai/x: a turn under rpm=60 does not come in time, and not before \d\.\d s: raise the limit, or"
        assert all(re.match(text, str(one)) for one in refused)
        got = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(one, int) for one in got) >= 2
        await gate.acquire(10, 0, 10.0)
        assert loop.time() - begun < 9.0

    run(body)


def test_not_more_than_ten_messages_a_second_ask_for_turns():
    owner = Owner(LM("openai/x", rpm=60_000))

    async def body():
        gate = gate_of(Worker(owner), owner.lm)
        until = asyncio.get_running_loop().time() + 1.0

        async def caller(number):
            await asyncio.sleep(number / 100)
            while asyncio.get_running_loop().time() < until:
                await gate.acquire(10, 0, 5.0)
                await asyncio.sleep(0.01)

        await asyncio.gather(*(caller(number) for number in range(8)))

    run(body)
    times = [at for at, _ in owner.asked]
    assert len(times) <= 12
    assert all(later - sooner >= 0.09 for sooner, later in itertools.pairwise(times))


def test_where_the_limit_is_far_away_calls_one_after_the_other_do_not_wait_for_messages():
    owner = Owner(LM("openai/x", rpm=60_000))

    async def body():
        gate, made = gate_of(Worker(owner), owner.lm), 0
        until = asyncio.get_running_loop().time() + 1.5
        while asyncio.get_running_loop().time() < until:
            await asyncio.gather(gate.acquire(10, 0, 5.0), gate.acquire(10, 0, 5.0))
            made += 2
            await asyncio.sleep(0.004)
        return made

    assert run(body) > 100
    assert any(request.count for _, request in owner.asked)


def test_leases_that_nobody_wanted_go_back():
    worker = Worker(None)

    def answer(request):
        spares = list(range(900, 900 + request.count))
        return Leased([(ask[0], ask[0], 0.0) for ask in request.asks], [], spares, 0.1, 1.0)

    async def body():
        worker.answer = answer
        gate = gate_of(worker, LM("openai/x", rpm=60_000))
        await asyncio.gather(*(gate.acquire(1, 1, 5.0) for _ in range(3)))
        assert await gate.acquire(1, 1, 5.0) == 900
        gate.leave()

    run(body)
    assert sorted(worker.settled) == [(901, 0, 0, 0), (902, 0, 0, 0)]


def test_what_is_begun_long_after_its_spare_lease_was_given_leaves_its_window_later():
    worker, heard = Worker(None), []

    def answer(request):
        heard.append(request)
        spares = list(range(900, 900 + request.count))
        return Leased([(ask[0], ask[0], 0.0) for ask in request.asks], [], spares, 0.1, 1.0)

    async def body():
        worker.answer = answer
        gate = gate_of(worker, LM("openai/x", rpm=60_000_000))
        await asyncio.gather(*(gate.acquire(1, 1, 5.0) for _ in range(3)))
        assert await gate.acquire(1, 1, 5.0) == 900
        await asyncio.sleep(0.3)
        assert await gate.acquire(1, 1, 5.0) == 901
        gate.leave()

    run(body)
    assert len(heard) == 1
    # On a busy machine others are begun late, too.
    late = dict(row for message in worker.casts if isinstance(message, Outcomes) for row in message.late)
    assert late[901] >= 0.3


def test_spare_leases_that_are_over_go_back_though_nobody_calls():
    worker = Worker(None)

    def answer(request):
        return Leased([(ask[0], ask[0], 0.0) for ask in request.asks], [], [7, 8, 9], 0.1, 0.05)

    async def body():
        worker.answer = answer
        gate = gate_of(worker, LM("openai/x", rpm=60_000))
        await asyncio.gather(*(gate.acquire(1, 1, 5.0) for _ in range(3)))
        await wait_until_async(lambda: len(worker.settled) == 3)

    run(body)
    assert sorted(worker.settled) == [(7, 0, 0, 0), (8, 0, 0, 0), (9, 0, 0, 0)]


@pytest.mark.parametrize("trouble", [Overloaded("not yet"), NoProcess("the registry does not answer")])
def test_a_client_actor_that_is_gone_is_revived(trouble):
    lm = LM("openai/x", rpm=6000)
    there = []

    def answer(request):
        if len(there) < 2:
            raise NoProcess("client")
        return at_once(request)

    async def revive():
        there.append(True)
        if len(there) == 1:
            raise trouble

    async def body():
        await gate_of(Worker(answer), lm, revive).acquire(10, 0, 5.0)

    run(body)
    assert len(there) == 2


@pytest.mark.parametrize("turns", [None, 0, 1, 2, 5])
def test_the_reservation_of_a_request_that_is_cancelled_is_given_back(turns):
    """`turns` of the loop after the lease was given; None: while it is being given."""

    async def body():
        leased = asyncio.Event()

        def answer(request):
            leased.set()
            if turns is None:
                waiting.cancel()
            return Leased([(ask[0], 7, 60.0) for ask in request.asks], [], [], 0.1, 1.0)

        worker = Worker(answer)
        gate = gate_of(worker, LM("openai/x", tpm=6000))
        waiting = asyncio.ensure_future(gate.acquire(20, 10, 100.0))
        await leased.wait()
        for _ in range(turns or 0):
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await wait_until_async(lambda: gate._tell() or worker.settled)
        assert worker.settled == [(7, 0, 0, 0)]

    run(body)


def test_a_request_that_is_late_for_its_turn_gets_another_one():
    """What is sent later would be in another window than the one that was reserved for it."""
    given = []

    def answer(request):
        given.append(request)
        late = -1.0 if len(given) == 1 else 0.0
        return Leased([(ask[0], len(given), late) for ask in request.asks], [], [], 0.1, 0.5)

    async def body():
        worker = Worker(answer)
        gate = gate_of(worker, LM("openai/x", rps=5))
        assert await gate.acquire(1, 1, 5.0) == 2
        assert given[1].settled == [(1, 0, 0, 0)]

    run(body)


def test_what_was_used_is_settled_under_its_lease():
    worker = Worker(at_once)

    async def body():
        gate = gate_of(worker, LM("openai/x", tpm=6000))
        leases = [await gate.acquire(100, 200, 5.0) for _ in range(5)]
        gate.report(Outcome(leases[0], usage=Usage(input_total=90, output_total=20)))
        gate.report(Outcome(leases[1], error=RateLimited("slow", retry_after=3.0)))
        gate.report(Outcome(leases[2], error=Overloaded("broken")))
        gate.report(Outcome(leases[3], usage=Usage(), cancelled=True, was_made=False))
        gate.report(Outcome(leases[4], cancelled=True))
        gate._tell()
        rows = {row[0]: row[1:] for row in worker.settled}
        assert [rows[lease] for lease in leases] == [(1, 90, 20), (1, 0, 0), (1, -1, -1), (0, 0, 0), (1, -1, -1)]

    run(body)


def test_only_a_pause_of_all_is_told_to_the_others():
    worker = Worker(None)

    async def body():
        gate = gate_of(worker, LM("openai/x"))
        error = RateLimited("slow", retry_after=3.0)
        gate.report(Outcome(0, error=error))
        assert [type(message) for message in worker.casts] == [Join]
        gate.report(Outcome(0, error=error, pause=3.0))
        assert worker.casts[-1] == Pause(LM("openai/x").deployment, 3.0, "me")

    run(body)


def test_new_limits_hold_at_once_and_are_told_and_the_smallest_wins():
    worker = Worker(None)

    async def body():
        gate = gate_of(worker, LM("openai/x", rpm=60))
        assert not gate.tell(Limits(60.0))
        assert gate.tell(Limits(30.0, None, 4))
        assert gate.limits == Limits(30.0, None, 4)
        assert [Limits._make(plain) for plain, _ in worker.casts[-1].told] == [Limits(60.0), Limits(30.0, None, 4)]
        gate.rule(InForce("d", Limits(10.0, 600.0).plain))
        assert gate.limits == Limits(10.0, 600.0, 4)

    run(body)


def test_what_other_workers_are_told_holds_for_lms_without_limits_too():
    asked = []

    def answer(request):
        asked.append(request.asks)
        return at_once(request)

    async def body():
        gate = gate_of(Worker(answer), LM("openai/x"))
        assert await gate.acquire(5, 0, 1.0) == 0
        assert asked == []
        gate.rule(InForce("d", Limits(600.0).plain))
        await gate.acquire(5, 0, 1.0)
        assert len(asked) == 1

    run(body)


def test_limits_of_users_make_nobody_wait_who_has_none():
    async def body():
        gate = gate_of(Worker(at_once), LM("openai/x"))
        gate.rule(InForce("d", Limits().plain, ("user",)))
        assert not gate.paces(None, {"team": "a"})
        assert gate.paces("ann", None)
        gate.rule(InForce("d", Limits().plain, ("tag",)))
        assert gate.paces(None, {"team": "a"})
        assert not gate.paces("ann", {})
        assert await gate.acquire(5, 0, 1.0, "ann", {"team": "a"}) == 101

    run(body)


def test_who_has_waited_in_vain_is_told_for_what():
    async def body():
        gate = gate_of(Worker(lambda request: Leased([], [], [], 0.1, 1.0)), LM("openai/x", rpm=30, tpm=9000))
        gate.rule(InForce("d", Limits(rpm=20).plain, (), 0.5))
        with pytest.raises(RateLimited) as caught:
            await gate.acquire(5, 5, 0.05)
        words = "openai/x: a turn under rpm=20, tpm=9000, the learnt rate of 0.5 a second did not come within 0.1 s"
        assert str(caught.value).startswith(words) or str(caught.value).startswith(words.replace("0.1 s", "0.0 s"))

    run(body)


@pytest.mark.parametrize(
    ("limits", "words"),
    [({"tpm": 50}, "tpm=50"), ({"itpm": 20}, "itpm=20"), ({"otpm": 30}, "otpm=30"), ({"tpd": 50}, "tpd=50")],
)
def test_a_request_that_no_window_ever_lets_through_is_refused_for_good(limits, words):
    async def body():
        with pytest.raises(RateLimited, match=words) as caught:
            await gate_of(Worker(at_once), LM("openai/x", **limits)).acquire(25, 35, 1.0)
        assert caught.value.retryable is False

    run(body)


def test_a_refusal_for_good_by_a_users_limit_says_so():
    def answer(request):
        return Leased([], [(ask[0], math.inf, "user:ann:tpm") for ask in request.asks], [], 0.1, 1.0)

    async def body():
        gate = gate_of(Worker(answer), LM("openai/x"))
        gate.rule(InForce("d", Limits().plain, ("user",)))
        with pytest.raises(RateLimited, match="user:ann:tpm") as caught:
            await gate.acquire(5, 5, 1.0, "ann")
        assert caught.value.retryable is False

    run(body)


def test_a_session_that_is_closed_tells_its_last_counts_and_leaves():
    worker = Worker(None)

    async def body():
        gate = gate_of(worker, LM("openai/x"))
        gate.report(Outcome(0, cancelled=True))
        gate.leave()
        *_, told, left = worker.casts
        assert told == Outcomes("me", ((Limits().plain, told.told[0][1]),), {"cancelled": 1}, [])
        assert left == Leave("me")

    run(body)
