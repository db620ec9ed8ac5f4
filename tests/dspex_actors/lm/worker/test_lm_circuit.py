"""The circuit of a deployment: its owner, and what workers mirror, with sessions that ask a server."""

import asyncio
import functools
import itertools
import json
import time
from types import SimpleNamespace

import pytest

from dspex_actors.errors import CircuitOpen, DeadlineExceeded, InvalidRequest, Overloaded
from dspex_actors.foundation.events import outlet
from dspex_actors.lm.attempts import Ledger, opened
from dspex_actors.lm.control.circuit_messages import AskProbe, CircuitIs, CircuitTold, ProbeEnded
from dspex_actors.lm.control.circuits import DeploymentCircuit
from dspex_actors.lm.lm import LM
from dspex_actors.lm.request import Options
from dspex_actors.lm.worker.circuit import WorkerCircuit
from dspex_actors.lm.worker.session import LMSession
from supervisors.errors import NoProcess
from supervisors.testing import wait_until_async as until

HI = [{"role": "user", "content": "hi"}]
RECOVERY = 0.2


class Log:
    def warning(self, *_, **__): ...

    info = warning


class World:
    """A deployment with an owner and workers; messages are given on the loop's next turn."""

    def __init__(self, url, workers=1, **circuit):
        lm = LM(
            "openai/x",
            base_url=url + "/v1",
            circuit={"failure_threshold": 3, "recovery_time": RECOVERY, "growth": 1.0, **circuit},
        )
        self.lm = lm.request(HI, {}).lm
        self.told = []
        self.log = Log()
        self.is_away = False
        self.owner = self.new_owner()
        self.workers = {f"worker-{n}": Worker(self, f"worker-{n}") for n in range(1, workers + 1)}
        self.one = next(iter(self.workers.values()))

    def new_owner(self):
        self.owner = DeploymentCircuit(self, "openai/x", "digest", lambda: self.workers)
        return self.owner

    def cast(self, worker, message):
        assert isinstance(message, CircuitIs)
        asyncio.get_running_loop().call_soon(self.workers[worker].circuit.hear, message)

    async def close(self):
        left = [task for task in asyncio.all_tasks() if "ask" in getattr(task.get_coro(), "__qualname__", "")]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        for worker in self.workers.values():
            await worker.session.aclose()


class Worker:
    def __init__(self, world, ref):
        self.world, self.ref = world, ref
        deployment = world.lm.deployment
        self.circuit = WorkerCircuit(
            self, "openai/x", "digest", SimpleNamespace(target="client", find_anew=self.revive)
        )
        self.circuit.settings = world.lm.circuit
        self.session = LMSession(deployment)

    def cast(self, _, message):
        self.world.told.append(message)
        if not self.world.is_away:
            asyncio.get_running_loop().call_soon(self.world.owner.hear, message)

    async def call(self, _, message):
        await asyncio.sleep(0)
        if self.world.is_away:
            raise NoProcess("client")
        self.world.told.append(message)
        return self.world.owner.ask(message)

    async def revive(self):
        if self.world.is_away:
            self.world.new_owner()
            self.world.is_away = False

    def spawn(self, coroutine):
        return asyncio.ensure_future(coroutine)

    async def ask(self, *, waits=True, in_run=False, deadline=20.0, seconds=5.0):
        async def call():
            return await self.session.complete(
                HI, options=Options(seconds, deadline), circuit=self.circuit, waits=waits
            )

        if not in_run:
            return await call()
        async with opened(Ledger()):
            return await call()


class Provider:
    """A server that answers with what `status` is; it notes when it was asked."""

    def __init__(self, answer, chat):
        self._answer, self._chat = answer, chat
        self.status = 200
        self.asked = []

    def __call__(self, number, head, body):
        self.asked.append(time.monotonic())
        if self.status == "hang":
            return "hang"
        return self._answer(self.status, self._chat() if self.status == 200 else {"error": {"message": "it is down"}})


@pytest.fixture
def run(serve, answer, chat):
    """Return what runs `body(world, provider)`."""
    return functools.partial(_run, serve, Provider(answer, chat))


def _run(serve, provider, body, **settings):
    async def go():
        async with serve(provider) as server:
            world = World(server.url, **settings)
            try:
                await body(world, provider)
            finally:
                await world.close()

    asyncio.run(asyncio.wait_for(go(), 30))


def settled(times):
    """Return what came after the first gap: before it some were on their way when the circuit opened."""
    first = next(place for place, (a, b) in enumerate(itertools.pairwise(times), 1) if b - a > RECOVERY * 0.9)
    return times[first:]


async def opened_circuit(world, provider, *, in_run=True):
    """Have an answer, then an outage that opens the circuit; return the calls that wait for its end."""
    await world.one.ask()
    provider.status = 503
    calls = [asyncio.ensure_future(world.one.ask(in_run=in_run)) for _ in range(8)]
    await until(lambda: world.one.circuit.is_open)
    return calls


def test_no_message_is_sent_for_calls_that_are_answered(run):
    async def body(world, provider):
        await asyncio.gather(*(world.one.ask() for _ in range(50)))
        assert world.told == []

    run(body)


def test_calls_of_a_run_wait_out_an_outage_with_one_probe_per_interval(run):
    async def body(world, provider):
        calls = await opened_circuit(world, provider)
        before = len(provider.asked)
        await until(lambda: len(provider.asked) >= before + 5)
        probes = settled(provider.asked[before:])
        # One is granted when the one before has been answered, and the recovery time is over.
        assert len(probes) - 1 <= (probes[-1] - probes[0]) / (RECOVERY * 0.9) + 1
        provider.status = 200
        replies = await asyncio.gather(*calls)
        assert [reply.text for reply in replies] == ["hello"] * 8
        assert world.owner.stats()["state"] == "closed"

    run(body)


def test_workers_together_send_one_probe_at_a_time(run):
    async def body(world, provider):
        await opened_circuit(world, provider)
        calls = [asyncio.ensure_future(one.ask(in_run=True)) for one in world.workers.values() for _ in range(3)]
        await until(lambda: all(one.circuit.is_open for one in world.workers.values()))
        before = len(provider.asked)
        await until(lambda: len(provider.asked) >= before + 5)
        probes = settled(provider.asked[before:])
        assert len(probes) - 1 <= (probes[-1] - probes[0]) / (RECOVERY * 0.9) + 1
        provider.status = 200
        await asyncio.gather(*calls)

    run(body, workers=4)


def test_failures_are_told_in_batches(run):
    async def body(world, provider):
        await world.one.ask()
        provider.status = 503
        calls = [asyncio.ensure_future(world.one.ask()) for _ in range(40)]
        await until(lambda: len(provider.asked) > 60)
        told = [one for one in world.told if isinstance(one, CircuitTold)]
        assert sum(one.failed for one in told) > 40
        assert len(told) <= 2 + (provider.asked[-1] - provider.asked[1]) / 0.05
        for call in calls:
            call.cancel()

    run(body, failure_threshold=10_000)


def test_one_who_may_ask_others_is_told_at_once(run):
    async def body(world, provider):
        await opened_circuit(world, provider)
        asked = len(provider.asked)
        with pytest.raises(
            CircuitOpen, match=r"the circuit of openai/x is open .*it is down.* tried again in"
        ) as caught:
            await world.one.ask(waits=False)
        assert 0 < caught.value.retry_after <= 60
        assert (len(provider.asked), caught.value.model) == (asked, "x")

    run(body, recovery_time=60.0)  # longer than `run` waits


def test_one_who_may_ask_others_is_the_probe_when_it_is_time(run):
    async def body(world, provider):
        for call in await opened_circuit(world, provider):
            call.cancel()
        provider.status = 200
        await until(lambda: world.owner.stats()["retry_after"] == 0)
        assert (await world.one.ask(waits=False)).text == "hello"
        await until(lambda: not world.one.circuit.is_open)

    run(body)


def test_a_call_of_nobodys_run_whose_deadline_comes_before_the_probe_is_told_at_once(run):
    async def body(world, provider):
        await opened_circuit(world, provider)
        asked = len(provider.asked)
        with pytest.raises(CircuitOpen) as caught:
            await world.one.ask(deadline=35.0)
        assert caught.value.retry_after > 0
        assert len(provider.asked) == asked

    run(body, recovery_time=120.0)  # its deadline, too, is longer than `run` waits


def test_a_call_of_nobodys_run_waits_for_one_probe(run):
    async def body(world, provider):
        await opened_circuit(world, provider)
        asked = len(provider.asked)
        with pytest.raises(CircuitOpen):
            await world.one.ask()
        assert len(provider.asked) > asked
        waiting = asyncio.ensure_future(world.one.ask())
        provider.status = 200
        assert (await waiting).text == "hello"

    run(body)


def test_a_call_of_a_run_whose_deadline_ends_says_what_is_wrong(run):
    async def body(world, provider):
        await opened_circuit(world, provider)
        with pytest.raises(DeadlineExceeded, match="it is down"):
            await world.one.ask(in_run=True, deadline=RECOVERY)

    run(body, recovery_time=5.0)


def test_a_run_whose_lm_has_never_answered_waits_for_one_probe(run):
    """Its address may be wrong: nobody should wait ten minutes to hear that."""

    async def body(world, provider):
        provider.status = 503
        answers = await asyncio.gather(*(world.one.ask(in_run=True) for _ in range(3)), return_exceptions=True)
        assert all(isinstance(one, CircuitOpen | Overloaded) for one in answers)
        assert any(isinstance(one, CircuitOpen) for one in answers)

    run(body)


def test_a_limit_on_speed_and_wrong_requests_do_not_open_it(run):
    async def body(world, provider):
        for status in (400, 401, 404):
            provider.status = status
            for _ in range(5):
                with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it is
                    await world.one.ask(deadline=0.5)
        provider.status = 429
        with pytest.raises(Exception):  # noqa: B017, PT011
            await world.one.ask(deadline=0.5)
        assert world.told == []

    run(body)


def test_a_probe_whose_request_is_wrong_closes_it_the_server_is_there(run):
    async def body(world, provider):
        calls = await opened_circuit(world, provider)
        provider.status = 400
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(one) for one in answers} == {InvalidRequest}
        assert world.owner.stats()["state"] == "closed"

    run(body)


def test_a_probe_that_is_cancelled_is_granted_anew_at_once(run):
    async def body(world, provider):
        for call in await opened_circuit(world, provider):
            call.cancel()
        provider.status = "hang"
        asked = len(provider.asked)
        first = asyncio.ensure_future(world.one.ask(in_run=True, seconds=30))
        await until(lambda: len(provider.asked) == asked + 1)
        second = asyncio.ensure_future(world.one.ask(in_run=True, seconds=30))
        await asyncio.sleep(2 * RECOVERY)
        assert len(provider.asked) == asked + 1  # one at a time, however long it takes
        provider.status = 200
        first.cancel()
        assert (await second).text == "hello"

    run(body)


def test_a_probe_of_a_worker_that_died_is_granted_anew(run):
    async def body(world, provider):
        for call in await opened_circuit(world, provider):
            call.cancel()
        await until(lambda: world.owner.stats()["retry_after"] == 0)
        state = world.owner.ask(AskProbe("gone", None, 0, 0, "", 5.0, was_answered=True))
        assert state.probe is not None
        waiting = asyncio.ensure_future(world.one.ask(in_run=True))
        provider.status = 200
        await asyncio.sleep(RECOVERY)
        assert not waiting.done()
        world.owner.down("gone")
        assert (await waiting).text == "hello"

    run(body)


def test_the_successor_of_an_owner_that_died_is_asked_and_knows_that_it_was_open(run):
    async def body(world, provider):
        calls = await opened_circuit(world, provider)
        world.is_away = True
        provider.status = 200
        assert [reply.text for reply in await asyncio.gather(*calls)] == ["hello"] * 8
        asked = [one for one in world.told if isinstance(one, AskProbe)]
        assert (asked[-1].epoch, world.owner.stats()["state"]) == (1, "closed")

    run(body)


def test_the_successor_of_an_owner_that_had_closed_it_opens_it_again(run):
    async def body(world, provider):
        calls = await opened_circuit(world, provider)
        provider.status = 200
        await asyncio.gather(*calls)
        world.new_owner()
        calls = await opened_circuit(world, provider)
        assert world.owner.stats()["state"] != "closed"
        provider.status = 200
        await asyncio.gather(*calls)

    run(body)


def test_failures_of_an_earlier_epoch_do_not_open_it_again(run):
    async def body(world, provider):
        circuit = world.one.circuit
        calls = await opened_circuit(world, provider)
        provider.status = 200
        await asyncio.gather(*calls)
        for _ in range(20):
            circuit.ended(Overloaded("old"), answered=False, probe=None, epoch=0)
        world.told.clear()
        circuit.ended(Overloaded("new"), answered=False, probe=None, epoch=circuit.epoch)
        await until(lambda: world.owner.stats()["failures"])
        assert [told.failed for told in world.told] == [1]
        assert (world.owner.stats()["state"], world.owner.stats()["failures"]) == ("closed", 1)

    run(body)


def test_what_happens_to_it_is_told_as_events(run):
    told = []
    close = outlet.open_outlet(lambda event, record: told.append(event))

    async def body(world, provider):
        calls = await opened_circuit(world, provider)
        provider.status = 200
        await asyncio.gather(*calls)

    try:
        run(body)
    finally:
        close()
    events = [event for event in told if type(event).kind.startswith("circuit.")]
    assert [type(event).kind for event in events] == ["circuit.opened", "circuit.testing", "circuit.closed"]
    assert {event.circuit for event in events} == {"openai/x"}
    assert (events[0].failures >= 3, events[0].seconds, "it is down" in events[0].reason) == (True, RECOVERY, True)


def test_an_lm_without_a_circuit_is_asked_on():
    assert json.loads(json.dumps(LM("openai/x", circuit=False).to_dict()))["circuit"] is False
    assert ProbeEnded("w", 1, "answered", "").outcome == "answered"
