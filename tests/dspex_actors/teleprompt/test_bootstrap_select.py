import random

import pytest
from bootstrap_reference import GaveUpError, pick_demos
from hypothesis import given
from hypothesis import strategies as st

import dspex_actors as dspex
from dspex_actors import Example
from dspex_actors.errors import ConfigError
from dspex_actors.teleprompt.bootstrap_select import Attempt, Bootstrapped, passes, pick, select, student_demos

NAMES = ["first", "second.predict", "third[0]"]
WORDS = st.sampled_from(["a", "b", "c", "ä", ""])
STEP = st.tuples(st.sampled_from(NAMES), st.fixed_dictionaries({"q": WORDS}), st.fixed_dictionaries({"r": WORDS}))
STEPS = st.lists(STEP, max_size=6)
ROUNDS = st.lists(st.one_of(st.just("error"), st.just("fail"), STEPS), min_size=1, max_size=3)


def attempt_of(rounds):
    """What a worker hands back for these rounds: it stops at the first success."""
    errors = []
    for outcome in rounds:
        if outcome == "error":
            errors.append({"type": "ValueError", "message": "boom"})
        elif outcome != "fail":
            return Attempt(True, outcome, errors)
    return Attempt(errors=errors)


def passing(index):
    return Attempt(True, [("first", {"q": str(index)}, {"r": "x"})])


@given(
    table=st.lists(ROUNDS, max_size=25),
    most=st.integers(0, 6),
    labeled=st.integers(0, 8),
    max_errors=st.integers(0, 12),
)
def test_any_outcomes_give_the_demos_of_the_sequential_algorithm(table, most, labeled, max_errors):
    trainset = [Example(q=f"question {n % 7}", r="label", extra=n).with_inputs("q") for n in range(len(table))]
    attempts = [attempt_of(rounds) for rounds in table]
    found = select(attempts, max_bootstrapped_demos=most, max_errors=max_errors)
    limits = {"max_bootstrapped_demos": most, "max_labeled_demos": labeled, "max_errors": max_errors}
    gave_up, expected = None, {}
    try:
        expected = pick_demos(NAMES, trainset, table, **limits)
    except GaveUpError as error:
        gave_up = error.index
    assert (None if found.fatal is None else found.fatal[0]) == gave_up
    if gave_up is None:
        got = student_demos(NAMES, trainset, found, max_labeled_demos=labeled)
        assert got == expected
        assert repr(got) == repr(expected)


@given(table=st.lists(ROUNDS, max_size=12))
def test_an_attempt_comes_back_from_a_worker_as_it_went(table):
    for rounds in table:
        attempt = attempt_of(rounds)
        again = Attempt.from_fields(attempt.to_fields(), None)
        assert again.to_fields() == attempt.to_fields()


def test_what_comes_after_the_last_success_is_not_even_looked_at():
    def attempts():
        yield from map(passing, range(3))
        raise AssertionError("looked too far")

    assert select(attempts(), max_bootstrapped_demos=3, max_errors=10).looked_at == 3


def test_wanting_no_demos_looks_at_nothing():
    assert select(iter([passing(0)]), max_bootstrapped_demos=0, max_errors=10) == Bootstrapped()


def test_errors_count_only_up_to_the_stop():
    error = Attempt(errors=[{"type": "ValueError", "message": "boom"}])
    found = select([error, passing(1), error, error], max_bootstrapped_demos=1, max_errors=2)
    assert (found.fatal, found.errors, found.passed) == (None, 1, [1])


def test_every_round_that_raised_counts_even_if_a_later_one_passed():
    twice = Attempt(True, [("first", {}, {})], [{"type": "A", "message": "1"}, {"type": "B", "message": "2"}])
    found = select([twice], max_bootstrapped_demos=4, max_errors=2)
    assert found.fatal == (0, {"type": "B", "message": "2"})
    assert select([twice], max_bootstrapped_demos=4, max_errors=3).passed == [0]


@pytest.mark.parametrize("max_errors", [0, 1])
def test_a_limit_of_none_or_one_ends_with_the_first_error(max_errors):
    error = {"type": "ValueError", "message": "boom"}
    found = select([passing(0), Attempt(errors=[error])], max_bootstrapped_demos=4, max_errors=max_errors)
    assert found.fatal == (1, error)


def test_an_example_that_no_worker_survived_is_one_error():
    record = {"type": "WorkerDied", "message": "3 workers in turn died on this example"}
    assert Attempt.from_fields(None, record) == Attempt(errors=(record,))


@pytest.mark.parametrize("value", [True, 1, 0.5, {"score": 1, "feedback": "good"}, {"right": True, "short": False}])
def test_what_is_true_lets_a_prediction_pass(value):
    assert passes(value, None)


@pytest.mark.parametrize("value", [False, 0, 0.0, None, "", [], {"score": 0.0, "feedback": "bad"}])
@pytest.mark.parametrize("threshold", [None, 0])
def test_what_is_false_does_not(value, threshold):
    assert not passes(value, threshold)


@pytest.mark.parametrize("value", ["Incorrect", float("nan"), [0.0], dspex.Prediction(answer="no"), object()])
@pytest.mark.parametrize("threshold", [None, 0.5])
def test_what_is_no_score_is_no_success(value, threshold):
    with pytest.raises(ConfigError, match=r"metric returned .*; expected bool or (finite )?number"):
        passes(value, threshold)


def test_demos_are_marked_and_hold_inputs_and_outputs():
    found = select([passing(7)], max_bootstrapped_demos=1, max_errors=1)
    assert found.demos == {"first": [Example(augmented=True, q="7", r="x")]}


def test_an_example_without_a_call_of_a_predictor_passes_and_gives_it_no_demo():
    trainset = [Example(q=str(n), r="label").with_inputs("q") for n in range(3)]
    found = select([passing(0), Attempt(True, [])], max_bootstrapped_demos=2, max_errors=1)
    demos = student_demos(["first", "second"], trainset, found, max_labeled_demos=16)
    assert [len(demos["first"]), len(demos["second"])] == [2, 1]
    assert demos["second"] == [trainset[2]]


def test_labelled_demos_are_the_examples_themselves():
    trainset = [Example(q="a", r="b", note="kept").with_inputs("q")]
    demos = student_demos(["first"], trainset, Bootstrapped(), max_labeled_demos=1)
    assert demos["first"][0] is trainset[0]


def test_every_predictor_draws_from_all_labelled_examples():
    trainset = [Example(q=str(n)).with_inputs("q") for n in range(30)]
    demos = student_demos(["first", "second"], trainset, Bootstrapped(), max_labeled_demos=16)
    shuffled = list(trainset)
    random.Random(0).shuffle(shuffled)
    rng = random.Random(0)
    assert list(demos.values()) == [rng.sample(shuffled, 16), rng.sample(shuffled, 16)]
    assert demos["first"] != demos["second"]


def test_bootstrapped_demos_stay_when_there_are_more_than_labelled_ones_may_be():
    found = select(map(passing, range(5)), max_bootstrapped_demos=5, max_errors=1)
    trainset = [Example(q=str(n)).with_inputs("q") for n in range(9)]
    assert len(student_demos(["first"], trainset, found, max_labeled_demos=2)["first"]) == 5


class Plain:
    """Its repr tells where it is in memory."""


def test_of_several_calls_the_last_is_taken_half_the_time_and_content_alone_decides():
    picked = []
    for number in range(400):
        demos = [Example(q=number, turn=turn) for turn in range(4)]
        picked.append(pick(demos).turn)
        assert pick([demo.copy() for demo in demos]).turn == picked[-1]
    assert 150 < picked.count(3) < 250
    assert all(40 < picked.count(turn) < 100 for turn in range(3))
    other_order = [[Example(turn=turn, q=number) for turn in range(4)] for number in range(12)]
    assert [pick(demos).turn for demos in other_order] == picked[:12]


def test_where_a_value_is_in_memory_does_not_matter():
    pairs = [[Example(q=Plain(), turn=0), Example(q=Plain(), turn=1)] for _ in range(20)]
    assert len({pick(pair).turn for pair in pairs}) == 1
