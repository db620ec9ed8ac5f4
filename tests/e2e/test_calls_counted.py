"""No request more than `budget={"calls": N}` says, by the server's own counter, whoever is killed."""

import optimised
import pytest
from e2e_kit import ANSWER, Host, LMServer, kill_part, lines, metric, tickets, triage, until

import dspex_actors as dspex
from dspex_actors.teleprompt import BootstrapFewShotWithRandomSearch

#: So many examples of a bootstrap may be given up when enough have passed.
GIVEN_UP = 32


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    made = Host(tmp_path_factory.mktemp("counted") / "home", workers=2)
    try:
        yield made.start()
    finally:
        made.close()


@pytest.fixture
def server():
    made = LMServer("--answer", ANSWER, "--latency-ms", 20, "--fault", "server_error=0.1", "--fault", "rate_limit=0.05")
    try:
        yield made
    finally:
        made.close()


def begun(system, run_id, lm, calls):
    optimizer = BootstrapFewShotWithRandomSearch(
        metric(), max_bootstrapped_demos=2, max_labeled_demos=2, num_candidate_programs=3
    )
    train = [dspex.Example(row).with_inputs("ticket") for row in tickets(60)]
    return system.start_optimization(
        optimizer, triage(), train, run_id=run_id, lm=lm, budget={"calls": calls}, max_in_flight=16
    )


@pytest.mark.soak
def test_an_optimisation_makes_all_the_calls_that_it_may_and_none_more_and_goes_on_with_more(host, server):
    with dspex.connect(home=host.home) as system:
        handle = begun(system, "exact", server.lm(), 101)
        with pytest.raises(dspex.BudgetExceeded, match="101 of 101 calls are made"):
            handle.wait(60)
        # One that is given up before it is on its way is counted here, and not there.
        assert 101 - GIVEN_UP < server.requests <= 101
        assert handle.status().calls <= 101
        handle.resume(budget={"calls": 130})
        with pytest.raises(dspex.BudgetExceeded, match="130 of 130 calls are made"):
            handle.wait(60)
        assert 130 - 2 * GIVEN_UP < server.requests <= 130
        assert handle.status().calls <= 130
        handle.resume(budget={"calls": 10_000})
        handle.wait(90)
        assert handle.status().state == "finished"


def test_whatever_is_killed_no_call_more_is_made(host, server):
    with dspex.connect(home=host.home) as system:
        handle = begun(system, "killed", server.lm(), 160)
        for least, victim in ((30, "worker-1"), (60, "spending"), (80, "run:"), (100, "worker-2")):
            until(lambda least=least: server.requests >= least or handle.status().state != "running", 60)
            kill_part(system.node, victim)
        with pytest.raises(dspex.BudgetExceeded, match="160 of 160 calls are made"):
            handle.wait(90)
        # What was held back by a worker that died counts as made: it may have been.
        assert 160 - 2 * 8 * 16 < server.requests <= 160
        accounts = system.node.call("spending", "accounts")[1]
        [spent] = [account["spent"] for of, account in accounts.items() if of.startswith("run:killed#calls-")]
        assert spent == 160


@pytest.mark.soak
def test_calls_of_a_users_own_lm_are_counted_before_they_are_made(host, tmp_path):
    book = tmp_path / "book"
    with dspex.connect(home=host.home, lm=optimised.Scripted(str(book), 0.02)) as system:
        optimizer = dspex.COPRO(metric=optimised.is_yes, breadth=4, depth=3)
        handle = system.start_optimization(
            optimizer, optimised.one(), optimised.questions(20), run_id="own", budget={"calls": 70}, max_in_flight=8
        )
        with pytest.raises(dspex.BudgetExceeded, match="70 of 70 calls are made"):
            handle.wait(60)
        assert 70 - GIVEN_UP < lines(book) <= 70
        handle.resume(budget={"calls": 10_000})
        handle.wait(60)
        assert handle.status().state == "finished"
