"""kill -9 of any part of a node in the middle of a run: it goes on by itself, with one result each."""

import os
import signal

import pytest
from e2e_kit import ANSWER, Background, check_whole, metric, tickets, triage, until

import dspex_actors as dspex

EXAMPLES, IN_FLIGHT, LATENCY = 400, 64, 0.1
#: What may be asked again: what was in flight, and what was on its way to the journal (250 ms).
AGAIN = IN_FLIGHT + int(0.25 * IN_FLIGHT / LATENCY)

PARTS = [
    "worker-1",
    "run:",
    "runs",
    "client:",
    "registry",
    "door",
    "evaluators",
    "http_workers",
    "clients",
    "root",
    "admin",
    "logger",
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
