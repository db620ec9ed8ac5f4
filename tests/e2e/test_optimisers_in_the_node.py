"""Every optimiser, carried out by the node: it chooses what DSPy chose, or an undisturbed one, whatever is killed."""

import optimised
import pytest
from e2e_kit import lines, until
from optimised import Scripted
from optimised_kit import CHOICES, PROGRAMS, Booked, chosen, given, questions, with_feedback

import dspex_actors as dspex

#: What is killed, one after the other: who carries it out, who keeps those, an evaluator, a worker, the keeper of runs.
PARTS = ("optimise:", "optimisations", "run:", "worker-1", "runs")
#: Examples at once of each run, and runs at once.
IN_FLIGHT = 4 * 8


def begun(system, what, case, run_id):
    optimizer, program, arguments = given(what, case)
    return system.start_optimization(optimizer, program, run_id=run_id, max_in_flight=4, **arguments)


def shown_to(system, run_id, field):
    """Return what a field of the questions to an LM was in an optimisation."""
    journal, found = system.journal, []
    for part in journal.parts_of(run_id):
        results = dspex.EvaluationResult.of(journal, part.run_id, trusted=True).results
        found += [one.example[field] for one in results if field in one.example]
    return found


@pytest.mark.soak
@pytest.mark.timeout(700)
def test_several_at_once_choose_what_dspy_chose_though_a_server_and_the_keeper_of_runs_die(shared_host, tmp_path):
    book = tmp_path / "book"
    cases = {"mipro": "zero shot", "simba": "rules"}
    with dspex.connect(home=shared_host.home, lm=Booked(str(book), 0.01)) as system:
        handles = {what: begun(system, what, case, f"all {what}") for what, case in cases.items()}
        handles["gepa"] = optimised.begin("evolve", system, "all gepa", lm=Scripted(str(book), 0.01))
        for least, part in ((60, "optimise:"), (150, "runs")):
            until(lambda least=least: lines(book) > least, 240)
            shared_host.kills(part, system.node)
        best = {what: handle.wait(300) for what, handle in handles.items()}
        for what, case in cases.items():
            assert chosen(best[what]) == CHOICES[what][case]["chosen"]
        status = {what: handle.status() for what, handle in handles.items()}
    assert {what: one.state for what, one in status.items()} == dict.fromkeys(handles, "finished")
    assert all(one.remaining == 0.0 and one.running == 0 for one in status.values())
    assert status["mipro"].candidates == status["mipro"].expected
    assert status["simba"].candidates <= status["simba"].expected


@pytest.mark.soak
@pytest.mark.timeout(500)
@pytest.mark.parametrize(("what", "case"), [("mipro", "light"), ("simba", "two predictors"), ("gepa", "one")])
def test_whatever_is_killed_it_chooses_what_dspy_chose_and_asks_little_twice(shared_host, tmp_path, what, case):
    books = [tmp_path / "undisturbed", tmp_path / "killed"]
    with dspex.connect(home=shared_host.home, lm=Booked(str(books[0]))) as system:
        handle = begun(system, what, case, f"undisturbed {what} {case}")
        assert chosen(handle.wait(300)) == CHOICES[what][case]["chosen"]
        undisturbed = handle.status()
    whole = lines(books[0])
    with dspex.connect(home=shared_host.home, lm=Booked(str(books[1]), 0.02)) as system:
        handle = begun(system, what, case, f"killed {what} {case}")
        for number, part in enumerate(PARTS, 1):
            least = 0.15 * number * whole
            until(lambda least=least: lines(books[1]) > least or handle.status().state != "running", 120)
            shared_host.kills(part, system.node)
        assert chosen(handle.wait(300)) == CHOICES[what][case]["chosen"]
        status = handle.status()
    assert (status.best, status.best_score, status.candidates) == (
        undisturbed.best, undisturbed.best_score, undisturbed.candidates,
    )  # fmt: skip
    assert lines(books[1]) <= 1.1 * whole + len(PARTS) * IN_FLIGHT


@pytest.mark.soak
@pytest.mark.timeout(500)
@pytest.mark.parametrize("way", ["search", "spread", "evolve", "adapt"])
def test_what_has_no_record_of_dspys_ends_as_an_undisturbed_one(shared_host, tmp_path, way):
    books = [tmp_path / "undisturbed", tmp_path / "killed"]
    with dspex.connect(home=shared_host.home, lm=Scripted(str(books[0]))) as system:
        handle = optimised.begin(way, system, f"undisturbed {way}")
        expected = optimised.chosen(handle.wait(300))
    whole = lines(books[0])
    with dspex.connect(home=shared_host.home, lm=Scripted(str(books[1]), 0.02)) as system:
        handle = optimised.begin(way, system, f"killed {way}")
        for number, part in enumerate(PARTS, 1):
            least = 0.15 * number * whole
            until(lambda least=least: lines(books[1]) > least or handle.status().state != "running", 120)
            shared_host.kills(part, system.node)
        assert optimised.chosen(handle.wait(300)) == expected
    # Who is beaten is stopped sooner or later, and bootstraps run ahead more or less far.
    assert lines(books[1]) <= 1.25 * whole + len(PARTS) * IN_FLIGHT


@pytest.mark.soak
@pytest.mark.timeout(200)
@pytest.mark.parametrize("part", ["optimise:", "run:"])
def test_gepa_that_is_killed_while_a_try_ahead_is_under_way_chooses_the_same_and_asks_little_twice(
    shared_host, tmp_path, part
):
    examples, books = questions(0, 36), [tmp_path / "undisturbed", tmp_path / "killed"]

    def begun(system, run_id):
        data = {"trainset": examples[:20], "valset": examples[20:]}
        optimizer = dspex.GEPA(with_feedback, max_metric_calls=80)
        return system.start_optimization(optimizer, PROGRAMS["One"](), run_id=run_id, max_in_flight=4, **data)

    def ahead():
        """A run of more than one try, and of fewer examples than a valset, of which some are asked and some are not."""
        for one in journal.parts_of(run_id):
            row = journal.get_run(one.run_id)
            if row.state == "running" and 3 < (row.spec.total or 0) < 16 and lines(books[1]) > sum_of_others(row):
                return row.run_id
        return None

    def outcome(handle):
        best, status = chosen(handle.wait(100)), handle.status()
        return best, status.best, status.best_score, status.candidates

    def sum_of_others(row):
        return sum(one.asked for one in journal.parts_of(run_id) if one.run_id != row.run_id)

    with dspex.connect(home=shared_host.home, lm=Booked(str(books[0]))) as system:
        handle = begun(system, f"undisturbed ahead {part}")
        expected = outcome(handle)
    with dspex.connect(home=shared_host.home, lm=Booked(str(books[1]), 0.2)) as system:
        journal, run_id = system.journal, f"killed ahead {part}"
        handle = begun(system, run_id)
        under_way = until(ahead, 60)
        assert shared_host.kill(part if part == "optimise:" else f"run:{under_way}", system.node)
        assert journal.get_run(under_way).done < journal.get_run(under_way).spec.total
        assert outcome(handle) == expected
    # Its worker has kept what was in flight: up to four.
    assert lines(books[0]) <= lines(books[1]) <= lines(books[0]) + 4


@pytest.mark.soak
@pytest.mark.timeout(500)
def test_an_account_without_money_ends_no_candidate_and_it_goes_on_when_there_is_some(shared_host, tmp_path):
    switch = tmp_path / "empty"
    with dspex.connect(home=shared_host.home, lm=Account(str(switch))) as system:
        optimizer, program, arguments = given("mipro", "zero shot")
        handle = system.start_optimization(optimizer, program, run_id="account", max_in_flight=4, **arguments)
        until(lambda: lines(switch.with_suffix(".book")) > 40, 120)  # of some 110; bootstraps or trials are under way
        switch.touch()
        with pytest.raises(dspex.RunFailed, match="QuotaExhausted: no money is left"):
            handle.wait(120)
        assert handle.status().state == "failed"
        switch.unlink()
        assert chosen(handle.resume().wait(240)) == CHOICES["mipro"]["zero shot"]["chosen"]
        status = handle.status()
        assert (status.best_score, status.candidates) == (CHOICES["mipro"]["zero shot"]["score"], status.expected)
        # Classes travel without their files, and who proposes is shown what stands in them all the same.
        code = shown_to(system, "account", "program_code")
        assert code
        assert all("return self.say(question=question)" in one for one in code)


class Account(Booked):
    """An LM of an account that is empty while there is a file."""

    def __init__(self, switch):
        super().__init__(f"{switch}.book", 0.02)
        self.switch = switch

    async def aforward(self, messages, **params):
        import os

        if os.path.exists(self.switch):  # noqa: ASYNC240 - a look
            raise dspex.QuotaExhausted("no money is left")
        return await super().aforward(messages, **params)
