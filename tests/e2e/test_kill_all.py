"""What is left after everything of a node, or the program that uses it, was killed; and how it goes on."""

import os

import pytest
from e2e_kit import ANSWER, Background, check_whole, gone, metric, run_script, tickets, triage, until

import dspex_actors as dspex
from dspex_actors.journal.index import list_runs
from supervisors.host import processes

EXAMPLES, IN_FLIGHT, LATENCY = 200, 32, 0.1
AGAIN = IN_FLIGHT + int(0.25 * IN_FLIGHT / LATENCY)

CLIENT = """
import os, sys
sys.path.insert(0, os.getcwd())
from e2e_kit import *
lm = dspex.LM("openai/x", base_url=sys.argv[1])
system = dspex.connect(lm=lm)
print(system.node.info["pid"], flush=True)
dspex.evaluate(triage(), tickets(int(sys.argv[2])), metric(), max_in_flight=32)
print("finished", flush=True)
"""


def figures(result):
    return [(one.index, one.score, one.error, one.prediction and one.prediction.team) for one in result.results]


@pytest.mark.parametrize(
    "everything", [pytest.param(True, id="everything"), pytest.param(False, id="daemon", marks=pytest.mark.soak)]
)
def test_daemon_killed(host, server, everything):
    lm_server = server("--latency-ms", LATENCY * 1000, "--answer", ANSWER)
    with dspex.connect(lm=lm_server.lm()) as system:
        run = Background(dspex.evaluate, triage(), tickets(EXAMPLES), metric(), max_in_flight=IN_FLIGHT)
        until(lambda: lm_server.requests > EXAMPLES // 2)
        pids = host.pids()
        if everything:
            host.kill_everything()
        else:
            host.kill("daemon")
        with pytest.raises(dspex.RunInterrupted, match="dspex runs resume evaluate-") as caught:
            run.result()
        run_id = caught.value.run_id
    until(lambda: all(gone(pid) for pid in pids), what="processes are left")
    (listed,) = list_runs(host.home)
    assert (listed["run_id"], listed["state"]) == (run_id, "paused")
    asked, done = lm_server.requests, listed["done"]
    assert 0 < done < EXAMPLES
    assert asked - done <= AGAIN

    host.start()
    with dspex.connect(lm=lm_server.lm()) as system:
        (listed,) = system.runs()
        assert (listed["state"], listed["done"]) == ("paused", done)
        assert lm_server.requests == asked, "it went on without being told to"
        resumed = system.resume(run_id, display_progress=False)
        check_whole(resumed, EXAMPLES)
        assert lm_server.requests - asked == EXAMPLES - done
        # What was in flight when everything died is in the books, too; it may not have got as far as the server.
        assert lm_server.requests <= resumed.asked <= lm_server.requests + IN_FLIGHT
        assert resumed.cost is None
        whole = dspex.evaluate(triage(), tickets(EXAMPLES), metric())
        assert figures(whole) == figures(resumed)
        assert (whole.score, whole.asked) == (resumed.score, EXAMPLES)


def test_client_killed_on_a_daemon(host, server):
    lm_server = server("--latency-ms", LATENCY * 1000, "--answer", ANSWER)
    client = run_script(CLIENT, lm_server.url, EXAMPLES)
    assert int(client.stdout.readline()) == host.pids()[0]
    until(lambda: lm_server.requests > EXAMPLES // 2)
    client.kill()
    assert client.communicate()[0] == ""
    with dspex.connect() as system:
        (run,) = until(lambda: [run for run in system.runs() if run["state"] == "finished"])
        assert (run["done"], run["failed"], run["score"]) == (EXAMPLES, 0, 50.0)
    assert lm_server.requests == EXAMPLES


@pytest.mark.soak
def test_client_killed_with_its_own_node(home, server):
    lm_server = server("--latency-ms", LATENCY * 1000, "--answer", ANSWER)
    client = run_script(CLIENT, lm_server.url, EXAMPLES)
    daemon = int(client.stdout.readline())
    until(lambda: lm_server.requests > EXAMPLES // 2)
    pids = [daemon, *processes.descendants(daemon)]
    assert len(pids) > 8
    client.kill()
    until(lambda: all(gone(pid) for pid in pids), what="processes of the node are left")
    client.communicate()
    (listed,) = list_runs(home)
    assert listed["state"] == "paused"
    assert 0 < listed["done"] < EXAMPLES
    asked = lm_server.requests
    with dspex.connect(lm=lm_server.lm()) as system:
        resumed = system.resume(listed["run_id"], display_progress=False)
        check_whole(resumed, EXAMPLES)
        # What was answered and did not get as far as the journal is in the cache, perhaps.
        assert 0 < lm_server.requests - asked <= EXAMPLES - listed["done"]
        assert [run["state"] for run in system.runs()] == ["finished"]


@pytest.mark.soak
def test_own_node_killed(home, server):
    lm_server = server("--latency-ms", LATENCY * 1000, "--answer", ANSWER)
    with dspex.connect(lm=lm_server.lm()) as system:
        run = Background(dspex.evaluate, triage(), tickets(EXAMPLES), metric(), max_in_flight=IN_FLIGHT)
        until(lambda: lm_server.requests > EXAMPLES // 2)
        os.kill(system.node.info["pid"], 9)
        with pytest.raises(dspex.RunInterrupted):
            run.result()
    (listed,) = list_runs(home)
    assert listed["state"] == "paused"
