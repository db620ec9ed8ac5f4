"""kill -9 of any part of a node in the middle of a run: it goes on by itself, with one result each."""

import os
import signal

import pytest
from e2e_kit import ANSWER, Background, Host, check_whole, metric, tickets, triage, until

import dspex_actors as dspex

EXAMPLES, IN_FLIGHT, LATENCY = 200, 32, 0.1
#: What may be asked again: what was in flight, and what was on its way to the journal (250 ms).
AGAIN = IN_FLIGHT + int(0.25 * IN_FLIGHT / LATENCY)

#: What is killed besides is a supervisor or a pillar like one of the others, or is killed below.
ALIKE = ("client:", "registry", "evaluators", "http_workers", "clients", "admin")
PARTS = [
    "worker-1",
    "run:",
    "runs",
    "door",
    "root",
    *(pytest.param(part, marks=pytest.mark.soak) for part in ALIKE),
]


@pytest.mark.parametrize("part", PARTS)
def test_kill(host, server, part):
    lm_server = server("--latency-ms", LATENCY * 1000, "--answer", ANSWER)
    with dspex.connect(lm=lm_server.lm()) as system:
        run = Background(dspex.evaluate, triage(), tickets(EXAMPLES), metric(), max_in_flight=IN_FLIGHT)
        until(lambda: lm_server.requests > EXAMPLES // 4)
        victim = host.pid_of(system.node, part)
        os.kill(victim, signal.SIGKILL)
        result = run.result()
        check_whole(result, EXAMPLES)
        assert (result.failed, result.score, result.state) == (0, 50.0, "finished")
        assert EXAMPLES <= lm_server.requests <= EXAMPLES + AGAIN
        assert victim not in host.pids()


@pytest.mark.parametrize("part", ["client:", pytest.param("clients", marks=pytest.mark.soak)])
def test_kill_who_paces_a_limited_lm(host, server, part):
    lm_server = server("--answer", ANSWER, "--rpm", 3000, "--burst-seconds", 3)
    with dspex.connect(lm=lm_server.lm(rpm=3000)) as system:
        run = Background(dspex.evaluate, triage(), tickets(120), metric(), max_in_flight=IN_FLIGHT)
        until(lambda: lm_server.requests > 30)
        os.kill(host.pid_of(system.node, part), signal.SIGKILL)
        result = run.result()
        check_whole(result, 120)
        assert (result.failed, lm_server.stats()["rate_limited"], lm_server.requests) == (0, 0, 120)


@pytest.mark.soak
def test_kill_the_embedded_lm(home):
    """Its calls are asked again where it is now, soon: their connections say at once that it has gone."""
    with dspex.connect(workers=2, embedded={"latency_ms": 100}) as system:
        lm = dspex.LM("embedded/nearest")
        run = Background(dspex.evaluate, triage(), tickets(150), metric(), lm=lm, max_in_flight=32)
        until(lambda: run_done(system) > 30)
        os.kill(Host.pid_of(None, system.node, "embedded"), signal.SIGKILL)
        result = run.result(40.0)  # not the minute after which an LM's answer is given up
        check_whole(result, 150)
        assert (result.failed, {one.attempts for one in result.results}) == (0, {1})
        assert 150 < result.asked <= 150 + 6 * 32


def run_done(system):
    return max([row.done for row in system.journal.list_runs()], default=0)
