"""DistributedBootstrap: which demos stay of what chunks find, and what becomes of chunks and voters that fail."""

import inspect
import itertools
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_actors import ConfigError, DistributedBootstrap, Example, Predict, RunFailed
from dspex_actors.teleprompt.bootstrap_select import Bootstrapped
from dspex_actors.teleprompt.distributed_bootstrap import Found, agreed, chunks_of, ranked
from dspex_actors.teleprompt.steps import Bootstrap, Candidate, Together

STUDENT = Predict("question -> answer")


#: The candidates that were told of.
TOLD = []


@pytest.fixture(autouse=True)
def nothing_told():
    TOLD.clear()


def metric(example, prediction, trace=None):
    return 1.0


def trainset(count):
    return [Example(question=f"q{number}", answer=f"a{number}").with_inputs("question") for number in range(count)]


def made_of(step, scores):
    """Return what a bootstrap comes to: these places pass with these scores."""
    found = Bootstrapped(passed=list(scores), scores=list(scores.values()))
    found.taken = [{"self": Example(augmented=True, **dict(step.examples[place].items()))} for place in scores]
    found.demos = {"self": [taken["self"] for taken in found.taken]}
    return found


def play(step, answer):
    """Carry a step or a generator of steps out; what `answer` raises is raised where it was asked for."""
    if isinstance(step, Together):
        return [play(item, answer) for item in step.items]
    if isinstance(step, Candidate):
        TOLD.append(step)
        return None
    if not inspect.isgenerator(step):
        return answer(step)
    came, failed = None, None
    while True:
        try:
            asked = step.send(came) if failed is None else step.throw(failed)
        except StopIteration as done:
            return done.value
        came = failed = None
        try:
            came = play(asked, answer)
        except RunFailed as error:
            failed = error


def numbers_of(program):
    return [int(demo.question[1:]) for demo in program.predictors()[0].demos if "augmented" in demo]


def test_what_chunks_have_found_is_there_before_its_end_and_the_result_is_told_last():
    optimizer = DistributedBootstrap(metric, target_demos=2, chunk_size=4, voters=1, max_labeled_demos=0)

    def answer(step):
        if is_vote(step):
            return made_of(step, {0: 1.0, 1: 1.0})
        if step.examples[0].question == "q4":
            raise RunFailed("too many errors")
        return made_of(step, {1: 0.8, 2: 0.9})

    best = play(optimizer.steps(STUDENT, trainset(12)), answer)
    told = [(one.name, numbers_of(one.program), one.whole) for one in TOLD]
    assert told == [
        ("chunk 1", [2, 1], False),
        ("chunk 3", [10, 9], False),
        ("the best of all chunks", [2, 10], False),
        ("bootstrapped", [2, 10], True),
    ]
    assert TOLD[-1].program is best
    assert optimizer.expected(STUDENT, 12) == 5  # had no chunk failed


def is_vote(step):
    return "rollout_id" in step.teacher.predictors()[0].config


@given(count=st.integers(1, 5000), size=st.integers(1, 300))
def test_chunks_are_all_of_it_in_order_none_too_long_and_none_much_shorter(count, size):
    chunks = chunks_of(count, size)
    assert [place for chunk in chunks for place in chunk] == list(range(count))
    lengths = [len(chunk) for chunk in chunks]
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1


@given(scores=st.lists(st.floats(0, 1), max_size=60), target=st.integers(1, 20))
def test_the_best_are_kept_twice_as_many_as_wanted(scores, target):
    kept = ranked([Found(index, score, {}) for index, score in enumerate(scores)], target)
    assert len(kept) == min(len(scores), 2 * target)
    assert [one.score for one in kept] == sorted(scores, reverse=True)[: 2 * target]
    assert all(a.index < b.index for a, b in itertools.pairwise(kept) if a.score == b.score)


@given(st.data(), st.integers(0, 6), st.integers(0, 10), st.integers(0, 10))
def test_enough_voters_are_a_share_of_them_exactly(data, voters, count, tenths):
    votes = [data.draw(st.lists(st.integers(0, 9), unique=True)) for _ in range(voters)]
    found = [Found(index, 1.0, {}) for index in range(count)]
    stay = agreed(found, votes, tenths / 10)
    for place, one in enumerate(found):
        enough = sum(place in ballot for ballot in votes) >= Fraction(tenths, 10) * voters
        assert (one in stay) is enough


def test_the_best_that_are_agreed_on_become_demos_and_labelled_ones_fill_up():
    asked = []

    def answer(step):
        assert isinstance(step, Bootstrap)
        asked.append(step)
        assert step.metric_threshold == 0.7
        if is_vote(step):
            number = step.teacher.predictors()[0].config["rollout_id"]
            return made_of(
                step, {0: 1.0} | {place: 1.0 for place in range(len(step.examples)) if place % 3 < number - 1}
            )
        return made_of(step, {place: 0.7 + int(step.examples[place].question[1:]) / 1000 for place in range(0, 10, 2)})

    optimizer = DistributedBootstrap(metric, target_demos=4, chunk_size=10, max_labeled_demos=6)
    best = play(optimizer.steps(STUDENT, trainset(30)), answer)
    chunks, votes = [one for one in asked if not is_vote(one)], [one for one in asked if is_vote(one)]
    assert [(len(one.examples), one.max_bootstrapped_demos) for one in chunks] == [(10, 8)] * 3
    order = [28, 26, 24, 22, 20, 18, 16, 14]  # the eight best of fifteen
    assert [[int(one.question[1:]) for one in vote.examples] for vote in votes] == [order] * 3
    # Voter 1 is for the first; 2 for each third; 3 for two of three: of three voters two must be for it.
    assert numbers_of(best) == [28, 22, 16]
    assert len(best.demos) == 6
    assert best._compiled
    assert STUDENT.demos == []


def test_a_chunk_that_fails_is_left_out_and_so_is_a_voter_and_only_all_together_fail():
    def answer(step):
        if is_vote(step):
            if step.teacher.predictors()[0].config["rollout_id"] == 1:
                raise RunFailed("voter 1")
            return made_of(step, {1: 1.0})
        if step.examples[0].question == "q0":
            raise RunFailed("chunk 0")
        return made_of(step, {0: 0.8, 1: 0.8})

    optimizer = DistributedBootstrap(metric, chunk_size=10, max_labeled_demos=0)
    assert numbers_of(play(optimizer.steps(STUDENT, trainset(20)), answer)) == [11]
    with pytest.raises(RunFailed, match="chunk 0"):
        play(optimizer.steps(STUDENT, trainset(10)), answer)


@pytest.mark.parametrize("passes", [False, True])
def test_where_nothing_is_left_it_is_a_plain_bootstrap(passes):
    asked = []

    def answer(step):
        asked.append(step)
        is_plain = not is_vote(step) and len(asked) > 1
        return made_of(step, {3: 0.9} if is_plain or (passes and not is_vote(step)) else {})

    optimizer = DistributedBootstrap(metric, target_demos=5, max_labeled_demos=0)
    assert numbers_of(play(optimizer.steps(STUDENT, trainset(8)), answer)) == [3]
    assert [is_vote(one) for one in asked] == [False, *[True] * (3 if passes else 0), False]
    assert asked[-1].max_bootstrapped_demos == 5


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"target_demos": 0}, "target_demos: expected a whole number of at least 1"),
        ({"quality_threshold": 70}, "quality_threshold is invalid: got 70, expected a number from 0 to 1"),
        ({"consensus_threshold": True}, "consensus_threshold is invalid"),
        ({"voters": -1}, "voters: expected a whole number"),
        ({"chunk_size": 0}, "chunk_size: expected a whole number"),
        ({"max_labeled_demos": "x"}, "max_labeled_demos"),
        ({"teacher_settings": {"lmm": 1}}, "teacher_settings: lmm cannot be set"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        DistributedBootstrap(metric, **settings)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: DistributedBootstrap().compile(STUDENT, trainset=trainset(2)), "compares programs by it"),
        (lambda: DistributedBootstrap(metric).compile(STUDENT, trainset=[]), "expected at least one example"),
    ],
)
def test_what_cannot_be_optimised_is_refused(make, words):
    with pytest.raises(ConfigError, match=words):
        make()
