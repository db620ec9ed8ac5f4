"""SIMBA chooses what DSPy's chooses, asks for nothing twice, and refuses in one line what cannot be."""

import random
from collections import Counter

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optimised_in_memory import carried
from optimised_kit import CHOICES, PROGRAMS, SIMBA, Scripted, chosen, is_yes, questions, simba
from scripted_answers import text

import dspex_actors as dspex
from dspex_actors.errors import RunFailed
from dspex_actors.teleprompt.simba.advice import Limits, add_demo, add_rules, question
from dspex_actors.teleprompt.simba.pool import Pool, drop_demos, spread
from dspex_actors.teleprompt.simba.trajectories import Trajectory, Tried, Way, tried
from dspex_actors.teleprompt.steps import Ask, Evaluate


@pytest.fixture
def lm():
    scripted = Scripted()
    with dspex.context(lm=scripted):
        yield scripted


@pytest.mark.parametrize("name", SIMBA)
def test_it_chooses_what_dspy_chooses(name, lm, monkeypatch):
    best, made = carried(simba(name), monkeypatch)
    found = [[one["score"], chosen(one["program"])] for one in best.candidate_programs]
    assert found == CHOICES["simba"][name]["candidates"]
    assert chosen(best) == CHOICES["simba"][name]["chosen"]
    scored = [
        (str(chosen(step.program)), example.question)
        for step in made
        if isinstance(step, Evaluate)
        for example in step.examples
    ]
    assert len(scored) == len(set(scored))


def test_for_advice_that_cannot_be_read_another_example_is_taken(monkeypatch):
    asked = 0

    def refuses(messages, rollout):
        nonlocal asked
        if "module_advice" not in messages[0]["content"]:
            return text(messages, rollout)
        asked += 1
        return "I cannot" if asked % 2 else text(messages, rollout)

    with dspex.context(lm=Scripted(refuses), adapter=dspex.ChatAdapter(use_json_adapter_fallback=False)):
        _, made = carried(simba("rules"), monkeypatch)
    advised = [step for step in made if isinstance(step, Ask) and not isinstance(step.program, Tried)]
    new = Counter(len(step.examples) for step in made if isinstance(step, Evaluate))
    settings = SIMBA["rules"]["settings"]
    # A step has six examples to learn from, and makes four programs of them.
    assert asked == len(advised) > settings["max_steps"]
    assert new.total() > 0


def test_a_teacher_does_each_example_the_first_time(lm, monkeypatch):
    teacher = Scripted()
    _, made = carried(simba("rules", {"teacher_settings": {"lm": teacher}}), monkeypatch)
    with_teacher = [step for step in made if isinstance(step, Ask) and step.lm is teacher]
    rows = [row for step in with_teacher for row in step.rows]
    assert {row["rollout"] for row in rows} == {0}
    assert len(rows) == SIMBA["rules"]["settings"]["bsize"] * SIMBA["rules"]["settings"]["max_steps"]
    assert all(step.program.temperature is None for step in with_teacher)


def test_a_metric_that_gives_nothing_ends_it_at_once(lm, monkeypatch):
    optimizer, compile_ = simba("rules")
    optimizer.metric = lambda example, prediction, trace=None: {}.get("score")
    with pytest.raises(dspex.RunFailed, match="SIMBA: no example could be done and scored"):
        carried((optimizer, compile_), monkeypatch)


def way(score, answer="yes", **told):
    steps = [("say", {"question": "a long one"}, {"answer": "no"}), ("say", {"question": "q1"}, {"answer": answer})]
    prediction = None if answer is None else {"answer": answer}
    return Trajectory(questions(1, 2)[0], score, steps, prediction, told)


def test_a_demo_is_the_last_call_and_what_is_long_is_cut():
    program, limits = PROGRAMS["One"](), Limits(0.2, 0.9)
    assert not add_demo(program, way(0.2), limits, 0)
    assert program.say.demos == []
    long = way(0.5)
    long.steps[1][1]["question"] = "x" * 20
    assert add_demo(program, long, limits, 10)
    (demo,) = program.say.demos
    assert (demo.augmented, demo.answer) == (True, "yes")
    assert demo.question.startswith("xxxxxxxxxx\n")
    assert "TRUNCATED" in demo.question


@pytest.mark.parametrize(
    ("good", "bad", "shown"),
    [
        # Both are shown where they differ; else the one that says something.
        (way(1.0), way(0.0, "no"), ("1.0", "0.0")),
        (way(0.95), way(0.95), ("0.95", "N/A")),
        (way(0.5), way(0.5), ("N/A", "0.5")),
    ],
)
def test_of_two_ways_that_are_as_good_one_is_shown(good, bad, shown):
    row = question(PROGRAMS["One"](), good, bad, Limits(0.2, 0.9))
    assert (row["better_reward_value"], row["worse_reward_value"]) == shown
    assert ("N/A" in row["better_program_outputs"]) == (shown[0] == "N/A")


def test_there_is_nothing_to_learn_from_what_is_all_bad_or_all_good_or_said_nothing():
    program, limits = PROGRAMS["One"](), Limits(0.2, 0.9)

    def asked(good, bad):
        steps = add_rules(program, [good, bad], limits, None)
        try:
            return next(steps)
        except StopIteration as done:
            return done.value

    assert asked(way(0.2), way(0.0)) is program
    assert asked(way(1.0), way(0.9)) is program
    assert asked(way(1.0, None), way(0.0)) is None
    step = asked(way(1.0, feedback="well done"), way(0.0))
    assert isinstance(step, Ask)
    assert "well done" in step.rows[0]["better_reward_info"]
    assert "Module say" in step.rows[0]["modules_defn"]


def test_a_program_that_raises_is_scored_by_the_metric_and_its_calls_are_kept(lm):
    class Raises(dspex.Module):
        def __init__(self):
            self.say = dspex.Predict("question -> answer")

        def forward(self, question):
            self.say(question=question)
            raise ValueError(question)

    def metric(example, prediction, trace=None):
        return {"score": 0.25 if prediction is None else 1.0, "feedback": "it raised"}

    tried = Tried(Raises(), metric, 1.0)(fields={"question": "q1", "answer": "yes"}, inputs=["question"], rollout=3)
    assert (tried.score, tried.prediction, tried.told) == (0.25, None, {"feedback": "it raised"})
    assert [name for name, _, _ in tried.steps] == ["say"]


class Says(dspex.Module):
    def forward(self, question):
        return dspex.Prediction(answer="yes")


class Breaks(dspex.Module):
    def forward(self, question):
        raise ValueError(question)


def test_a_metric_that_fails_for_all_that_was_tried_ends_it_before_more_is_paid():
    def breaks(example, prediction):
        raise KeyError("team")

    def answer(metric, program):
        row = {"fields": {"question": "q1", "answer": "yes"}, "inputs": ["question"], "rollout": 3}
        return Tried(program, metric, 1.0)(**row)

    says = Says()
    ways = [Way(says, dspex.Example(question="q1").with_inputs("question"), number) for number in range(12)]

    def came_to(answers):
        steps = tried(ways, breaks)
        next(steps)
        with pytest.raises(StopIteration) as over:
            steps.send([answers])
        return over.value.value

    fails = answer(breaks, Says())
    with pytest.raises(RunFailed, match=r"the metric failed for each of 12 examples, the first with KeyError: 'team'"):
        came_to([fails] * 12)
    assert len(came_to([fails] * 11 + [answer(lambda example, prediction: 1.0, Says())])) == 12
    assert len(came_to([answer(breaks, Breaks())] * 12)) == 12  # it was the program


@given(st.lists(st.lists(st.floats(0, 1), max_size=4), min_size=1, max_size=8), st.integers(1, 8))
def test_the_first_program_is_always_in_the_draw(scores, count):
    pool = Pool([PROGRAMS["One"]])
    for own in scores:
        pool.add(PROGRAMS["One"], own)
    best = pool.top(count)
    assert 0 in best
    assert len(best) == len(set(best)) == min(count, len(scores) + 1)
    left = set(range(len(scores) + 1)) - set(best)
    assert all(pool.mean(number) >= max(map(pool.mean, left), default=0.0) for number in best if number)


@pytest.mark.parametrize("scale", [1, 1e6])
def test_the_better_is_drawn_more_often_however_large_scores_are(scale):
    pool = Pool([PROGRAMS["One"]] * 2, [[0.1 * scale], [0.9 * scale]])
    drawn = Counter(pool.draw(random.Random(seed), [0, 1], 0.2) for seed in range(300))
    assert drawn[1] > 10 * drawn[0]


@given(st.integers(0, 9), st.integers(0, 5), st.integers(0, 1000))
def test_demos_go_when_there_are_enough_and_never_more_than_there_are(held, most, seed):
    program = PROGRAMS["Two"]()
    program.say.demos = list(range(held))
    gone = drop_demos(program, most, random.Random(seed), numpy.random.default_rng(seed))
    assert int(held >= (most or 3)) <= gone <= held
    assert held - gone <= len(program.say.demos) <= held - bool(gone)


@pytest.mark.parametrize(
    ("last", "count", "expected"), [(0, 7, [0]), (1, 7, [0, 1]), (8, 7, [0, 1, 3, 4, 5, 7, 8]), (2, 2, [0, 2])]
)
def test_the_kept_programs_are_spread_over_the_steps(last, count, expected):
    assert spread(last, count) == expected


@pytest.mark.parametrize(
    ("given", "options", "words"),
    [
        ({"metric": None}, {}, "metric: SIMBA compares programs by it"),
        ({}, {}, "trainset: expected at least bsize=32 examples, got 10; give a smaller bsize"),
        ({"bsize": 4}, {"seed": "x"}, "seed: expected a whole number of at least 0, got 'x'"),
        ({"bsize": 0}, {}, "bsize: expected a whole number of at least 1, got 0"),
        ({"num_candidates": 0}, {}, "num_candidates: expected a whole number of at least 1, got 0"),
        ({"max_demos": -1}, {}, "max_demos: expected a whole number of at least 0, got -1"),
        ({"temperature_for_sampling": 0}, {}, "temperature_for_sampling is invalid: got 0, expected a number above 0"),
        ({"temperature_for_candidates": "warm"}, {}, "temperature_for_candidates is invalid: got 'warm'"),
        ({"teacher_settings": 5}, {}, "teacher_settings: expected a dict of settings, got int"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_before_anything_is_asked(given, options, words, lm):
    with pytest.raises(dspex.ConfigError, match=words) as error:
        dspex.SIMBA(**{"metric": is_yes, **given}).compile(
            PROGRAMS["One"](), **{"trainset": questions(0, 10), **options}
        )
    assert "\n" not in str(error.value)
    assert lm.asked == 0
