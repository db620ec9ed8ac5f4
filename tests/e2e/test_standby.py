"""Nodes with a journal each: a run has a copy on a standby, and goes on there when its node is killed."""

import contextlib

import pytest
from cluster_kit_e2e import Joined, nodes_of_module, server_of_module
from e2e_kit import metric, tickets, triage, until

from dspex_actors import ConfigError
from dspex_actors.journal.copying import content_of
from supervisors.cluster.leases.messages import LEASES, Read

COUNT, IN_FLIGHT = 900, 24


joined, server = nodes_of_module(3, first=160), server_of_module("--latency-ms", "250")


@pytest.fixture(scope="module")
def systems(joined, server):
    return {name: joined.system(server.lm(), name) for name in joined.nodes}


def begin(system, count=COUNT):
    settings = {"max_in_flight": IN_FLIGHT, "deadline": 60.0}
    return system.start_run("evaluate", triage(), tickets(count), metric(), settings=settings)


def summary(system, run):
    return system._ask("progress", run)["summary"]


def row(joined, name, run):
    return joined.journal_of(name).get_run(run)


def check(result, server, before, twice):
    """Each example has exactly one result, and few were asked twice."""
    assert [one.index for one in result.results] == list(range(COUNT))
    assert (result.state, result.failed) == ("finished", 0)
    assert server.requests - before <= COUNT + twice


def same(joined, run, *names):
    """The journals of these nodes have the same of a run."""
    first, *others = (content_of(joined.journal_of(name), run) for name in names)
    assert first is not None
    assert others == [first] * len(others)


def in_sync(joined, name, run):
    """Return the uids of the nodes that may claim a run, as the store of leases has them."""
    return joined.nodes[name].call(LEASES, Read(f"run:{run}"), 30.0)[0]


@pytest.mark.soak
def test_a_run_goes_on_at_the_standby_of_a_node_that_is_killed_which_is_the_next_standby(joined, systems, server):
    joined.cluster().order("c", "cordoned")
    before = server.requests
    system, other = systems["a"], systems["b"]
    run = begin(system)
    until(lambda: summary(other, run)["done"] > COUNT / 4, 60, lambda: summary(system, run))
    until(lambda: set(in_sync(joined, "b", run)) == {joined.uid("a"), joined.uid("b")}, 60)
    assert row(joined, "c", run) is None
    owner = row(joined, "b", run).owner
    joined.kill("a")
    until(lambda: row(joined, "b", run).owner != owner, 60)
    at = summary(other, run)["done"]
    until(lambda: summary(other, run)["done"] > at, 60)
    # It comes back, with what only it has written, while another node has the run: that is dropped for what there is.
    other._ask("pause", run, "the node is waited for")
    assert row(joined, "a", run).claimed < row(joined, "b", run).claimed
    joined.start_again("a")
    until(
        lambda: row(joined, "a", run) == row(joined, "b", run),
        120,
        lambda: (row(joined, "a", run), row(joined, "b", run)),
    )
    same(joined, run, "a", "b")
    other._ask("resume", run, False)
    check(other.wait_run(run), server, before, 6 * IN_FLIGHT)  # of the killed node, of the pause, and stragglers
    same(joined, run, "a", "b")
    assert row(joined, "a", run) == row(joined, "b", run)


@pytest.mark.soak
def test_a_standby_that_is_killed_is_followed_by_another_node_and_the_run_goes_on(joined, systems, server):
    joined.cluster("b").order("c", "alive")
    joined.until_all_see_all()
    before = server.requests
    system = systems["b"]
    run = begin(system)
    until(lambda: summary(system, run)["done"] > COUNT / 4, 60)
    [standby] = [name for name in ("a", "c") if row(joined, name, run) is not None]
    joined.kill(standby)
    result = system.wait_run(run)
    [other] = {"a", "c"} - {standby}
    check(result, server, before, 3 * IN_FLIGHT)
    same(joined, run, "b", other)
    joined.start_again(standby)


@pytest.mark.soak
def test_a_program_that_is_attached_to_the_node_that_dies_has_the_result_from_the_standby(joined, server):
    joined.until_all_see_all()
    before = server.requests
    system = joined.system(server.lm(), "a")
    run = begin(system)
    until(lambda: summary(system, run)["done"] > COUNT / 4, 60, lambda: summary(system, run))
    until(lambda: len(in_sync(joined, "b", run)) == 2, 60)
    [standby] = [name for name in ("b", "c") if joined.uid(name) in in_sync(joined, "b", run)]
    joined.kill("a")
    result = system.wait_run(run)
    check(result, server, before, 3 * IN_FLIGHT)
    assert result.results[COUNT - 1].prediction.team
    assert row(joined, standby, run).state == "finished"


@pytest.mark.soak
def test_a_copy_is_completed_when_its_node_is_back_after_the_run_and_deleted_when_it_is_back_after_that(joined, server):
    for name in {"a", "b", "c"} - set(joined.nodes):
        joined.start_again(name)
    joined.until_all_see_all()
    system = joined.system(server.lm(), "b")
    run = begin(system, 300)
    until(lambda: summary(system, run)["done"] > 50, 60, lambda: summary(system, run))
    [standby] = until(lambda: [name for name in ("a", "c") if row(joined, name, run) is not None], 60)
    [other] = {"a", "c"} - {standby}
    joined.kill(standby)
    assert system.wait_run(run).state == "finished"
    assert row(joined, standby, run).state == "running"
    joined.start_again(standby)
    until(lambda: row(joined, standby, run).state == "finished", 120)
    same(joined, run, "b", standby)
    assert row(joined, standby, run) == row(joined, "b", run)
    joined.kill(standby)
    system.delete(run)
    assert [row(joined, name, run) for name in ("b", other)] == [None, None]
    assert row(joined, standby, run) is not None
    joined.start_again(standby)
    until(lambda: row(joined, standby, run) is None, 120)


@pytest.mark.soak
def test_a_run_that_is_cancelled_while_it_is_paused_is_cancelled_in_its_copies_also_where_its_node_is_gone(
    tmp_path, server
):
    with contextlib.closing(Joined(tmp_path, 3, first=164)) as joined:
        systems, runs = {name: joined.system(server.lm(), name) for name in "abc"}, {}
        for how in ("here", "there"):
            run = runs[how] = begin(systems["b"], 300)
            until(lambda run=run: summary(systems["b"], run)["done"] > 20, 60)
            until(lambda run=run: len(in_sync(joined, "b", run)) == 2, 60)
            systems["b"].pause(run)
        [other], [standby] = (
            [name for name in "ac" if joined.uid(name) in in_sync(joined, "b", run)] for run in runs.values()
        )
        systems["b"].cancel(runs["here"], "enough")
        assert [row(joined, name, runs["here"]).state for name in ("b", other)] == ["cancelled", "cancelled"]
        joined.kill("b")
        with pytest.raises(ConfigError, match="was cancelled"):
            systems[other].resume(runs["here"], display_progress=False)
        systems[standby].cancel(runs["there"], "enough")
        assert row(joined, standby, runs["there"]).state == "cancelled"
        joined.start_again("b")
        until(lambda: row(joined, "b", runs["there"]).state == "cancelled", 120)
