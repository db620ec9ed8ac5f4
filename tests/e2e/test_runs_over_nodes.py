"""A run on a cluster: workers of all nodes, nodes that join, rest, stand still and die, and each example once."""

import http.server
import json
import os
import signal
import time

import pytest
from cluster_kit_e2e import nodes_of_module, server_of_module, system_of_module
from e2e_kit import ANSWER, metric, tickets, triage, until
from test_deployments import Counting

import dspex_actors as dspex
from dspex_actors.lm.control.client import client_name

COUNT = 400


joined, server, system = nodes_of_module(2, first=11), server_of_module("--latency-ms", "80"), system_of_module()


def begin(system, count=COUNT, lm=None, **settings):
    settings = {"max_in_flight": 32, "deadline": 60.0, **settings}
    return system.start_run("evaluate", triage(), tickets(count), metric(), lm=lm, settings=settings)


def progress(system, run):
    return system._ask("progress", run)


def until_done(system, run, count):
    until(lambda: progress(system, run)["summary"]["done"] >= count)


def check(result, server, asked_before, count=COUNT, twice=0.0):
    """Each example has exactly one result, and was asked once but for so many."""
    assert [one.index for one in result.results] == list(range(count))
    assert result.failed == 0
    assert count <= server.requests - asked_before <= count * (1 + twice)


@pytest.mark.soak
def test_workers_of_all_nodes_have_their_part_and_each_example_is_asked_once(system, server):
    before = server.requests
    result = system.wait_run(begin(system))
    check(result, server, before)
    assert set(result.nodes) == {"a", "b"}
    assert min(node["done"] for node in result.nodes.values()) > COUNT / 5
    assert sum(node["done"] for node in result.nodes.values()) == COUNT


def test_a_run_is_done_where_it_is_told_to_be(system, server):
    result = dspex.evaluate(triage(), tickets(60), metric(), nodes=["b"], system=system, display_progress=False)
    assert list(result.nodes) == ["b"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"nodes": ["x"]}, "nodes is invalid: got 'x', expected names of a, b"),
        ({"nodes": "b"}, "nodes is invalid: got 'b', expected a list of names of nodes"),
        ({"nodes": []}, r"nodes is invalid: got \[\]"),
        ({"requires": {"gpu": "1"}}, "requires is invalid: got gpu=1, expected labels that a node has"),
        ({"requires": ["gpu"]}, "requires is invalid: got .'gpu'., expected names and texts"),
        ({"requires": {"gpu": 1}}, "requires is invalid: got {'gpu': 1}, expected names and texts"),
    ],
)
def test_places_that_are_not_there_are_refused_at_once(system, given, words):
    with pytest.raises(dspex.ConfigError, match=words):
        dspex.evaluate(triage(), tickets(2), metric(), system=system, **given)


def test_nodes_rest_join_and_die_in_the_middle_of_a_run_and_each_example_has_one_result(joined, system, server):
    before = server.requests
    cluster = joined.cluster()
    cluster.order("b", "cordoned")
    until(lambda: next(one for one in cluster.members() if one.name == "b").state == "cordoned")
    run = begin(system, 3 * COUNT, max_in_flight=16)
    until_done(system, run, 100)
    assert set(system.journal.get_run(run).nodes) == {"a"}
    cluster.order("b", "alive")
    new = joined.start(labels={"gpu": "1"})
    until(lambda: {"b", new} <= set(system.journal.get_run(run).nodes))
    joined.kill(new)
    assert progress(system, run)["summary"]["done"] < 3 * COUNT
    result = system.wait_run(run)
    check(result, server, before, 3 * COUNT, twice=0.01)


@pytest.mark.soak
def test_a_node_that_stands_still_holds_nobody_up_and_comes_back(joined, system, server):
    before = server.requests
    run = begin(system, 2 * COUNT)
    until_done(system, run, 200)
    joined.signal("b", signal.SIGSTOP)
    until(lambda: progress(system, run)["note"].get("workers") == 1)
    joined.signal("b", signal.SIGCONT)
    until(lambda: progress(system, run)["note"].get("workers") == 2)
    result = system.wait_run(run)
    check(result, server, before, 2 * COUNT, twice=0.03)


class Timed(Counting):
    """Writes down when it was asked, and answers as a model does."""

    def __init__(self):
        super().__init__()
        self.RequestHandlerClass = _Answers


class _Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.append((time.monotonic(), None))
        body = json.dumps({"choices": [{"message": {"role": "assistant", "content": ANSWER}}]}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.mark.soak
def test_a_limit_holds_for_all_nodes_together_while_workers_and_its_owner_are_killed(joined, system):
    server = Timed()
    lm = dspex.LM("openai/x", base_url=server.url, cache=False, rps=8)
    try:
        run = begin(system, 60, lm=lm)
        for after, node, name in ((10, "b", "worker-1"), (20, "a", client_name(lm.deployment)), (30, "b", "worker-1")):
            until(lambda after=after: len(server.asked) >= after)
            os.kill(until(lambda node=node, name=name: joined.nodes[node].whereis(name)).pid, signal.SIGKILL)
        result = system.wait_run(run)
    finally:
        server.shutdown()
        server.server_close()
    assert (result.n, result.failed, set(result.nodes)) == (60, 0, {"a", "b"})
    assert server.most_within(0.95) <= 8


@pytest.mark.soak
def test_what_a_node_lacks_the_key_for_others_do_and_the_runs_note_says_so(joined, system, server, monkeypatch):
    monkeypatch.setenv("KEY_OF_ONE_NODE", "sk-test-0123456789")
    rich = joined.start()  # the others were started without it
    lm = dspex.LM("openai/x", base_url=server.url, cache=False, api_key="env:KEY_OF_ONE_NODE")
    try:
        before = server.requests
        run = begin(system, 300, lm=lm)
        lacking = until(lambda: len(found := progress(system, run)["note"].get("lacking") or {}) == 2 and found)
        result = system.wait_run(run)
        check(result, server, before, 300)
        assert list(result.nodes) == [rich]
        assert "the environment variable KEY_OF_ONE_NODE is not set" in lacking["a"]
        notes = ["lacks KEY_OF_ONE_NODE: set it and start the node anew"]
        until(
            lambda: (
                {member.name: member.notes for member in joined.cluster(rich).members() if member.is_up}
                == {"a": notes, "b": notes, rich: []}
            ),
            30,
            lambda: joined.cluster(rich).members(),
        )
    finally:
        joined.nodes.pop(rich).close()


@pytest.mark.soak
def test_what_a_killed_worker_of_another_node_had_asked_is_in_the_books(joined, system, server):
    before = server.requests
    run = begin(system, 400)
    until_done(system, run, 100)
    os.kill(joined.nodes["b"].whereis("worker-1").pid, signal.SIGKILL)
    result = system.wait_run(run)
    assert (result.n, result.failed) == (400, 0)
    assert result.asked == server.requests - before > 400
    until(lambda: not list((joined.folder / "b" / "asked").glob("*")))
