"""Kinds of programs and metrics through a run; usage, cost, requests and latency are booked."""

import asyncio

import pytest
from e2e_kit import ANSWER, LMServer, check_whole, metric, run_script, tickets, triage

import dspex_actors as dspex

COUNT = 40
LATENCY = 0.03


class Sync(dspex.Module):
    def __init__(self):
        super().__init__()
        self.ask = dspex.Predict("ticket -> team")

    def forward(self, ticket):
        return self.ask(ticket=ticket)


class Async(Sync):
    async def aforward(self, ticket):
        return await self.ask.acall(ticket=ticket)


class Thrice(dspex.Module):
    def __init__(self):
        super().__init__()
        self.ask = dspex.Predict("ticket -> team")

    async def aforward(self, ticket):
        first, _, _ = await asyncio.gather(*(self.ask.acall(ticket=ticket) for _ in range(3)))
        return first


class Nested(dspex.Module):
    def __init__(self):
        super().__init__()
        self.inner = Thrice()

    def forward(self, ticket):
        return self.inner(ticket=ticket)


def function(ticket):
    return dspex.Prediction(team="billing")


@pytest.fixture(scope="module")
def lm_server():
    server = LMServer("--latency-ms", LATENCY * 1000, "--answer", ANSWER)
    yield server
    server.close()


@pytest.fixture(scope="module")
def system(tmp_path_factory, lm_server):
    home = tmp_path_factory.mktemp("programs") / "home"
    with dspex.connect(lm=lm_server.lm(), home=home, workers=2) as connection:
        yield connection


@pytest.mark.parametrize(
    ("program", "calls"),
    [
        (triage(), 1),
        (Sync(), 1),
        (Async(), 1),
        (Thrice(), 3),
        (Nested(), 3),
        (function, 0),
    ],
    ids=["predict", "sync", "async", "thrice", "nested", "function"],
)
def test_programs(system, lm_server, program, calls):
    before = lm_server.stats()
    result = dspex.evaluate(program, tickets(COUNT), metric(), system=system, lm=lm_server.lm())
    after = lm_server.stats()
    check_whole(result, COUNT)
    assert (result.score, result.failed) == (50.0, 0)
    assert after["requests"] - before["requests"] == result.asked == calls * COUNT
    if calls:
        assert result.usage["input_total"] == after["input_tokens"] - before["input_tokens"]
        assert result.usage["output_total"] == after["output_tokens"] - before["output_tokens"]
        one = result.results[3]
        assert one.usage["input_total"] * COUNT == pytest.approx(result.usage["input_total"], rel=0.1)
        assert all(LATENCY <= each.latency < 3.0 for each in result.results)
        assert result.cost is None, "the price of a model nobody knows"
    else:
        assert result.cost == 0


def test_chain_of_thought(system, server):
    said = "[[ ## reasoning ## ]]\nbecause\n\n" + ANSWER
    lm = server("--answer", said).lm()
    result = dspex.evaluate(dspex.ChainOfThought("ticket -> team"), tickets(COUNT), metric(), lm=lm, system=system)
    check_whole(result, COUNT)
    assert (result.score, result.results[0].prediction.reasoning) == (50.0, "because")


def test_a_known_price(system):
    lm = dspex.LM("embedded/nearest")
    assert dspex.evaluate(triage(), tickets(COUNT), metric(), lm=lm, system=system).cost == 0.0


def test_metrics(system, lm_server):
    async def awaited(example, prediction, trace=None):
        await asyncio.sleep(0.001)
        return prediction.team == example.team

    judge = dspex.Predict("team -> verdict")

    def judged(example, prediction, trace=None):
        """A metric with a sync LM call, in an event loop's thread."""
        return 0.5 if judge(team=prediction.team) else 0.0

    async def judged_async(example, prediction, trace=None):
        return 0.5 if await judge.acall(team=prediction.team) else 0.0

    said = ANSWER.replace("[[ ## completed ## ]]", "[[ ## verdict ## ]]\nright\n\n[[ ## completed ## ]]")
    other = LMServer("--answer", said)
    try:
        for one, score in [(awaited, 50.0), (judged, 50.0), (judged_async, 50.0)]:
            result = dspex.evaluate(triage(), tickets(COUNT), one, system=system, lm=other.lm())
            check_whole(result, COUNT)
            assert (result.score, result.failed) == (score, 0), result.errors[:1]
        assert other.requests == COUNT * 5
    finally:
        other.close()


def test_a_sync_call_in_async_code_is_an_error_and_no_deadlock(system):
    class Wrong(Sync):
        async def aforward(self, ticket):
            return self.ask(ticket=ticket)

    with pytest.raises(dspex.RunFailed, match=r"await program\.acall"):
        dspex.evaluate(Wrong(), tickets(COUNT), metric(), system=system)
    check_whole(dspex.evaluate(triage(), tickets(COUNT), metric(), system=system), COUNT)


SCRIPT = """
import sys
import dspex_actors as dspex

FACTOR = 1

class Mine(dspex.Module):
    def __init__(self):
        super().__init__()
        self.ask = dspex.Predict(Sort)

    async def aforward(self, ticket):
        return await self.ask.acall(ticket=helper(ticket))

class Sort(dspex.Signature):
    '''Sort tickets.'''
    ticket: str = dspex.InputField()
    team: str = dspex.OutputField()

def helper(text):
    return text * FACTOR

def score(example, prediction, trace=None):
    return FACTOR * (example.team == prediction.team)

with dspex.connect(lm=dspex.LM("openai/x", base_url=sys.argv[1])):
    data = [{"ticket": f"ticket {n}", "team": "billing"} for n in range(20)]
    result = dspex.evaluate(Mine(), data, score, display_progress=False)
    print(result.score, type(result.results[0].example).__name__)
"""


@pytest.mark.soak
def test_program_of_a_script_goes_by_value(home, lm_server):
    process = run_script(SCRIPT, lm_server.url)
    assert process.communicate(timeout=60)[0] == "100.0 Example\n"
    assert process.returncode == 0
