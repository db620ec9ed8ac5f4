"""A second request for an answer that takes long: when, how often, which answer counts, what is booked."""

import asyncio
import functools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_actors.errors import Overloaded
from dspex_actors.lm.attempts import Ledger, opened
from dspex_actors.lm.lm import LM
from dspex_actors.lm.request import Options
from dspex_actors.lm.worker.hedging import LEAST, SHARE, Hedges, first_of
from dspex_actors.lm.worker.retry import RetryBudget
from dspex_actors.lm.worker.session import LMSession

HI = [{"role": "user", "content": "hi"}]


@given(st.lists(st.booleans(), max_size=400))
def test_at_most_one_request_in_twenty_is_hedged(steps):
    hedges = Hedges()
    for asks in steps:
        if asks:
            hedges.begin()
        else:
            hedges.take()
        assert hedges.hedged <= SHARE * hedges.asked


def test_a_second_one_is_due_after_what_95_of_100_answers_take():
    hedges = Hedges()
    for number in range(LEAST - 1):
        hedges.answered(number)
    assert hedges.after is None
    for number in range(100):
        hedges.answered(number / 100)
    rng = random.Random(1)
    for _ in range(300):
        hedges.answered(rng.random())
    assert 0.9 < hedges.after < 1.0


async def after(seconds, value):
    await asyncio.sleep(seconds)
    if isinstance(value, Exception):
        raise value
    return value


@pytest.mark.parametrize(
    ("first", "second", "value"),
    [
        ((0.0, 1), (0.0, 2), 1),  # not late: there is no second one
        ((9.0, 1), (0.0, 2), 2),
        ((0.1, 1), (9.0, 2), 1),
        ((9.0, 1), (0.0, Overloaded("b")), None),
        ((0.1, Overloaded("a")), (0.2, 2), 2),
        ((0.1, Overloaded("a")), (0.1, Overloaded("b")), "a"),
    ],
)
def test_the_first_answer_counts_and_the_first_ones_error_where_there_is_none(first, second, value):
    async def go():
        race = first_of(after(*first), lambda: after(*second), 0.05, lambda: True)
        if value is None:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(race, 0.3)
        elif value == "a":
            with pytest.raises(Overloaded, match="a"):
                await race
        else:
            assert await race == value
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(go())


@pytest.fixture
def run(serve, answer, chat):
    """Return what runs `body(session, server)`; requests whose number is in `late` hang."""
    return functools.partial(_run, serve, answer, chat)


def _run(serve, answer, chat, late, body):
    def reply(number, head, raw):
        return "hang" if number in late else answer(200, chat())

    async def go():
        async with serve(reply) as server:
            session = LMSession(LM("openai/x", base_url=server.url + "/v1").request(HI, {}).lm.deployment)
            try:
                await body(session, server)
            finally:
                await session.aclose()

    asyncio.run(asyncio.wait_for(go(), 30))


def test_the_loser_is_cancelled_and_both_are_booked(run):
    async def body(session, server):
        for _ in range(LEAST + 1):
            await session.complete(HI, options=Options(hedge=True))
        ledger = Ledger()
        async with opened(ledger):
            reply = await session.complete(HI, options=Options(hedge=True))
        assert (reply.text, reply.asked, len(server.bodies)) == ("hello", 2, LEAST + 3)
        lost, won = sorted(ledger.attempts, key=lambda attempt: attempt.outcome != "cancelled")
        assert (lost.outcome, lost.tokens["estimated"], won.outcome) == ("cancelled", True, "answered")
        assert session._slots.taken == 0

    run({LEAST + 1}, body)


def test_without_the_flag_nothing_is_asked_twice(run):
    async def body(session, server):
        for _ in range(LEAST + 1):
            await session.complete(HI)
        with pytest.raises(Exception):  # noqa: B017, PT011 - it hangs until its time is over
            await session.complete(HI, options=Options(deadline=0.3))
        assert len(server.bodies) == LEAST + 2

    run({LEAST + 1}, body)


def test_a_call_that_is_cancelled_closes_its_request(serve):
    begun, closed = asyncio.Event(), asyncio.Event()

    async def watch(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        begun.set()
        while await reader.read(4096):
            pass
        closed.set()
        writer.close()

    async def go():
        server = await asyncio.start_server(watch, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        session = LMSession(LM("openai/x", base_url=url).request(HI, {}).lm.deployment)
        call = asyncio.ensure_future(session.complete(HI))
        await asyncio.wait_for(begun.wait(), 30)
        call.cancel()
        await asyncio.wait_for(closed.wait(), 30)
        await session.aclose()
        server.close()

    asyncio.run(asyncio.wait_for(go(), 30))


def test_retries_are_a_tenth_of_what_is_asked_and_a_few_in_any_case():
    budget = RetryBudget(0.0)
    assert sum(budget.take(1.0) for _ in range(200)) == RetryBudget.LEAST
    for _ in range(1000):
        budget.asked(2.0)
    assert sum(budget.take(2.0) for _ in range(200)) == 50
    assert sum(budget.take(200.0) for _ in range(200)) == RetryBudget.LEAST  # another window


def test_where_most_fails_calls_of_nobodys_run_are_not_all_asked_again(serve, answer):
    async def go():
        async with serve(lambda *_: answer(503, {"error": {"message": "down"}})) as server:
            deployment = LM("openai/x", base_url=server.url + "/v1").request(HI, {}).lm.deployment

            async def none(_):
                return None

            session = LMSession(deployment, sleep=none, clock=lambda: 5.0)
            for _ in range(30):
                with pytest.raises(Overloaded) as caught:
                    await session.complete(HI)
            assert len(server.bodies) == 30 + RetryBudget.LEAST
            assert "not asked again: too many requests have failed lately" in str(caught.value)
            before = len(server.bodies)
            async with opened(Ledger()):
                with pytest.raises(Overloaded):
                    await session.complete(HI)
            assert len(server.bodies) == before + 6  # a run's calls are
            await session.aclose()

    asyncio.run(asyncio.wait_for(go(), 60))
