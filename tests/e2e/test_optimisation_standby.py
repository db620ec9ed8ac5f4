"""An optimisation goes on by itself when its node is killed, where each node has its own journal and it has a copy."""

import contextlib
import signal
import time

import optimised
import pytest
from cluster_kit_e2e import Joined
from e2e_kit import lines, until
from optimised import Scripted
from optimised_kit import CHOICES, Booked, chosen, given
from test_optimisations_in_the_node import REQUESTS, SCORES, scores

from dspex_actors.client.system import System
from dspex_actors.journal.copying import content_of
from supervisors import Node
from supervisors.cluster.leases.messages import LEASES, Read

#: Within so many seconds another node has it: the lease of the dead one ends first.
TAKEN_SECONDS = 25.0
#: Requests at once, of all runs of it.
IN_FLIGHT = 4 * 8


def in_sync(joined, name, run_id):
    """Return the uids of the nodes that may go on with it."""
    return set(joined.nodes[name].call(LEASES, Read(f"run:{run_id}"), 30.0)[0] or ())


def family(joined, name, run_id):
    """Return what a node's journal has of an optimisation and its runs: owner, state and content of each."""
    journal = joined.journal_of(name)
    ids = [run_id, *sorted(part.run_id for part in journal.parts_of(run_id))]
    rows = {one: journal.get_run(one) for one in ids}
    return {one: (row.owner, row.claimed, row.state, content_of(journal, one)) for one, row in rows.items()}


@pytest.mark.soak
@pytest.mark.parametrize("how", ["killed", "stands still"])
def test_it_goes_on_at_its_standby_and_comes_to_what_it_comes_to_undisturbed(tmp_path, how):
    book, run_id = tmp_path / "book", f"o {how}"
    with contextlib.closing(Joined(tmp_path, 3, first=191)) as joined:
        joined.cluster().order("c", "cordoned")
        lm = Scripted(str(book), 0.05)
        other = joined.system(lm, "b")
        system = System(Node.attach(joined.nodes["a"].data_dir), lm, own=False)
        begun = optimised.begin("propose", system, run_id)
        until(lambda: lines(book) > 0.1 * REQUESTS, 60)
        first, second = joined.uid("a"), joined.uid("b")
        until(lambda: in_sync(joined, "b", run_id) == {first, second}, 30)
        row = other.journal.get_run(run_id)
        assert (row.state, row.owner) == ("running", first)
        # Whoever asks there for what is under way here follows it.
        assert optimised.begin("propose", other, run_id).status().state == "running"
        until(lambda: lines(book) > 0.45 * REQUESTS, 60)
        if how == "killed":
            joined.kill("a")
        else:
            joined.signal("a", signal.SIGSTOP)
        gone = time.monotonic()
        until(lambda: other.journal.get_run(run_id).owner == second, TAKEN_SECONDS)
        print(f"taken after {time.monotonic() - gone:.1f} s, {lines(book)} of {REQUESTS} asked")
        if how != "killed":
            until(lambda: time.monotonic() > gone + 20.0, 30)
            joined.signal("a", signal.SIGCONT)
        if how == "killed":
            with pytest.raises(TimeoutError, match="is still under way after 1 seconds"):
                begun.wait(1)
        handle = other.optimization(run_id)
        best = handle.wait(120)
        status = handle.status()
        print(f"{lines(book)} requests, {REQUESTS} undisturbed")
        assert (status.state, status.running, status.best_score) == ("finished", 0, 90.0)
        assert scores(handle) == SCORES
        assert best.signature.instructions == "Answer it."
        assert lines(book) <= REQUESTS + IN_FLIGHT
        if how == "killed":
            # Whoever was attached to the node that is gone waits on, and needs nothing for it.
            assert begun.wait(60).signature.instructions == "Answer it."
            there = begun.status()
            assert (there.state, there.best_score, there.runs, there.calls) == (
                "finished", 90.0, status.runs, status.calls,
            )  # fmt: skip
            joined.start_again("a")
        # The old node has what the new one has written, and goes on with nothing.
        until(
            lambda: family(joined, "a", run_id) == family(joined, "b", run_id),
            120,
            lambda: (family(joined, "a", run_id), family(joined, "b", run_id)),
        )
        until(lambda: joined.nodes["a"].whereis(f"optimise:{run_id}") is None, 30)
        if how != "killed":
            assert begun.wait(60).signature.instructions == "Answer it."
        system.close()


@pytest.mark.soak
def test_a_node_that_joins_its_set_late_has_all_of_it_and_is_who_goes_on(tmp_path):
    """The first standby is killed; the next one takes in what is finished, too, and the first comes back too late."""
    book, run_id = tmp_path / "book", "late"
    with contextlib.closing(Joined(tmp_path, 3, first=191)) as joined:
        lm = Scripted(str(book), 0.1)
        first, second, third = (joined.uid(name) for name in "abc")
        joined.cluster().order("c", "cordoned")
        system = System(Node.attach(joined.nodes["a"].data_dir), lm, own=False)
        optimised.begin("propose", system, run_id)
        until(lambda: lines(book) > 0.3 * REQUESTS and in_sync(joined, "a", run_id) == {first, second}, 60)
        joined.cluster().order("c", "alive")
        joined.kill("b")
        until(lambda: in_sync(joined, "a", run_id) == {first, third}, 60)
        joined.start_again("b")
        assert system.journal.get_run(run_id).state == "running"
        asked = lines(book)
        joined.kill("a")
        other = joined.system(lm, "c")
        until(lambda: other.journal.get_run(run_id).owner == third, TAKEN_SECONDS)
        handle = other.optimization(run_id)
        handle.wait(120)
        print(f"{asked} asked, then {lines(book)} requests, {REQUESTS} undisturbed")
        assert scores(handle) == SCORES
        assert handle.status().running == 0
        assert lines(book) <= REQUESTS + IN_FLIGHT
        until(lambda: family(joined, "c", run_id) == family(joined, "b", run_id), 120)
        system.close()


@pytest.mark.soak
def test_of_two_at_once_one_goes_on_and_the_one_that_its_dead_node_left_paused_can_be_cancelled(tmp_path):
    books = {run_id: tmp_path / run_id for run_id in ("one", "two")}
    with contextlib.closing(Joined(tmp_path, 3, first=191)) as joined:
        second = joined.uid("b")
        joined.cluster().order("c", "cordoned")
        systems = {}
        for run_id, book in books.items():
            systems[run_id] = System(Node.attach(joined.nodes["a"].data_dir), Scripted(str(book), 0.05), own=False)
            optimised.begin("propose", systems[run_id], run_id)
        until(lambda: all(lines(book) > 0.2 * REQUESTS for book in books.values()), 60)
        until(lambda: all(second in in_sync(joined, "b", run_id) for run_id in books), 30)
        other = joined.system(Scripted(), "b")
        one, two = (other.optimization(run_id) for run_id in books)
        two.pause("lunch")  # it is passed on
        assert two.status().state == "paused"
        joined.kill("a")
        until(lambda: other.journal.get_run("one").owner == second, TAKEN_SECONDS)
        assert other.journal.get_run("two").owner != second
        two.cancel("enough")
        assert other.journal.get_run("two").owner == second
        one.wait(120)
        assert scores(one) == SCORES
        assert lines(books["one"]) <= REQUESTS + IN_FLIGHT
        assert (two.status().state, two.status().running) == ("cancelled", 0)
        cancelled = lines(books["two"])
        joined.start_again("a")
        for run_id in books:
            until(
                lambda run_id=run_id: family(joined, "a", run_id) == family(joined, "b", run_id),
                120,
                lambda run_id=run_id: (family(joined, "a", run_id), family(joined, "b", run_id)),
            )
        assert lines(books["two"]) == cancelled
        for system in systems.values():
            system.close()


@pytest.mark.timeout(500)
@pytest.mark.parametrize(
    ("what", "case"),
    [
        pytest.param("mipro", "light", marks=pytest.mark.soak),
        pytest.param("gepa", "one", marks=pytest.mark.soak),
        # A minute each, of the same way: with what else takes minutes.
        pytest.param("simba", "two predictors", marks=pytest.mark.nemesis),
        pytest.param("search", "", marks=pytest.mark.nemesis),
    ],
)
def test_whatever_optimises_goes_on_at_its_standby_and_chooses_what_it_chooses_undisturbed(tmp_path, what, case):
    """Those that DSPy was recorded with choose what that chose; whoever waits at the dead node has it from there."""
    books, run_id = [tmp_path / "undisturbed", tmp_path / "killed"], f"killed {what}"

    def begun(system, run_id, book, seconds):
        if what == "search":
            return optimised.begin(what, system, run_id, lm=Scripted(str(book), seconds))
        optimizer, program, arguments = given(what, case)
        lm = Booked(str(book), seconds)
        return system.start_optimization(optimizer, program, run_id=run_id, max_in_flight=4, lm=lm, **arguments)

    with contextlib.closing(Joined(tmp_path, 3, first=191)) as joined:
        joined.cluster().order("c", "cordoned")
        other = joined.system(Scripted(), "b")
        handle = begun(other, "undisturbed", books[0], 0.0)
        undisturbed, expected, whole = handle.wait(300), handle.status(), lines(books[0])
        if what != "search":
            assert chosen(undisturbed) == CHOICES[what][case]["chosen"]
        system = System(Node.attach(joined.nodes["a"].data_dir), Scripted(), own=False)
        handle = begun(system, run_id, books[1], 0.03)
        first, second = joined.uid("a"), joined.uid("b")
        until(lambda: lines(books[1]) > 0.3 * whole and in_sync(joined, "b", run_id) == {first, second}, 120)
        joined.kill("a")
        best = handle.wait(300)
        assert other.journal.get_run(run_id).owner == second
        print(f"{lines(books[1])} requests, {whole} undisturbed")
        assert optimised.chosen(best) == optimised.chosen(undisturbed)
        for status in (handle.status(), other.optimization(run_id).status()):
            assert (status.state, status.running, status.best, status.best_score, status.candidates) == (
                "finished", 0, expected.best, expected.best_score, expected.candidates,
            )  # fmt: skip
        # Who is beaten is stopped sooner or later, and bootstraps run ahead more or less far.
        assert lines(books[1]) <= (1.25 if what == "search" else 1.1) * whole + IN_FLIGHT
        system.close()
