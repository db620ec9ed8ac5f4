"""An optimiser's generators: which runs there are to make, whatever is ready first."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_actors import Predict
from dspex_actors.teleprompt.race import Race
from dspex_actors.teleprompt.steps import Ask, Candidate, Together
from dspex_actors.teleprompt.strands import Strands

PROGRAM = Predict("question -> answer")


def ask(text):
    return Ask(PROGRAM, [{"question": text}])


def carry(steps, rng, broken=()):
    """Carry steps out in an order of chance; give what came of them, and the runs that were made: name -> question."""
    strands, made = Strands(steps), {}
    while not strands.over:
        task = rng.choice(list(strands.todo))
        strands.todo.remove(task)
        made[task.name] = task.step.rows[0]["question"]
        if made[task.name] in broken:
            strands.failed(task, ValueError(made[task.name]))
        else:
            strands.done(task, f"<{made[task.name]}>")
        strands.dropped.clear()
    return strands.result, made


def tree(shape):
    """A generator of the shape: a number of steps, one after the other, or several shapes at once."""
    if isinstance(shape, int):
        found = []
        for number in range(shape):
            found.append((yield ask(f"{shape}.{number}")))  # noqa: PERF401 - a comprehension cannot yield
        return found
    first = yield ask("before")
    return [first, (yield Together([tree(one) for one in shape]))]


SHAPES = st.recursive(st.integers(0, 3), lambda inner: st.lists(inner, max_size=4), max_leaves=8)


@given(SHAPES, st.integers(0, 1000), st.integers(0, 1000))
def test_result_and_names_do_not_depend_on_what_is_ready_first(shape, one, other):
    assert carry(tree(shape), random.Random(one)) == carry(tree(shape), random.Random(other))


@given(st.integers(0, 1000), st.integers(0, 5))
def test_what_is_enough_is_decided_by_the_order_of_the_items_alone(seed, wanted):
    def main():
        items = [tree(number % 3) for number in range(6)]
        return (yield Together(items, lambda first: len(first) > wanted))

    result, _ = carry(main(), random.Random(seed))
    assert [len(one) for one in result] == [number % 3 for number in range(wanted + 1)]


@given(st.integers(0, 1000), st.integers(0, 3))
def test_who_fails_behind_what_is_enough_fails_nobody_and_who_fails_before_it_always_does(seed, place):
    def main():
        return (yield Together([ask(f"{number}") for number in range(4)], lambda first: len(first) == 2))

    if place >= 2:
        assert carry(main(), random.Random(seed), broken=(f"{place}",))[0] == ["<0>", "<1>"]
    else:
        with pytest.raises(ValueError, match=f"{place}"):
            carry(main(), random.Random(seed), broken=(f"{place}", "3"))


def test_what_is_not_needed_any_more_is_dropped_and_its_outcome_ignored():
    closed = []

    def slow():
        try:
            yield ask("slow")
        finally:
            closed.append(True)

    def main():
        return (yield Together([ask("quick"), slow()], lambda first: True))

    strands = Strands(main())
    quick, late = list(strands.todo)
    strands.todo.clear()
    strands.done(quick, 1)
    assert (strands.over, strands.result, closed) == (True, [1], [True])
    assert strands.dropped == [late]
    strands.done(late, 2)
    assert strands.result == [1]


def test_a_failure_is_thrown_into_its_generator_and_then_into_the_one_that_waits():
    def careful(text):
        try:
            return (yield ask(text))
        except ValueError as error:
            return f"instead of {error}"

    def main():
        both = yield Together([careful("a"), careful("b")])
        try:
            yield Together([ask("c"), ask("d")])
        except ValueError as error:
            return [*both, str(error)]

    result, _ = carry(main(), random.Random(1), broken=("b", "c"))
    assert result == ["<a>", "instead of b", "c"]
    with pytest.raises(ValueError, match="a"):
        carry(_only_a(), random.Random(1), broken=("a",))


def _only_a():
    return (yield ask("a"))


def test_candidates_are_told_and_take_no_name():
    told = []

    def main():
        yield Candidate("one", PROGRAM, 50.0)
        return (yield ask("after"))

    strands = Strands(main(), lambda key, one: told.append((key, one)))
    assert [(key, one.name) for key, one in told] == [("c1", "one")]
    assert [task.name for task in strands.todo] == ["0"]


def test_what_is_no_step_is_refused():
    def main():
        yield "step"

    with pytest.raises(TypeError, match="an optimiser yields steps, got 'step'"):
        Strands(main())


def of(done, total, score):
    return {"done": done, "total": total, "score": score}


@pytest.mark.parametrize(
    ("place", "summary", "lost"),
    [
        ((1,), of(5, 10, 40.0), True),  # at most (2 + 5) / 10
        ((1,), of(5, 10, 60.0), True),  # 80 at most: an equal that was named later loses
        ((0,), of(5, 10, 60.0), False),  # an equal that was named earlier wins
        ((1,), of(5, 10, 61.0), False),
        ((1,), of(0, 10, None), False),
        ((1,), of(5, 10, 140.0), False),  # its metric gives more than 1
    ],
)
def test_who_can_win_no_more_in_a_race(place, summary, lost):
    race = Race()
    assert not race.is_lost(place, summary)
    race.through((0, 5), 80.0, [1.0] * 8 + [0.0] * 2)
    assert race.is_lost(place, summary) is lost


def test_nobody_is_beaten_before_the_end_where_an_example_may_give_more_than_one():
    race = Race()
    race.through((0,), 300.0, [3.0])
    assert not race.is_lost((1,), of(9, 10, 1.0))


@given(
    st.lists(st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=6, max_size=6), min_size=2, max_size=5),
    st.randoms(use_true_random=False),
)
def test_a_race_never_stops_who_would_have_won(scores, rng):
    def rounded(rows):
        return round(100 * sum(rows) / len(rows), 2)

    winner = max(range(len(scores)), key=lambda at: (rounded(scores[at]), -at))
    race, done, running = Race(), [0] * len(scores), list(range(len(scores)))
    while running:
        at = rng.choice(running)
        rows = scores[at][: done[at]]
        if race.is_lost((at,), of(done[at], 6, rounded(rows) if rows else None)):
            assert at != winner
            running.remove(at)
        elif done[at] == 6:
            race.through((at,), rounded(rows), rows)
            running.remove(at)
        else:
            done[at] += 1
