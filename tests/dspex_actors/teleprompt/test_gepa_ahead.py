"""GEPA asks ahead for what its engine will ask for: little of it in vain, and the engine is given the same."""

import random

import pytest
from optimised_in_memory import carried
from optimised_kit import GEPA as CASES
from optimised_kit import Scripted, chosen, gepa

import dspex_actors as dspex
from dspex_actors.teleprompt.gepa import ahead as ahead_module
from dspex_actors.teleprompt.gepa.ahead import SHARE, Ahead
from dspex_actors.teleprompt.steps import Observe, Observed

EXAMPLES = [dspex.Example(question=f"q{place}", answer="yes").with_inputs("question") for place in range(100)]
A, B = {"predict": "a"}, {"predict": "b"}
ENOUGH = int(10 / SHARE)


@pytest.fixture(autouse=True)
def lm():
    with dspex.context(lm=Scripted()):
        yield


def ahead_of(given, *tries):
    """Return one whose engine was given so many examples, and that foresees some tries."""
    ahead = Ahead()
    ahead.given(given)
    ahead.foresee(tries)
    return ahead


def asked(made):
    return sum(len(step.examples) for step in made if isinstance(step, Observe))


def evaluations(made):
    return sum(isinstance(step, Observe) for step in made)


@pytest.mark.parametrize(
    "name", [pytest.param("answers that cannot be read", marks=pytest.mark.soak), "all at once, on the trainset"]
)
def test_little_is_asked_in_vain_and_the_same_chosen(name, monkeypatch):
    best, made = carried(gepa(CASES[name]), monkeypatch)
    monkeypatch.setattr(ahead_module, "MOST_TRIES", 0)
    expected, one_by_one = carried(gepa(CASES[name]), monkeypatch)
    assert chosen(best) == chosen(expected)
    assert best.detailed_results.to_dict() == expected.detailed_results.to_dict()
    assert asked(one_by_one) < asked(made) <= (1 + SHARE) * asked(one_by_one)


def test_where_most_comes_to_nothing_evaluations_are_fewer_by_far(monkeypatch):
    case = {"program": "One", "settings": {"max_metric_calls": 400}, "train": (0, 60), "val": (100, 200)}
    _, made = carried(gepa(case), monkeypatch)
    monkeypatch.setattr(ahead_module, "MOST_TRIES", 0)
    _, one_by_one = carried(gepa(case), monkeypatch)
    assert evaluations(made) < 0.8 * evaluations(one_by_one)


class Drawing:
    """A user's own way to choose a candidate; it counts."""

    def __init__(self):
        self.drawn = 0

    def select_candidate_idx(self, state):
        self.drawn += 1
        return 0


def test_what_a_users_own_classes_draw_is_drawn_once(monkeypatch):
    drawing = Drawing()
    case = {"program": "One", "settings": {"max_metric_calls": 80}, "train": (0, 9), "val": (100, 130)}
    foreseen = []
    monkeypatch.setattr(Ahead, "foresee", lambda self, tries: foreseen.extend(tries))
    carried(gepa(case), monkeypatch)
    assert foreseen
    foreseen.clear()
    carried(gepa(case, settings={"candidate_selection_strategy": drawing}), monkeypatch)
    assert drawing.drawn
    assert not foreseen


def test_what_is_foreseen_is_given_once_and_only_for_what_it_is():
    ahead = ahead_of(ENOUGH, (A, EXAMPLES[:3]))
    assert ahead.next() == [(A, example) for example in EXAMPLES[:3]]
    seen = [Observed(float(place)) for place in range(3)]
    for example, one in zip(EXAMPLES, seen, strict=False):
        ahead.put(A, example, one)
    assert ahead.take(B, EXAMPLES[:3]) == [None] * 3
    assert ahead.take(A, [EXAMPLES[1], EXAMPLES[3], EXAMPLES[1]]) == [seen[1], None, None]
    assert ahead.take(A, EXAMPLES[:3]) == [seen[0], None, seen[2]]


def test_what_is_there_or_foreseen_twice_is_asked_once():
    ahead = ahead_of(ENOUGH, (A, EXAMPLES[:2]), (A, [EXAMPLES[1], EXAMPLES[1], EXAMPLES[2]]), (B, EXAMPLES[:1]))
    ahead.put(A, EXAMPLES[0], Observed(1.0))
    assert ahead.next() == [(A, EXAMPLES[1]), (A, EXAMPLES[2]), (B, EXAMPLES[0])]


def test_what_was_foreseen_is_asked_once_for_each_time_it_is_foreseen():
    ahead = ahead_of(ENOUGH, (A, EXAMPLES[:3]))
    assert ahead.next()
    assert ahead.next() == []


@pytest.mark.parametrize("seed", range(20))
def test_no_more_is_ahead_or_in_vain_than_the_share(seed):
    """However wrong it is what is foreseen."""
    rng, ahead, put = random.Random(seed), Ahead(), 0
    for _ in range(60):
        batch = rng.sample(EXAMPLES, 3)
        put -= sum(one is not None for one in ahead.take(A, batch))
        ahead.foresee([({"predict": rng.choice("ab")}, rng.sample(EXAMPLES, 3)) for _ in range(8)])
        for candidate, example in ahead.next():
            ahead.put(candidate, example, Observed(0.0))
            put += 1
        assert put == len(ahead._there)
        assert put <= SHARE * ahead._given
