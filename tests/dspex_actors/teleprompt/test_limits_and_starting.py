"""What an optimisation may cost, how it stands, and what cannot begin in a node: without one."""

import math
from types import SimpleNamespace

import pytest

import dspex_actors as dspex
from dspex_actors import (
    COPRO,
    GEPA,
    SIMBA,
    BootstrapFewShot,
    BootstrapFewShotWithRandomSearch,
    ConfigError,
    Example,
    LabeledFewShot,
    MIPROv2,
    Predict,
)
from dspex_actors.foundation.codec import pack
from dspex_actors.journal.records import Part, StepRow
from dspex_actors.journal.sameness import differences
from dspex_actors.runs.optimisations import (
    CANDIDATE,
    CANNOT_WIN,
    FIGURES,
    RESULT,
    best_of,
    figures_in,
    found_in,
    pack_found,
    program_of,
    status_of,
)
from dspex_actors.teleprompt.given import given
from dspex_actors.teleprompt.limits import Limits
from dspex_actors.teleprompt.optimizer import Optimizer
from dspex_actors.teleprompt.starting import plan

STUDENT = Predict("question -> answer")
TRAIN = [Example(question="a", answer="b").with_inputs("question")]


OPTIMISED = Predict("question -> answer")
OPTIMISED._compiled = True


def metric(example, prediction, trace=None):
    return True


def test_a_budget_is_dollars_calls_and_seconds():
    assert Limits.of(None) == Limits()
    assert Limits.of(3) == Limits(usd=3.0)
    given = Limits.of({"usd": 2.5, "calls": 10, "seconds": 60}, "warn")
    assert Limits.from_settings(given.to_settings()) == given
    assert Limits.of({"calls": math.inf, "seconds": None}) == Limits()
    assert given.used_up(10, 59.9) is None  # each call was allowed, and it may need no more
    assert given.used_up(11, 0.0) == "11 of 10 calls are made"
    assert given.used_up(0, 60.0) == "60 of 60 seconds are over"


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ("much", "budget is invalid: got 'much'"),
        (0, "budget is invalid: got 0"),
        (True, "budget is invalid: got True"),
        ({"dollars": 3}, "budget is invalid: got 'dollars', expected some of usd, calls, seconds"),
        ({"calls": 1.5}, "got calls=1.5, expected a whole number from 1"),
        ({"seconds": math.nan}, "got seconds=nan, expected a number above 0"),
        ({"seconds": -1}, "got seconds=-1"),
    ],
)
def test_a_budget_that_is_none_is_refused(budget, words):
    with pytest.raises(ConfigError, match=words):
        Limits.of(budget)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optimizer": "copro"}, "optimizer is invalid: got 'copro', expected one such as dspex.COPRO"),
        ({"student": "text"}, "student: expected a program"),
        ({"trainset": []}, "trainset: expected at least one example, got none"),
        ({"valset": TRAIN}, "valset: COPRO takes none: leave it out"),
        ({"options": {"teecher": STUDENT}}, "COPRO.compile has no argument teecher: there are eval_kwargs"),
        ({"optimizer": COPRO()}, "metric: COPRO compares programs by it"),
        ({"run_id": "a/b"}, "the run id is invalid"),
        # What a compile refuses is refused here, too, and not when the node has begun.
        ({"optimizer": MIPROv2(metric), "trainset": TRAIN * 3, "options": {"num_trials": 3}}, "num_trials are invalid"),
        ({"optimizer": MIPROv2(metric, auto=None, num_candidates=3), "trainset": TRAIN * 3}, "num_trials is invalid"),
        ({"optimizer": MIPROv2(metric=metric)}, "trainset: expected at least 2 examples where there is no valset"),
        ({"optimizer": SIMBA(metric=metric)}, "trainset: expected at least bsize=32 examples, got 1"),
        ({"optimizer": SIMBA(metric=metric, bsize=1), "options": {"seed": -1}}, "seed: expected a whole number"),
        ({"optimizer": BootstrapFewShot(metric), "student": OPTIMISED}, "the student is optimised already"),
        ({"optimizer": BootstrapFewShotWithRandomSearch(metric), "options": {"restrict": [99]}}, "restrict is invalid"),
        (
            {"valset": [5], "optimizer": GEPA(metric, auto="light")},
            r"valset\[0\]: expected an Example or a dict",
        ),
        ({"trainset": [Example(question="a")]}, r"trainset\[0\]: its inputs are not marked: write Example"),
        ({"run_id": "x" * 101}, "run_id is invalid: got 101 characters, expected at most 100"),
    ],
)
def test_what_cannot_begin_is_one_line(changes, words):
    given = {
        "optimizer": COPRO(metric=metric), "student": STUDENT, "trainset": TRAIN, "valset": None, "budget": None,
        "run_id": None, "lm": None, "options": {}, **changes,
    }  # fmt: skip
    with pytest.raises(ConfigError, match=words) as error:
        plan(**given)
    assert "\n" not in str(error.value)


def test_a_plan_says_what_it_is_and_how_many_candidates_to_expect():
    optimizer = BootstrapFewShotWithRandomSearch(metric, num_candidate_programs=2)
    made = plan(optimizer, STUDENT, TRAIN, TRAIN, {"calls": 7}, "mine", None, {})
    assert (made.spec.run_id, made.spec.kind, made.settings["expected"], made.settings["max_calls"]) == (
        "mine", "optimise", 5, 7,
    )  # fmt: skip
    same = plan(optimizer.configure(), STUDENT, list(TRAIN), list(TRAIN), None, "mine", None, {}).spec
    other = plan(optimizer.configure(num_candidate_programs=3), STUDENT, TRAIN, None, None, "mine", None, {}).spec
    assert (same.options_digest, same.dataset_digest) == (made.spec.options_digest, made.spec.dataset_digest)
    assert other.options_digest != same.options_digest


def test_the_valset_and_what_compile_is_given_are_parts_of_what_an_optimisation_is():
    def made(valset=None, **options):
        optimizer = MIPROv2(metric, auto=None, num_candidates=2)
        return plan(optimizer, STUDENT, TRAIN * 4, valset, None, "m", None, options).spec

    plain = made(num_trials=4, minibatch=False)
    assert differences(plain, made(num_trials=4, minibatch=False, seed=None)) == []
    assert differences(plain, made(num_trials=6, minibatch=False)) == ["settings (num_trials was 4 and is 6)"]
    assert differences(plain, made(num_trials=4, minibatch=False, view_data_batch_size=10, valset=TRAIN * 2)) == [
        "dataset (valset is new)"
    ]
    scored = made(num_trials=4, minibatch=False, valset=TRAIN * 2)
    assert differences(scored, made(num_trials=4, minibatch=False, valset=TRAIN)) == ["dataset (valset has changed)"]
    teachers = [made(num_trials=4, minibatch=False, teacher=STUDENT.deepcopy()) for _ in range(2)]
    assert differences(*teachers) == []
    assert differences(plain, teachers[0]) == ["settings (teacher is new)"]
    other = plan(SIMBA(metric=metric), STUDENT, TRAIN * 40, None, None, "m", None, {}).spec
    assert "settings (optimizer was MIPROv2 and is SIMBA)" in differences(plain, other)


def test_what_compile_itself_was_given_is_known_to_its_book(monkeypatch):
    seen = []

    class Mine(Optimizer):
        needs_metric = False

        def compile(self, student, *, trainset, rounds=2, seeds=(), valset=None, **options):
            self.examples(student, trainset)
            seen.append((given(), list(seeds)))

    Mine().compile(STUDENT, trainset=TRAIN, rounds=2, seeds=iter([1, 2]), valset=TRAIN, run_id="x")
    found, seeds = seen[0]
    assert (found.arguments, found.valset, found.read, seeds) == ({"seeds": [1, 2]}, TRAIN, {"trainset": TRAIN}, [1, 2])
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        COPRO(None, metric).compile(STUDENT, trainset=TRAIN, rounds=2)


def test_a_compile_of_somebody_elses_is_not_called_to_check_what_it_is_given():
    paid = []

    class Mine(COPRO):
        def compile(self, student, *, trainset, **options):
            paid.append("a call")
            return super().compile(student, trainset=trainset, **options)

    assert plan(Mine(None, metric, breadth=2), STUDENT, TRAIN, None, None, "mine", None, {}).settings["expected"]
    assert paid == []


def test_a_metric_of_a_field_that_no_example_has_is_refused_before_anything_is_paid():
    words = "metric exact_match:tem: no example of the trainset has a field 'tem'; there are question, answer"
    with pytest.raises(ConfigError, match=words):
        plan(COPRO(None, dspex.metrics.exact_match("tem")), STUDENT, TRAIN, None, None, "m", None, {})
    some = [*TRAIN, Example(question="a").with_inputs("question")]  # one that lacks it is that example's own error
    plan(COPRO(None, dspex.metrics.exact_match("answer")), STUDENT, some, None, None, "m", None, {})


def test_labelled_demos_are_one_candidate():
    assert plan(LabeledFewShot(2), STUDENT, TRAIN, None, None, "l", None, {}).settings["expected"] == 1


def test_figures_are_read_without_programs_also_of_what_was_written_before():
    program = Predict("question -> answer")
    program.demos = [Example(question="long " * 5000, answer="b")]
    old = pack(
        {"more": 1, "name": "old", "score": 40.0, "whole": True, "program": b"p" * 9000, "state": None, "same": "c0"}
    )
    rows = [
        StepRow("c0", CANDIDATE, 1, 0.0, 5.0, None, old),
        step("c1", CANDIDATE, "ü" * 3000, 50.0, True, program, "c1"),
        step("c2", CANDIDATE, "two", None, False, None, "c1"),
        step("result", RESULT, "result", 50.0, True, None, "c1"),
        *(StepRow("c3", CANDIDATE, 1, 0.0, 5.0, None, other) for other in (b"\x00", b"\x81\x80\x01", b"")),
    ]
    cut = [row._replace(data=row.data[:FIGURES]) for row in rows]
    assert len(cut[1].data) == FIGURES
    found, result = figures_in(cut)
    assert [(one.number, one.score, one.whole) for one in found] == [(1, 40.0, True), (2, 50.0, True), (3, None, False)]
    assert found[1].name == "ü" * 1000
    assert (result.same, found[2].same) == ("c1", "c1")


def step(key, kind, *found):
    return StepRow(key, kind, 1, 0.0, 5.0, None, pack_found(*found))


def test_the_best_is_of_those_that_were_scored_on_all_and_the_first_of_equals():
    other = STUDENT.deepcopy()
    other.signature = other.signature.with_instructions("Think.")
    rows = [
        step("c1", CANDIDATE, "one", 50.0, True, STUDENT, "c1"),
        step("c2", CANDIDATE, "part", 99.0, False, STUDENT, "c2"),
        step("c3", CANDIDATE, "again", 70.0, True, None, "c1"),
        step("c4", CANDIDATE, "four", 70.0, True, other, "c4"),
        step("c5", CANDIDATE, "stopped", None, True, other, "c5"),
        step("result", RESULT, "result", 70.0, True, other, "result"),
    ]
    found, result = found_in(rows)
    assert [one.number for one in found] == [1, 2, 3, 4, 5]
    best = best_of(found)
    assert (best.name, best.state) == ("again", STUDENT.dump_state())
    assert program_of(best, found).dump_state() == STUDENT.dump_state()
    assert program_of(result, found).signature.instructions == "Think."
    assert best_of(found[1:2]).name == "part"
    assert best_of([]) is None


def test_only_who_lost_a_race_could_win_no_more():
    row = SimpleNamespace(
        run_id="night", spec=SimpleNamespace(settings={}), state="finished", reason=None, created_at=0.0,
        active_seconds=1.0, running_since=None,
    )  # fmt: skip
    found, _ = found_in([step("c1", CANDIDATE, "bootstrapped", None, True, STUDENT, "c1")])
    assert status_of(row, found, []).stopped == 0
    lost = Part("night.1", "evaluate", "cancelled", CANNOT_WIN, 4, 2, 0, 0.0, 2, 0.0, 0)
    assert status_of(row, found, [lost]).stopped == 1


def test_a_program_is_found_over_candidates_that_were_told_in_another_order_before_a_kill():
    # Before the kill the second was told first; after it the first, and the third that it is the same.
    rows = [
        step("0.2.c1", CANDIDATE, "second", 50.0, True, STUDENT, "0.2.c1"),
        step("0.1.c1", CANDIDATE, "first", 50.0, True, None, "0.2.c1"),
        step("0.3.c1", CANDIDATE, "third", 60.0, True, None, "0.1.c1"),
        step("0.4.c1", CANDIDATE, "lost", 70.0, True, None, "0.9.c1"),
    ]
    found, _ = found_in(rows)
    assert program_of(found[2], found).dump_state() == STUDENT.dump_state()
    assert found[2].state == STUDENT.dump_state()
    with pytest.raises(ConfigError, match="the program of candidate 'lost' is not in the journal any more"):
        program_of(found[3], found)


def test_of_equal_ones_the_best_is_who_was_yielded_first_and_in_the_end_who_was_returned():
    rows = [step(key, CANDIDATE, key, 50.0, True, None, key) for key in ("0.10.c1", "0.9.c1", "0.9.1.c1")]
    returned = step("result", RESULT, "result", 50.0, True, STUDENT, "0.10.c1")
    found, result = found_in([*rows, returned])
    assert best_of(found).name == "0.9.c1"
    assert best_of(found, result).name == "0.10.c1"
