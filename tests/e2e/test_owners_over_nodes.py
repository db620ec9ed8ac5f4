"""Limits of an LM, and of money, hold for all nodes together: counted by the server that is asked."""

import contextlib
import os
import signal
import time

import pytest
from cluster_kit_e2e import Joined, server_of_module
from e2e_kit import ANSWER, metric, tickets, triage, until
from prices_kit import INPUT, OUTPUT, at_prices
from test_runs_over_nodes import Timed

import dspex_actors as dspex
from dspex_actors.lm.control.client import client_name
from dspex_actors.lm.control.spending_messages import SPENDING
from dspex_actors.runs.budget import check_budget
from supervisors.errors import NoProcess


@pytest.fixture(scope="module")
def joined(tmp_path_factory):
    folder = tmp_path_factory.mktemp("owners")
    with at_prices(folder, "openai/x"), contextlib.closing(Joined(folder, 3, first=180)) as nodes:
        yield nodes


@pytest.fixture(scope="module")
def systems(joined):
    return {name: joined.system(None, name) for name in joined.nodes}


@pytest.fixture
def server():
    one = Timed()
    try:
        yield one
    finally:
        one.shutdown()
        one.server_close()


def begin(system, lm, count, **settings):
    """Begin a run; on a busy machine the voters may not answer in time."""
    settings = {"max_in_flight": 16, "deadline": 300.0} | settings

    def begun():
        with contextlib.suppress(dspex.ConfigError):
            return system.start_run("evaluate", triage(), tickets(count), metric(), lm=lm, settings=settings)

    return until(begun, 120.0)


def check(server):
    """No four seconds have more than one owner gives in them; requests of a busy machine travel unevenly."""
    assert server.most_within(3.95) <= 8 * (4 + 1) + 4  # at 8 a second, a second's worth ahead; two owners give 72


@pytest.mark.soak
def test_two_runs_that_two_nodes_coordinate_have_one_limit(systems, server):
    lm = dspex.LM("openai/x", base_url=server.url, cache=False, rpm=480)
    runs = [(system, begin(system, lm, 40)) for system in (systems["a"], systems["b"])]
    results = [system.wait_run(run) for system, run in runs]
    assert [(result.n, result.failed) for result in results] == [(40, 0), (40, 0)]
    check(server)


def told(joined, name, lm):
    with contextlib.suppress(NoProcess):
        return joined.nodes[name].call(client_name(lm.deployment), "stats")


# --- money ----------------------------------------------------------------------------------------------------------


#: An LM that keeps a book, as its provider would.
billed = server_of_module("--answer", ANSWER, "--book", "--latency-ms", 10)


def charged(billed, since=0):
    """Return what the server would bill, in dollars."""
    return sum(one["input"] * INPUT + one["output"] * OUTPUT for one in billed.booked()[since:]) / 1e6


def paid(billed, system, count, budget=None):
    settings = {} if budget is None else check_budget(budget)
    return begin(system, billed.lm(max_tokens=16), count, **settings)


@pytest.mark.soak
def test_a_budget_is_kept_by_all_nodes_together_and_its_owner_may_be_killed(joined, systems, billed):
    before, system = len(billed.booked()), systems["a"]
    run = paid(billed, system, 200, budget=0.2)
    os.kill(until(lambda: joined.nodes["b"].whereis(SPENDING), 120.0).pid, signal.SIGKILL)
    with pytest.raises(dspex.BudgetExceeded):
        system.wait_run(run)
    row = system.journal.get_run(run)
    assert (row.state, row.reason) == ("paused", "budget")
    assert 0.4 * 0.2 <= charged(billed, before) <= 0.2
    assert len(row.nodes) > 1
    result = system.resume(run, budget=100.0, display_progress=False)
    assert (result.n, result.failed) == (200, 0)
    assert result.cost == pytest.approx(charged(billed, before))


@pytest.mark.soak
def test_calls_of_an_optimisation_are_counted_by_all_nodes_together_and_an_owner_may_be_killed(joined, systems, billed):
    before, system = billed.requests, systems["a"]
    optimizer = dspex.BootstrapFewShotWithRandomSearch(metric(), max_labeled_demos=2, num_candidate_programs=3)
    train = [dspex.Example(row).with_inputs("ticket") for row in tickets(60)]
    handle = until(
        lambda: optimised(system, optimizer, train, lm=billed.lm(), budget={"calls": 150}, max_in_flight=16), 120.0
    )
    os.kill(until(lambda: joined.nodes["b"].whereis(SPENDING), 120.0).pid, signal.SIGKILL)
    with pytest.raises(dspex.BudgetExceeded, match="150 of 150 calls are made"):
        handle.wait(120)
    assert 100 < billed.requests - before <= 150


def optimised(system, optimizer, train, **options):
    """Begin an optimisation; on a busy machine the voters may not answer in time."""
    with contextlib.suppress(dspex.ConfigError):
        return system.start_optimization(optimizer, triage(), train, **options)


@pytest.mark.nemesis
def test_what_a_day_may_cost_holds_for_all_nodes_together(joined, systems, billed):
    before = len(billed.booked())
    here = [systems["a"], systems["b"]]
    for name in joined.nodes:
        systems[name].config.update("infrastructure.budgets.per_day", 0.1)
    try:
        runs = [paid(billed, system, 400) for system in here]
        for system, run in zip(here, runs, strict=True):
            with pytest.raises(dspex.BudgetExceeded):
                system.wait_run(run)
            system.cancel(run)
        assert 0.5 * 0.1 <= charged(billed, before) <= 0.1
    finally:
        for name in joined.nodes:
            systems[name].config.update("infrastructure.budgets.per_day", None)


@pytest.mark.nemesis
def test_the_owners_node_is_killed_and_the_next_owner_gives_nothing_twice(joined, systems, server):
    lm = dspex.LM("openai/x", base_url=server.url, cache=False, rpm=480)
    first = systems["c"]
    theirs = begin(first, lm, 200)  # it ends with its node
    until(lambda: len(server.asked) >= 5, 120.0, lambda: (first._ask("progress", theirs), told(joined, "c", lm)))
    system = systems["a"]
    run = begin(system, lm, 60)
    until(lambda: system.journal.get_run(run).done >= 10, 120.0)
    assert told(joined, "c", lm)["owner"] == "here"
    joined.kill("c")
    result = system.wait_run(run)
    assert (result.n, result.failed) == (60, 0)
    check(server)


@pytest.mark.nemesis
def test_the_owners_node_is_killed_and_the_limit_of_a_day_is_not_passed(joined, systems, server):
    if "c" not in joined.nodes:
        joined.start_again("c")
        systems["c"] = joined.system(None, "c")
    began = time.time()
    lm = dspex.LM("openai/x", base_url=server.url, cache=False, rpd=100)
    begin(systems["c"], lm, 200)  # it ends with its node, or goes on elsewhere
    until(lambda: len(server.asked) >= 20, 120.0, lambda: told(joined, "c", lm))
    system = systems["a"]
    run = begin(system, lm, 200)
    until(lambda: system.journal.get_run(run).done >= 10, 120.0)
    assert told(joined, "c", lm)["owner"] == "here"
    joined.kill("c")

    def is_used_up():
        free = [found["used"]["rpd"]["free"] for name in "ab" if (found := told(joined, name, lm)) and found["used"]]
        return min(free, default=100.0) < 1.0

    until(is_used_up, 120.0, lambda: (len(server.asked), told(joined, "a", lm)))
    system.cancel(run)
    assert 80 <= len(server.asked) <= 100 * (1 + int(time.time() // 86_400) - int(began // 86_400))
