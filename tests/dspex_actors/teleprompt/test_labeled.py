import random

import pytest
from bootstrap_fakes import MODEL, Chain

from dspex_actors import ConfigError, Example, Predict
from dspex_actors.teleprompt import LabeledFewShot

TRAINSET = [Example(question=f"q{n}", answer=str(n), note="extra").with_inputs("question") for n in range(30)]


def test_predictors_draw_one_after_the_other_from_one_generator():
    program = LabeledFewShot().compile(Chain(), trainset=TRAINSET)
    rng = random.Random(0)
    assert program.first.demos == rng.sample(TRAINSET, 16)
    assert program.second.demos == rng.sample(TRAINSET, 16)


def test_without_sampling_the_first_ones_are_taken():
    program = LabeledFewShot(k=3).compile(Chain(), trainset=TRAINSET, sample=False)
    assert program.first.demos == program.second.demos == TRAINSET[:3]


def test_a_small_trainset_is_used_whole_and_an_empty_one_gives_no_demos():
    assert len(LabeledFewShot(k=16).compile(Chain(), trainset=TRAINSET[:2]).first.demos) == 2
    assert LabeledFewShot(k=16).compile(Chain(), trainset=[]).first.demos == []


def test_the_program_itself_is_left_alone_and_the_copy_is_not_marked_as_optimised():
    student = Predict("question -> answer")
    student.demos, student.lm = [TRAINSET[0]], MODEL
    program = LabeledFewShot(k=2).compile(student, trainset=TRAINSET)
    assert (student.demos, student.lm is None) == ([TRAINSET[0]], False)
    assert (program.lm, program._compiled) == (None, False)


def test_dicts_and_files_become_examples_with_the_programs_inputs(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text('{"question": "q", "answer": "a"}\n')
    student = Predict("question -> answer")
    for trainset in ([{"question": "q", "answer": "a"}], path, str(path)):
        (demo,) = LabeledFewShot().compile(student, trainset=trainset).demos
        assert demo == Example(question="q", answer="a")
        assert demo.inputs() == Example(question="q")


@pytest.mark.parametrize("trainset", [{"question": "q"}, 7, [7]])
def test_anything_else_is_refused(trainset):
    with pytest.raises(ConfigError, match="trainset"):
        LabeledFewShot().compile(Predict("question -> answer"), trainset=trainset)


@pytest.mark.parametrize("k", [-1, 1.5, True, "16"])
def test_k_is_a_whole_number(k):
    with pytest.raises(ConfigError, match="k: expected"):
        LabeledFewShot(k=k)
