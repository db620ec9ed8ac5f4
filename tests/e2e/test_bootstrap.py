"""BootstrapFewShot on a real node: the demos of the sequential algorithm, in a fraction of its time."""

import os
import signal
import sys
from pathlib import Path

import pytest
from e2e_kit import ANSWER, Background, until

import dspex_actors as dspex
from dspex_actors.teleprompt import BootstrapFewShot

sys.path.append(str(Path(__file__).parents[1] / "dspex_actors" / "teleprompt"))
from bootstrap_reference import bootstrap

LATENCY = 0.1
TOPICS = {"invoice": "billing", "refund": "billing", "crash": "bugs", "slow": "bugs", "login": "accounts"}


class Desk(dspex.Module):
    """Two predictors, the first of them called once or twice."""

    def __init__(self):
        self.look = dspex.Predict("ticket -> topic")
        self.route = dspex.ChainOfThought("ticket, topic -> team")

    async def aforward(self, ticket):
        topic = (await self.look.acall(ticket=ticket)).topic
        if len(ticket) % 2:
            topic = (await self.look.acall(ticket=f"{ticket} ({topic})")).topic
        return await self.route.acall(ticket=ticket, topic=topic)


def desk_tickets(count):
    words = list(TOPICS)
    return [
        dspex.Example(
            ticket=f"{words[n * 7 % 5]} {n % 23} please",
            topic=words[n * 7 % 5],
            team=TOPICS[words[n * 7 % 5]],
        ).with_inputs("ticket")
        for n in range(count)
    ]


def right_team(example, prediction, trace=None):
    """Strict on purpose: about half pass, and some cannot be judged."""
    assert trace, "a bootstrap hands its trace to the metric"
    if "19" in example.ticket:
        raise ValueError("cannot be judged")
    return prediction.team == example.team and not example.ticket.startswith("refund")


def one_in_ten(example, prediction, trace=None):
    return example.number % 10 == 9


def numbered(count):
    return [dspex.Example(ticket=f"ticket {n}", number=n).with_inputs("ticket") for n in range(count)]


@pytest.fixture
def connected(tmp_path, server):
    """Connect a node of the test's own to a stand-in LM: connected(*options) → system, its LM, its server."""
    systems = []

    def make(*options):
        lm_server = server(*options)
        systems.append(dspex.connect(lm=lm_server.lm(), home=tmp_path, workers=2))
        return systems[-1], lm_server.lm(), lm_server

    yield make
    for system in systems:
        system.close()


@pytest.mark.parametrize("rounds", [1, pytest.param(3, marks=pytest.mark.soak)])
def test_the_demos_are_those_of_the_sequential_algorithm(connected, rounds):
    _, lm, lm_server = connected()
    trainset = desk_tickets(80)
    limits = {"max_bootstrapped_demos": 12, "max_labeled_demos": 16, "max_rounds": rounds, "max_errors": 99}
    expected, loop = bootstrap(Desk(), trainset, right_team, lm=lm, **limits)
    sequential = lm_server.requests
    assert 1 < len(loop.passed) < len(loop.tried)
    program = BootstrapFewShot(right_team, **limits).compile(Desk(), trainset=trainset, max_in_flight=24)
    assert program.dump_state() == expected.dump_state()
    # Ahead of the sequential algorithm is at most what was in flight: examples of three calls a round.
    assert lm_server.requests - sequential <= sequential + 24 * 3 * rounds


@pytest.mark.parametrize("victim", [pytest.param("worker-1", marks=pytest.mark.soak), "run:"])
def test_a_process_killed_in_the_middle_changes_nothing(connected, server, victim):
    system, _, lm_server = connected("--latency-ms", 50)
    trainset = desk_tickets(80)
    limits = {"max_bootstrapped_demos": 30, "max_errors": 99}
    # One call after the other: by a server that answers at once.
    expected, _ = bootstrap(Desk(), trainset, right_team, lm=server().lm(), **limits)
    optimizer = BootstrapFewShot(right_team, **limits)
    run = Background(optimizer.compile, Desk(), trainset=trainset, max_in_flight=16)
    until(lambda: lm_server.requests > 60)
    (pid,) = [ref.pid for name, ref in system.node.names().items() if name.startswith(victim)]
    os.kill(pid, signal.SIGKILL)
    assert run.result().dump_state() == expected.dump_state()


def test_a_parallel_bootstrap_asks_little_more_than_the_sequential_one(connected):
    _, _, lm_server = connected("--latency-ms", LATENCY * 1000, "--answer", ANSWER)
    optimizer = BootstrapFewShot(one_in_ten, max_bootstrapped_demos=16)
    program = optimizer.compile(dspex.Predict("ticket -> team"), trainset=numbered(200))
    assert [demo.ticket for demo in program.demos] == [f"ticket {n}" for n in range(9, 160, 10)]
    assert 160 <= lm_server.requests <= 168


def test_too_many_errors_end_the_run_with_the_error_that_was_too_much(connected):
    def refuses(example, prediction, trace=None):
        if example.number % 2:
            raise ValueError(f"no verdict on {example.number}")
        return False

    _, _, lm_server = connected("--latency-ms", LATENCY * 1000, "--answer", ANSWER)
    with pytest.raises(dspex.RunFailed, match="3 of 3 errors; the last, of example 5: ValueError: no verdict on 5"):
        BootstrapFewShot(refuses, max_errors=3).compile(
            dspex.Predict("ticket -> team"), trainset=numbered(400), max_in_flight=20
        )
    assert lm_server.requests <= 6 + 20


def test_a_finished_run_answers_from_the_journal(connected):
    _, _, lm_server = connected("--answer", ANSWER)
    optimizer = BootstrapFewShot(one_in_ten)
    first = optimizer.compile(dspex.Predict("ticket -> team"), trainset=numbered(60), run_id="mine")
    asked = lm_server.requests
    again = optimizer.compile(dspex.Predict("ticket -> team"), trainset=numbered(60), run_id="mine")
    assert (again.dump_state(), lm_server.requests) == (first.dump_state(), asked)
