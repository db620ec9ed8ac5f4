"""A run goes on by itself when the node that coordinates it is killed: all have one journal."""

import contextlib
import signal
import time

import pytest
from cluster_kit_e2e import Joined
from counted_kit import Counted
from e2e_kit import metric, tickets, triage, until
from postgres_kit import postgres_of_module

from dspex_actors.client.system import System
from supervisors import Node

COUNT, IN_FLIGHT = 900, 24
#: Requests that may be between being let out and the network when a process is stopped.
LET_OUT = 3


journal = postgres_of_module()


@pytest.fixture
def server():
    with contextlib.closing(Counted(latency=0.04)) as one:
        yield one


@pytest.fixture
def joined(tmp_path, journal):
    with contextlib.closing(Joined(tmp_path, 2, first=21, journal=journal.address)) as nodes:
        yield nodes


@pytest.mark.parametrize("how", ["killed", pytest.param("stands still", marks=pytest.mark.soak)])
def test_the_run_of_a_node_that_is_gone_goes_on_at_another_and_each_example_has_one_result(joined, server, how):
    other = joined.system(server.lm(), "b")
    system = System(Node.attach(joined.nodes["a"].data_dir), server.lm(), own=False)
    run = system.start_run(
        "evaluate", triage(), tickets(COUNT), metric(), settings={"max_in_flight": IN_FLIGHT, "deadline": 60.0}
    )
    until(
        lambda: other._ask("progress", run)["summary"]["done"] > COUNT / 4,
        what=lambda: [other._ask("progress", run), system._ask("progress", run)],
    )
    owner = other.journal.get_run(run).owner
    if how == "killed":
        joined.kill("a")
    else:
        joined.signal("a", signal.SIGSTOP)
    until(lambda: other.journal.get_run(run).owner != owner, 60)
    claimed, in_journal = time.monotonic(), other.journal.get_run(run).done
    at = other._ask("progress", run)["summary"]["done"]
    until(lambda: other._ask("progress", run)["summary"]["done"] > at, 60)
    if how != "killed":
        joined.signal("a", signal.SIGCONT)
    # A program that is attached to the node that is gone follows its run, and needs nothing for it.
    result = (system if how == "killed" else other).wait_run(run)
    system.close()
    assert [one.index for one in result.results] == list(range(COUNT))
    assert (result.state, result.failed) == ("finished", 0)
    # Asked again is what was asked by then and has no row, and that once. One that only stood still asks nothing that
    # another has asked meanwhile: no example is asked twice from then on, but for what was let out already and not on
    # its way yet when the node stopped.
    asked = server.asked()
    open_then = sum(when < claimed for when, _ in asked) - in_journal
    assert len(asked) - COUNT <= open_then + LET_OUT, (len(asked), open_then)
    assert len(server.asked_twice(since=claimed)) <= LET_OUT
    assert set(result.nodes) == {"a", "b"}


@pytest.mark.soak
def test_the_run_of_a_node_that_is_killed_and_back_before_anybody_has_taken_it_goes_on(joined, server):
    system = System(Node.attach(joined.nodes["a"].data_dir), server.lm(), own=False)
    run = system.start_run(
        "evaluate", triage(), tickets(300), metric(), settings={"max_in_flight": IN_FLIGHT, "deadline": 60.0}
    )
    reader = joined.journal_of("b")
    until(lambda: reader.get_run(run).done > 30)
    joined.kill("a")  # its daemon, too; what starts nodes starts it again at once
    joined.start_again("a")
    until(lambda: reader.get_run(run).state != "running", 60, lambda: reader.get_run(run))
    row = reader.get_run(run)
    assert (row.state, row.done, row.failed) == ("finished", 300, 0), row.reason
    system.close()
