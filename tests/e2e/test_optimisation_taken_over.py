"""An optimisation goes on by itself when the node that coordinates it is killed: all have one journal."""

import contextlib
import json
import signal
import time

import optimised
import pytest
from click.testing import CliRunner
from cluster_kit_e2e import Joined
from e2e_kit import lines, metric, tickets, triage, until
from optimised import Scripted
from postgres_kit import postgres_of_module
from test_optimisations_in_the_node import REQUESTS, SCORES, scores

import dspex_actors as dspex
from dspex_actors.cli.main import dspex as command
from dspex_actors.client.elsewhere import have_done
from dspex_actors.client.system import System
from supervisors import Node

#: Within so many seconds another node has it.
TAKEN_SECONDS = 15.0
#: Requests at once, of all runs of it.
IN_FLIGHT = 4 * 8


journal = postgres_of_module()


@pytest.fixture
def joined(tmp_path, journal):
    with contextlib.closing(Joined(tmp_path, 2, first=61, journal=journal.address)) as nodes:
        yield nodes


@pytest.mark.soak
@pytest.mark.parametrize("how", ["killed", "stands still"])
def test_it_goes_on_at_another_node_and_comes_to_what_it_comes_to_undisturbed(joined, tmp_path, monkeypatch, how):
    book, run_id = tmp_path / "book", f"o {how}"
    lm = Scripted(str(book), 0.03)
    other = joined.system(lm, "b")
    system = System(Node.attach(joined.nodes["a"].data_dir), lm, own=False)
    begun = optimised.begin("propose", system, run_id)
    until(lambda: lines(book) > 0.3 * REQUESTS, 60)
    handle, row = other.optimization(run_id), other.journal.get_run(run_id)
    assert (row.state, row.owner) == ("running", system._ask("owner"))
    # Whoever asks there for what is under way here follows it.
    assert optimised.begin("propose", other, run_id).status().state == "running"
    assert other.journal.get_run(run_id).epoch == row.epoch
    with pytest.raises(dspex.ConfigError, match=f"optimisation {run_id} is under way with the budget that it has"):
        handle.resume(budget=3)
    if how == "killed":
        joined.kill("a")
    else:
        joined.signal("a", signal.SIGSTOP)
    gone = time.monotonic()
    until(lambda: other.journal.get_run(run_id).epoch > row.epoch, TAKEN_SECONDS)
    taken = other.journal.get_run(run_id)
    assert (taken.owner, taken.claimed) == (other._ask("owner"), row.claimed + 1)
    if how == "killed":
        # Whoever was attached to the node that is gone waits on, and needs nothing for it.
        with pytest.raises(TimeoutError, match="is still under way after 1 seconds"):
            begun.wait(1)
        monkeypatch.setenv("DSPEX_HOME", str(other.data_dir))
        shown = CliRunner().invoke(command, ["optimizations", "--json"])
        assert {"run_id": run_id, "state": "running"}.items() <= json.loads(shown.stdout)[0].items()
    else:
        until(lambda: time.monotonic() > gone + 20.0, 30)
        joined.signal("a", signal.SIGCONT)
    best = (begun if how == "killed" else handle).wait(120)
    status = handle.status()
    assert (status.state, status.running, status.best_score) == ("finished", 0, 90.0)
    assert scores(handle) == SCORES
    assert best.signature.instructions == "Answer it."
    assert lines(book) <= REQUESTS + IN_FLIGHT
    after = other.journal.get_run(run_id)
    assert (after.owner, after.epoch, after.claimed) == (taken.owner, taken.epoch, taken.claimed)
    if how != "killed":
        # The old owner has stopped, and says what the new one has written.
        until(lambda: system.node.whereis(f"optimise:{run_id}") is None, 30)
        assert begun.wait(60).signature.instructions == "Answer it."
    system.close()


@pytest.mark.soak
def test_it_is_paused_and_cancelled_from_a_node_that_is_not_its_own(joined, tmp_path, monkeypatch):
    book = tmp_path / "book"
    lm = Scripted(str(book), 0.05)
    other = joined.system(lm, "b")
    system = System(Node.attach(joined.nodes["a"].data_dir), lm, own=False)
    begun = optimised.begin("propose", system, "theirs")
    until(lambda: lines(book) > 0, 60)
    run = system.start_run("evaluate", triage(), tickets(500), metric(), lm=lm, settings={"max_in_flight": 2})
    monkeypatch.setenv("DSPEX_HOME", str(other.data_dir))
    told = CliRunner().invoke(command, ["runs", "pause", run])
    assert (told.exit_code, other.journal.get_run(run).state) == (0, "paused"), told.output
    handle = other.optimization("theirs")
    handle.pause("from elsewhere")
    row = other.journal.get_run("theirs")
    assert (row.state, row.reason, row.owner) == ("paused", "from elsewhere", system._ask("owner"))
    assert handle.status().running == 0
    handle.resume()  # it goes on where that was asked for
    assert other.journal.get_run("theirs").owner == other._ask("owner")
    begun.cancel("from a")
    assert other.journal.get_run("theirs").state == "cancelled"
    # Of one that another node has left nothing is asked there: that may be gone.
    joined.kill("a")
    other.cancel(run, "after all")
    assert other.journal.get_run(run).state == "cancelled"
    with pytest.raises(dspex.RunInterrupted, match="the node is gone: connect again, and cancel run x there"):
        have_done(system, "cancel", "x", "why")
    system.close()


@pytest.mark.soak
def test_the_node_that_has_just_taken_it_is_killed_too(tmp_path, journal):
    book, run_id = tmp_path / "book", "killed twice"
    with contextlib.closing(Joined(tmp_path, 3, first=61, journal=journal.address)) as joined:
        lm = Scripted(str(book), 0.03)
        systems = {name: joined.system(lm, name) for name in "abc"}
        owners = {systems[name]._ask("owner"): name for name in "abc"}
        optimised.begin("propose", systems["a"], run_id)
        until(lambda: lines(book) > 0.3 * REQUESTS, 60)
        claimed = systems["a"].journal.get_run(run_id).claimed
        joined.kill("a")
        until(lambda: systems["b"].journal.get_run(run_id).claimed > claimed, TAKEN_SECONDS)
        second = owners[systems["b"].journal.get_run(run_id).owner]
        joined.kill(second)
        [last] = set("bc") - {second}
        handle = systems[last].optimization(run_id)
        handle.wait(120)
        assert owners[systems[last].journal.get_run(run_id).owner] == last
        assert handle.status().running == 0
        assert scores(handle) == SCORES
        assert lines(book) <= REQUESTS + 2 * IN_FLIGHT
