"""A dataset whose file only one node can read: others have it by its digest, also when that node is gone."""

import contextlib
import json
import os
import shutil
import signal

import pytest
from cluster_kit_e2e import Joined, server_of_module
from e2e_kit import metric, tickets, triage, until
from postgres_kit import postgres_of_module

from dspex_actors.client.system import System
from dspex_actors.names import run_name
from dspex_actors.runs.datasets.store import Copies
from supervisors import Node

COUNT = 600
#: The file in the folder that a process works in, which is another one for each node.
DATA = "/proc/self/cwd/tickets.jsonl"


journal = postgres_of_module()


server = server_of_module("--latency-ms", "40")


@pytest.fixture(scope="module")
def joined(tmp_path_factory, journal):
    """Two nodes, of which each works in a folder of its own; the test works in the first one's."""
    folder, before = tmp_path_factory.mktemp("nodes"), os.getcwd()
    places = [tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("second")]
    with (places[0] / "tickets.jsonl").open("w") as file:
        for row in tickets(COUNT):
            file.write(json.dumps({**row, "more": "x" * 6000}) + "\n")
    os.chdir(places[0])
    try:
        with contextlib.closing(Joined(folder, 1, first=175, journal=journal.address)) as nodes:
            os.chdir(places[1])
            nodes.start()
            os.chdir(places[0])
            nodes.until_all_see_all()
            yield nodes
    finally:
        os.chdir(before)


def at(joined, server, name):
    return System(Node.attach(joined.nodes[name].data_dir), server.lm(), own=False)


def begin(system):
    return system.start_run(
        "evaluate", triage(), DATA, metric(), settings={"max_in_flight": 16, "deadline": 60.0, "hedge": False}
    )


def done(system, run):
    return system._ask("progress", run)["summary"]["done"]


def copy_of(joined, name, system, run):
    return Copies(joined.nodes[name].data_dir).path_of(system.journal.get_run(run).spec.dataset)


def check(result):
    assert [one.index for one in result.results] == list(range(COUNT))
    assert (result.state, result.failed) == ("finished", 0)


@pytest.mark.soak
def test_a_run_is_resumed_where_its_file_is_not_and_gone_on_with_after_a_kill_in_the_middle_of_it(joined, server):
    first, other = at(joined, server, "a"), at(joined, server, "b")
    run = begin(first)
    until(lambda: done(first, run) > COUNT / 4)
    copy = copy_of(joined, "b", first, run)
    until(copy.exists)
    first.pause(run)
    until(lambda: first.journal.get_run(run).state == "paused")
    shutil.rmtree(copy.parent)
    other._ask("resume", run, False)
    with contextlib.suppress(ProcessLookupError, AttributeError):  # it may have ended already
        os.kill(joined.nodes["b"].whereis(run_name(run)).pid, signal.SIGKILL)
    check(other.wait_run(run))
    until(lambda: not copy.parent.exists())


@pytest.mark.soak
def test_the_run_of_a_killed_node_goes_on_at_one_that_had_a_copy_of_its_dataset(joined, server):
    before = server.requests
    first, other = at(joined, server, "a"), at(joined, server, "b")
    run = begin(first)
    copy = copy_of(joined, "b", first, run)
    until(lambda: copy.exists() and done(other, run) > COUNT / 4)
    owner = other.journal.get_run(run).owner
    joined.kill("a")
    until(lambda: other.journal.get_run(run).owner != owner)
    check(other.wait_run(run))
    assert server.requests - before <= COUNT + 3 * 16
    until(lambda: not copy.parent.exists())
