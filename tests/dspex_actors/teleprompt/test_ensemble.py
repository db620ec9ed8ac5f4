"""Ensemble and KNNFewShot: programs made of programs and of examples. Expected values are DSPy 3.4's."""

import asyncio

import pytest

import dspex_actors as dspex
from dspex_actors.errors import ConfigError
from tests.dspex_actors.program_fakes import FakeLM, chat

WAYS = ("sync", "async")


class Says(dspex.Module):
    def __init__(self, answer):
        self.answer = answer

    def forward(self, **inputs):
        return dspex.Prediction(answer=self.answer)


def called(way, program, **inputs):
    return program(**inputs) if way == "sync" else asyncio.run(program.acall(**inputs))


@pytest.mark.parametrize("way", WAYS)
def test_all_programs_are_asked_and_a_function_makes_one_answer(way):
    programs = [Says("x"), Says("y"), Says("y")]
    assert called(way, dspex.Ensemble(reduce_fn=dspex.majority).compile(programs), q=1).answer == "y"
    assert [each.answer for each in called(way, dspex.Ensemble().compile(programs), q=1)] == ["x", "y", "y"]


def test_some_are_drawn_for_each_call_the_same_ones_for_the_same_inputs_if_that_is_wanted():
    programs = [Says(str(number)) for number in range(20)]
    drawn = dspex.Ensemble(size=3).compile(programs)
    picks = {tuple(each.answer for each in drawn(q=1)) for _ in range(20)}
    assert {len(pick) for pick in picks} == {3}
    assert len(picks) > 1
    drawn = dspex.Ensemble(size=3, deterministic=True).compile(programs)
    assert len({tuple(each.answer for each in drawn(q=1)) for _ in range(5)}) == 1
    assert len({tuple(each.answer for each in drawn(q=number)) for number in range(20)}) > 1


def test_its_predictors_are_those_of_its_programs():
    program = dspex.Ensemble(size=1).compile([dspex.Predict("q -> a"), dspex.ChainOfThought("q -> a")])
    assert [name for name, _ in program.named_predictors()] == ["programs[0]", "programs[1].predict"]
    judge = dspex.Predict("a -> b")
    assert len(dspex.Ensemble(reduce_fn=judge).compile([dspex.Predict("q -> a")]).predictors()) == 1


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: dspex.Ensemble(size=0), "size is invalid: got 0"),
        (lambda: dspex.Ensemble(reduce_fn="majority"), "reduce_fn is invalid: got 'majority'"),
        (lambda: dspex.Ensemble().compile([]), "programs is invalid: got 0, expected at least 1"),
        (lambda: dspex.Ensemble(size=2).compile([Says("x")]), "programs is invalid: got 1, expected at least 2"),
        (lambda: dspex.Ensemble().compile([Says("x"), 1]), r"programs\[1\] is invalid: got 1"),
    ],
)
def test_bad_settings_of_an_ensemble_are_refused(make, words):
    with pytest.raises(ConfigError, match=words):
        make()


def vectors(texts):
    return [[text.count("a"), text.count("b")] for text in texts]


TRAINSET = [
    dspex.Example(question=question, answer=answer).with_inputs("question")
    for question, answer in (("aa", "A1"), ("bb", "B"), ("ab", "A2"), ("bbb", "B3"))
]
#: A user turn and an answer of a demo.
NEAR = [("aa", "A1"), ("ab", "A2")]


def shown(messages):
    """Return (question, answer) of the demos in a prompt, and its last question."""
    turns = [each["content"].splitlines()[1] for each in messages[1:]]
    return [*zip(turns[:-1:2], turns[1::2], strict=True)], turns[-1]


def compiled(student=None, teacher=None, **how):
    optimizer = dspex.KNNFewShot(2, TRAINSET, vectors, **{"metric": dspex.metrics.exact_match("answer"), **how})
    return optimizer.compile(student or dspex.Predict("question -> answer"), teacher=teacher)


class Plan(dspex.Module):
    def __init__(self):
        self.answer = dspex.Predict("question -> answer")

    def forward(self, question):
        return self.answer(question=question)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("student", [dspex.Predict("question -> answer"), Plan()], ids=["predict", "module"])
def test_each_call_has_demos_made_of_the_nearest_examples(way, student):
    lm = FakeLM(chat(answer="A1"), chat(answer="A2"), chat(answer="final"))
    program = compiled(student)
    with dspex.context(lm=lm):
        assert called(way, program, question="aaa").answer == "final"
    # The teacher has the others as its demos, the program what the teacher has answered.
    assert [shown(messages) for messages, _ in lm.asked] == [([NEAR[1]], "aa"), ([NEAR[0]], "ab"), (NEAR, "aaa")]
    assert type(program) is type(student)
    assert [name for name, _ in program.named_predictors()] == [name for name, _ in student.named_predictors()]
    assert not [predictor.demos for predictor in (*program.predictors(), *student.predictors()) if predictor.demos]


def test_an_example_that_does_not_pass_is_a_labelled_demo_and_is_tried_again_if_that_is_wanted():
    lm = FakeLM(chat(answer="A1"), chat(answer="wrong"), chat(answer="final"))
    with dspex.context(lm=lm):
        compiled()(question="aaa")
    assert shown(lm.asked[2][0]) == (NEAR, "aaa")

    class Copied(FakeLM):
        def copy(self, **params):
            self.copies = [*getattr(self, "copies", []), params]
            return self

    lm = Copied(chat(answer="A1"), chat(answer="wrong"), chat(answer="A2"), chat(answer="final"))
    with dspex.context(lm=lm):
        assert compiled(max_rounds=2)(question="aaa").answer == "final"
    assert lm.copies == [{"rollout_id": 1, "temperature": 1.0}]


def test_examples_alone_are_demos_without_a_call_of_the_teacher():
    lm = FakeLM(chat(answer="final"))
    with dspex.context(lm=lm):
        compiled(max_bootstrapped_demos=0)(question="bbbb")
    [(messages, _)] = lm.asked
    demos, last = shown(messages)
    assert (sorted(demos), last) == ([("bb", "B"), ("bbb", "B3")], "bbbb")


def test_a_teacher_makes_the_demos_and_too_many_errors_end_the_call():
    teacher = dspex.Predict("question -> answer")
    teacher._compiled = True
    teacher.demos = [dspex.Example(question="from", answer="teacher")]
    lm = FakeLM(chat(answer="A1"), chat(answer="A2"), chat(answer="final"))
    with dspex.context(lm=lm):
        compiled(teacher=teacher)(question="aaa")
    assert [shown(messages)[0] for messages, _ in lm.asked] == [[("from", "teacher")], [("from", "teacher")], NEAR]

    def fails(example, prediction, trace=None):
        raise OSError("no route")

    with dspex.context(lm=FakeLM(chat(answer="A1"))), pytest.raises(OSError, match="no route"):
        compiled(metric=fails, max_errors=2)(question="aaa")
    with dspex.context(lm=FakeLM(chat(answer="A1"))):
        assert compiled(metric=fails, max_errors=3)(question="aaa").answer == "A1"


def test_a_student_that_cannot_be_taught_is_refused_when_it_is_compiled():
    done = dspex.Predict("question -> answer")
    done._compiled = True
    for student, teacher, words in (
        (print, None, "student: expected a program .dspex.Module., got builtin_function_or_method"),
        (done, None, "the student is optimised already"),
        (None, Plan(), "student and teacher need the same predictors"),
    ):
        with pytest.raises(ConfigError, match=words):
            compiled(student, teacher)
