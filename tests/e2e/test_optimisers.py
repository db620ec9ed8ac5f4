"""Optimisers on a real node: DSPy's choice, whatever is killed in the middle, and nothing asked twice."""

import sys
from pathlib import Path

import optimised
import pytest
import warm
from e2e_kit import lines, until
from optimised import Scripted, Two, chosen, connected, is_yes, one, questions

import dspex_actors as dspex
from dspex_actors.teleprompt import COPRO, GEPA, AdaptiveOptimizer

#: What DSPy 3.4.1 chooses with the same answers: the predictors' instructions and prefixes, score, evaluations.
COPRO_OF_DSPY = {
    ("one", 4, 3): ([("Answer it.", "Answer:")], 90.0, 12),
    ("Two", 4, 3): ([("Rule 1724", "So 2:"), ("Rule 8704", "So 1:")], 65.0, 48),
    ("Two", 3, 2): ([("Rule 2455", "So 1:"), ("Rule 7036", "So 1:")], 65.0, 18),
}


#: What its random search chooses with `optimised.search`: the questions of each predictor's demos; scores by seed.
SEARCH_OF_DSPY = [["q27", "q21", "q15", "q1", "q37", "q13"], ["q27", "q21", "q15", "q1", "q23", "q10"]]
SCORES_OF_DSPY = {0: 42.5, 3: 42.5, 4: 40.0, -1: 35.0, 1: 27.5, -3: 10.0, -2: 10.0, 2: 5.0}

system = pytest.fixture(connected)


@pytest.mark.parametrize(
    ("program", "breadth", "depth"),
    [pytest.param(*each, marks=pytest.mark.soak) if each[0] == "Two" else each for each in COPRO_OF_DSPY],
)
def test_copro_chooses_what_dspy_chooses(system, program, breadth, depth):
    words, score, calls = COPRO_OF_DSPY[program, breadth, depth]
    student = {"one": one, "Two": Two}[program]()
    before = chosen(student)
    best = COPRO(metric=is_yes, breadth=breadth, depth=depth).compile(
        student, trainset=questions(20), display_progress=False
    )
    states = [state for state, _ in chosen(best)]
    assert [(state["instructions"], state["fields"][-1]["prefix"]) for state in states] == words
    assert (best.candidate_programs[0]["score"], best.total_calls) == (score, calls)
    assert chosen(student) == before
    assert best.candidate_programs[0]["program"] is best


def test_random_search_chooses_what_dspy_chooses(system):
    best = optimised.search(system=system)
    assert [[demo.question for demo in one.demos] for one in best.predictors()] == SEARCH_OF_DSPY
    scores = {one["seed"]: one["score"] for one in best.candidate_programs}
    assert next(iter(scores)) == 0
    assert all(score in (None, SCORES_OF_DSPY[seed]) for seed, score in scores.items())


@pytest.mark.soak
def test_the_optimiser_that_suits_is_taken_and_what_has_gained_before_goes_before_it(system):
    student = dspex.Predict(dspex.Signature("question -> answer", "Answer what nobody here has optimised."))

    def adapted(run_id):
        optimizer = AdaptiveOptimizer(
            is_yes,
            strategies=["bootstrap", "copro"],
            settings={"bootstrap": {"max_labeled_demos": 4}, "copro": {"breadth": 3, "depth": 1}},
        )
        return optimizer.compile(student, trainset=questions(10), run_id=run_id, display_progress=False)

    first = adapted("adapted")
    assert first.strategy.strategy == "bootstrap"
    COPRO(metric=is_yes, breadth=4, depth=2).compile(student, trainset=questions(10), display_progress=False)
    second = adapted("adapted later")
    assert second.strategy.strategy == "copro"
    assert "points in an earlier optimisation of this program" in second.strategy.why
    again = adapted("adapted")  # what has been optimised since does not count
    assert (again.strategy.strategy, chosen(again)) == ("bootstrap", chosen(first))


@pytest.mark.soak
def test_demos_from_all_chunks_are_those_that_voters_agree_on(system):
    best = optimised.spread(run_id="spread", system=system)
    shown = [[demo.question for demo in one.demos if "augmented" in demo] for one in best.predictors()]
    assert shown[0] == shown[1]
    assert 0 < len(shown[0]) <= 6
    runs = [run for run in system.runs() if run["run_id"].startswith("spread.")]
    assert [(run["kind"], run["state"]) for run in runs] == [("bootstrap", "finished")] * 7


@pytest.mark.soak
def test_instructions_evolve_by_feedback_and_what_is_through_is_not_asked_again(shared_host, tmp_path):
    book = tmp_path / "book"
    with dspex.connect(home=shared_host.home, lm=Scripted(str(book))) as system:
        first = optimised.evolve(18, run_id="evolved")
        asked = book.read_text()
        again = optimised.evolve(18, run_id="evolved")
        runs = {run["run_id"]: run for run in system.runs() if run["run_id"].startswith("evolved.")}
        seen = dspex.EvaluationResult.of(system.journal, "evolved.1", trusted=True).results[0]
    found = first.detailed_results
    assert again.detailed_results.to_dict() == found.to_dict()
    assert book.read_text() == asked
    assert found.total_metric_calls >= 18
    assert {run["state"] for run in runs.values()} == {"finished"}
    assert seen.feedback.startswith("fb")
    assert [name for name, *_ in seen.extra["trace"]] == ["look", "say"]


@pytest.mark.soak
@pytest.mark.parametrize("way", ["search", "propose", "spread", "evolve"])
def test_a_program_killed_while_it_optimises_goes_on_with_the_same_result_and_asks_nothing_twice(
    shared_host, tmp_path, way, monkeypatch
):
    book, undisturbed = tmp_path / "book", tmp_path / "undisturbed"

    with dspex.connect(home=shared_host.home, lm=Scripted(str(undisturbed))):
        expected = chosen(getattr(optimised, way)(run_id=f"undisturbed {way}"))
    whole = lines(undisturbed)
    command = [sys.executable, optimised.__file__, str(shared_host.home), way, str(book), f"killed {way}"]
    for share in (0.3, 0.6):
        with warm.Popen(command, cwd=Path(optimised.__file__).parent) as program:
            try:
                until(lambda least=share * whole: lines(book) > least, 120)
                assert program.poll() is None
            finally:
                program.kill()
    with dspex.connect(home=shared_host.home, lm=Scripted(str(book), 0.02)) as system:
        assert chosen(getattr(optimised, way)(run_id=f"killed {way}")) == expected
        runs = [run for run in system.runs() if run["run_id"].startswith(f"killed {way}.")]
    assert {run["state"] for run in runs} <= {"finished", "cancelled"}
    # A candidate that is beaten is stopped sooner or later, and so may be another share of them.
    assert abs(lines(book) - whole) <= 0.1 * whole


def test_one_call_optimises_by_an_optimiser_of_a_name(system):
    made = COPRO(metric=is_yes, breadth=2, depth=1).compile(one(), trainset=questions(5), display_progress=False)
    best = dspex.optimize(
        one(), questions(5), is_yes, "copro", breadth=2, depth=1, run_id="in one call", display_progress=False
    )
    assert chosen(best) == chosen(made)
    assert system.optimization("in one call").status().state == "finished"


def test_another_valset_or_argument_is_refused_before_anything_is_asked_and_the_end_is_estimated(system):
    def compiled(**given):
        optimizer = GEPA(feedback, max_metric_calls=6)
        return optimizer.compile(one(), trainset=questions(5), run_id="whole", display_progress=False, **given)

    compiled(valset=questions(3))
    assert system.journal.get_run("whole").spec.settings["expected_examples"] == 6
    runs = len(system.journal.list_runs())
    with pytest.raises(
        dspex.ConfigError, match=r"run whole is there already with another dataset \(valset has changed"
    ):
        compiled(valset=questions(4))
    with pytest.raises(dspex.ConfigError, match=r"another dataset \(valset is gone\)"):
        compiled()
    assert len(system.journal.list_runs()) == runs


def feedback(gold, pred, trace=None, pred_name=None, pred_trace=None):
    return is_yes(gold, pred)


def test_another_optimisation_under_the_same_id_is_refused_and_told_what_differs(system):
    COPRO(metric=is_yes, breadth=2, depth=1).compile(
        one(), trainset=questions(5), run_id="same", display_progress=False
    )
    with pytest.raises(
        dspex.ConfigError,
        match=r"run same is there already with other settings \(init_temperature was 1.4 and is 0.3\)",
    ):
        COPRO(metric=is_yes, breadth=2, depth=1, init_temperature=0.3).compile(
            one(), trainset=questions(5), run_id="same", display_progress=False
        )
