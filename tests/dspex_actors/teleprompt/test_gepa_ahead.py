"""GEPA asks ahead for what its engine will ask for: little of it in vain, and the engine is given the same."""

import itertools
import random

import pytest
from optimised_in_memory import carried
from optimised_kit import GEPA as CASES
from optimised_kit import Scripted, chosen, gepa
from scripted_answers import text

import dspex_actors as dspex
from dspex_actors.teleprompt.gepa import ahead as ahead_module
from dspex_actors.teleprompt.gepa.ahead import SHARE, Ahead, Try
from dspex_actors.teleprompt.steps import Ask, Observe, Observed

EXAMPLES = [dspex.Example(question=f"q{place}", answer="yes").with_inputs("question") for place in range(100)]
A, B = {"predict": "a"}, {"predict": "b"}
ENOUGH = int(10 / SHARE)


@pytest.fixture(autouse=True)
def lm():
    with dspex.context(lm=Scripted()):
        yield


def ahead_of(calls, *tries):
    """Return one of an engine that scores so many examples, and that foresees some tries."""
    ahead = Ahead(calls)
    ahead.foresee(Try(*one) for one in tries)
    return ahead


def asked(made):
    return sum(len(step.examples if isinstance(step, Observe) else step.rows) for step in made if waits(step))


def waits(step):
    return isinstance(step, Observe | Ask)


def runs(made):
    return sum(waits(step) for step in made)


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


def test_where_most_comes_to_nothing_runs_are_fewer_by_far(monkeypatch):
    case = {"program": "One", "settings": {"max_full_evals": 4}, "train": (0, 60), "val": (1000, 1100)}
    best, made = carried(gepa(case), monkeypatch)
    monkeypatch.setattr(ahead_module, "MOST_TRIES", 0)
    expected, one_by_one = carried(gepa(case), monkeypatch)
    assert best.detailed_results.to_dict() == expected.detailed_results.to_dict()
    assert runs(made) < 0.7 * runs(one_by_one)
    assert asked(made) <= (1 + SHARE) * asked(one_by_one)
    assert any(len(step.rows) > 1 for step in made if isinstance(step, Ask))


def test_a_proposal_is_given_once_and_only_to_the_same_question():
    ahead = ahead_of(ENOUGH)
    ahead.keep_proposal({"shown": [1]}, "a")
    assert ahead.room == 9
    assert ahead.take_proposal({"shown": [2]}) is None
    assert ahead.take_proposal({"shown": [1]}) == "a"
    assert ahead.take_proposal({"shown": [1]}) is None
    assert ahead.room == 10


def test_what_was_proposed_ahead_is_not_asked_for_again_with_what_could_not_be_read(monkeypatch):
    count, kept, keep = itertools.count(), [], Ahead.keep_proposal

    def unclear(messages, rollout=0):
        is_proposal = "new_instruction" in messages[0]["content"]
        return "Hm." if is_proposal and next(count) % 2 == 0 else text(messages, rollout)

    def keep_proposal(ahead, question, came):
        kept.append(ahead.has_proposal(question))
        keep(ahead, question, came)

    monkeypatch.setattr(Ahead, "keep_proposal", keep_proposal)
    settings = {"max_metric_calls": 250, "component_selector": "all"}
    with dspex.context(lm=Scripted(unclear)):
        carried(gepa({"program": "Two", "settings": settings, "train": (0, 12), "val": (100, 110)}), monkeypatch)
    assert set(kept) == {False}


def test_who_is_wanted_is_asked_for_before_who_is_only_foreseen():
    ahead = ahead_of(ENOUGH, (A, EXAMPLES[:8]))
    ahead.want(Try(B, EXAMPLES[:3]))
    assert ahead.next() == [(B, example) for example in EXAMPLES[:3]]


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
    rng, ahead, put = random.Random(seed), Ahead(600), 0
    for _ in range(60):
        batch = rng.sample(EXAMPLES, 3)
        put -= sum(one is not None for one in ahead.take(A, batch))
        ahead.foresee([Try({"predict": rng.choice("ab")}, rng.sample(EXAMPLES, 3)) for _ in range(8)])
        for candidate, example in ahead.next():
            ahead.put(candidate, example, Observed(0.0))
            put += 1
        if ahead.room and rng.random() < 0.2:
            ahead.keep_proposal(batch, "what nobody asks for")
            put += 1
        assert put <= SHARE * 600
        assert ahead.room == int(SHARE * 600) - put
