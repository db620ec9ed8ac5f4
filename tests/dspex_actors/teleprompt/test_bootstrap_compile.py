import json

import pytest
from bootstrap_fakes import MODEL, Chain, FakeBackend, FakeSystem
from bootstrap_reference import GaveUpError, bootstrap
from hypothesis import given, settings
from hypothesis import strategies as st
from property_kit import examples

from dspex_actors import ConfigError, Example, JSONAdapter, Predict, RunFailed, Signature, configure
from dspex_actors.lm.backend import set_process_backend
from dspex_actors.lm.lm import LM
from dspex_actors.teleprompt import BootstrapFewShot, LabeledFewShot

QUESTIONS = ["why", "who?", "where", "what is", "when was"]
TRAINSET = [
    Example(question=q, answer=str(n), note="kept").with_inputs("question") for n, q in enumerate(QUESTIONS * 4)
]


def last_digit(example, prediction, trace=None):
    """From -1 to 2, or an exception, depending on the answer."""
    number = int(prediction.answer) % 5 - 1
    if number == 3:
        raise ValueError(f"cannot judge {prediction.answer}")
    return number


def always(example, prediction, trace=None):
    return True


def raises(example, prediction, trace=None):
    raise ValueError(f"cannot judge {example.question}")


@pytest.fixture(autouse=True)
def backend():
    fake = FakeBackend()
    set_process_backend(fake)
    configure(lm=MODEL)
    yield fake
    set_process_backend(None)
    configure(lm=None)


@settings(max_examples=examples(80), deadline=None)
@given(
    picks=st.lists(st.tuples(st.sampled_from(QUESTIONS), st.integers(0, 3)), min_size=1, max_size=14),
    several=st.booleans(),
    metric=st.sampled_from([last_digit, None]),
    threshold=st.sampled_from([None, 0, 1, 2, -1, 0.5]),
    errors=st.sampled_from([0.0, 0.2, 0.6]),
    most=st.integers(0, 5),
    labeled=st.integers(0, 6),
    rounds=st.integers(0, 3),
    max_errors=st.sampled_from([0, 1, 3, 10, 99]),
    seed=st.integers(0, 99),
)
def test_whatever_the_lm_says_the_demos_are_those_of_the_sequential_algorithm(
    picks, several, metric, threshold, errors, most, labeled, rounds, max_errors, seed
):
    trainset = [Example(question=q, answer=str(n), note=[n]).with_inputs("question") for q, n in picks]
    student = Chain() if several else Predict("question -> answer")
    limits = {
        "metric_threshold": threshold,
        "max_bootstrapped_demos": most,
        "max_labeled_demos": labeled,
        "max_rounds": rounds,
        "max_errors": max_errors,
    }
    set_process_backend(FakeBackend(errors))
    optimizer = BootstrapFewShot(metric, **limits)
    try:
        expected, _ = bootstrap(student, trainset, metric, lm=MODEL, **limits)
    except GaveUpError as error:
        with pytest.raises(RunFailed, match=f"example {error.index}: {type(error.error).__name__}"):
            optimizer.compile(student, trainset=trainset, system=FakeSystem(seed))
    else:
        program = optimizer.compile(student, trainset=trainset, system=FakeSystem(seed))
        assert program.dump_state() == expected.dump_state()
        assert repr(program.predictors()[0].demos) == repr(expected.predictors()[0].demos)


def test_the_run_asks_for_no_more_than_it_needs():
    system = FakeSystem()
    BootstrapFewShot(always, max_bootstrapped_demos=20).compile(Chain(), trainset=TRAINSET, system=system)
    BootstrapFewShot(always, max_errors=3).compile(Chain(), trainset=TRAINSET, max_in_flight=5, system=system)
    (kind, first), (_, second) = system.started
    assert (kind, first["max_in_flight"], first["failures"]) == ("bootstrap", 80, "skip")
    assert first["rule"] == {"successes": 20, "max_errors": 10}
    assert (second["max_in_flight"], second["rule"]["max_errors"]) == (5, 3)


@pytest.mark.parametrize("limits", [{"max_bootstrapped_demos": 0}, {"max_rounds": 0}])
def test_where_nothing_is_to_be_bootstrapped_nothing_is_asked(limits):
    program = BootstrapFewShot(always, **limits).compile(Chain(), trainset=TRAINSET, system=None)
    assert len(program.first.demos) == 16
    assert program._compiled


def test_an_empty_trainset_gives_a_program_without_demos():
    program = BootstrapFewShot(always).compile(Chain(), trainset=[])
    assert (program.first.demos, program._compiled) == ([], True)


def test_too_many_errors_end_it_with_the_error_that_was_too_much():
    with pytest.raises(
        RunFailed, match="3 of 3 errors; the last, of example 2: ValueError: cannot judge where"
    ) as failed:
        BootstrapFewShot(raises, max_errors=3).compile(Chain(), trainset=TRAINSET, system=FakeSystem())
    assert failed.value.run_id == "run"
    assert isinstance(failed.value, ValueError)  # as the metric raised it
    assert "cannot judge where" in str(failed.value.__cause__)


def test_ten_errors_are_too_many_unless_said_otherwise():
    with pytest.raises(RunFailed, match="10 of 10 errors"):
        BootstrapFewShot(raises).compile(Chain(), trainset=TRAINSET, system=FakeSystem())
    program = BootstrapFewShot(raises).compile(Chain(), trainset=TRAINSET[:9], system=FakeSystem())
    assert len(program.first.demos) == 9


def test_the_students_demos_and_lm_are_not_in_the_result_and_the_student_stays_as_it_is():
    student = Predict("question -> answer")
    student.demos = [{"question": "mine", "answer": "mine"}]
    student.set_lm(LM("openai/own"))
    program = BootstrapFewShot(always).compile(student, trainset=TRAINSET, system=FakeSystem())
    assert program.lm is None
    assert student.demos[0] not in program.demos
    assert (len(student.demos), student.lm, student._compiled) == (1, LM("openai/own"), False)


@pytest.mark.parametrize(("labeled", "kept"), [(0, True), (1, False)])
def test_the_teacher_keeps_the_students_demos_and_lm_only_without_labelled_ones(backend, labeled, kept):
    student = Predict("question -> answer")
    student.demos = [{"question": "mine", "answer": "mine"}]
    student.set_lm(LM("openai/own"))
    BootstrapFewShot(always, max_labeled_demos=labeled).compile(student, trainset=TRAINSET, system=FakeSystem())
    assert {("mine" in str(messages), lm.model == "openai/own") for lm, messages, _ in backend.asked} == {(kept, kept)}


def test_an_optimised_teacher_keeps_its_demos(backend):
    teacher = Predict("question -> answer")
    teacher.demos, teacher._compiled = [{"question": "mine", "answer": "mine"}], True
    student = Predict("question -> answer")
    BootstrapFewShot(always).compile(student, teacher=teacher, trainset=TRAINSET, system=FakeSystem())
    assert all("mine" in str(messages) for _, messages, _ in backend.asked)


def test_the_teachers_settings_choose_its_lm_and_adapter(backend):
    optimizer = BootstrapFewShot(
        always, teacher_settings={"lm": LM("openai/teacher"), "adapter": JSONAdapter()}, max_errors=99
    )
    optimizer.compile(Chain(), trainset=TRAINSET, system=FakeSystem())
    assert {lm.model for lm, _, _ in backend.asked} == {"openai/teacher"}
    assert not any("## completed ##" in str(messages) for _, messages, _ in backend.asked)


def test_this_process_settings_hold_in_the_workers_too(backend):
    configure(adapter=JSONAdapter())
    try:
        BootstrapFewShot(always, max_errors=99).compile(Chain(), trainset=TRAINSET, system=FakeSystem())
    finally:
        configure(adapter=None)
    assert not any("## completed ##" in str(messages) for _, messages, _ in backend.asked)


def test_the_result_can_be_saved_loaded_and_used_as_a_teacher(tmp_path):
    program = BootstrapFewShot(always).compile(Chain(), trainset=TRAINSET, system=FakeSystem())
    program.save(tmp_path / "better.json")
    state = json.loads((tmp_path / "better.json").read_text())
    assert [demo.get("augmented") for demo in state["second"]["demos"][:5]] == [True] * 4 + [None]
    assert state["second"]["demos"][-1]["note"] == "kept"
    again = Chain()
    again.load(tmp_path / "better.json")
    assert again.dump_state() == program.dump_state()
    BootstrapFewShot(always).compile(Chain(), teacher=program, trainset=TRAINSET, system=FakeSystem())


def test_an_optimised_student_is_refused():
    student = LabeledFewShot().compile(Chain(), trainset=TRAINSET)
    BootstrapFewShot(always).compile(student, trainset=TRAINSET, system=FakeSystem())
    student._compiled = True
    with pytest.raises(ConfigError, match="optimised already"):
        BootstrapFewShot(always).compile(student, trainset=TRAINSET)


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        (Predict("question -> answer"), "same predictors"),
        ("teacher", "expected a program"),
    ],
)
def test_a_teacher_of_another_structure_is_refused(teacher, message):
    with pytest.raises(ConfigError, match=message):
        BootstrapFewShot(always).compile(Chain(), teacher=teacher, trainset=TRAINSET)


def test_a_teacher_with_other_signatures_is_refused():
    teacher = Predict(Signature("question -> answer", "Answer in one word."))
    with pytest.raises(ConfigError, match="another signature"):
        BootstrapFewShot(always).compile(Predict("question -> answer"), teacher=teacher, trainset=TRAINSET)


def two_arguments(example, prediction):
    return True


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metric": two_arguments}, "add `trace=None`"),
        ({"metric": "exact_match"}, "metric: expected a function"),
        ({"metric_threshold": "high"}, "metric_threshold"),
        ({"metric_threshold": float("nan")}, "metric_threshold"),
        ({"teacher_settings": {"model": "x"}}, "model cannot be set; there are lm"),
        ({"teacher_settings": {"trace": []}}, "trace cannot be set"),
        ({"teacher_settings": "x"}, "teacher_settings"),
        ({"max_bootstrapped_demos": -1}, "max_bootstrapped_demos"),
        ({"max_labeled_demos": 1.5}, "max_labeled_demos"),
        ({"max_rounds": None}, "max_rounds"),
        ({"max_errors": -1}, "max_errors"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(arguments, message):
    with pytest.raises(ConfigError, match=message):
        BootstrapFewShot(**arguments)


@pytest.mark.parametrize(("student", "in_flight", "message"), [(Chain(), 0, "max_in_flight"), (len, 1, "student")])
def test_compile_refuses_what_makes_no_sense(student, in_flight, message):
    with pytest.raises(ConfigError, match=message):
        BootstrapFewShot(always).compile(student, trainset=TRAINSET, max_in_flight=in_flight, system=FakeSystem())


def test_ctrl_c_pauses_the_run_and_says_how_to_go_on(capsys):
    class Interrupted(FakeSystem):
        def wait_run(self, run_id, on_progress=None, display_progress=False, label=""):
            raise KeyboardInterrupt

        def pause(self, run_id, reason):
            self.paused = run_id

    system = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        BootstrapFewShot(always).compile(Chain(), trainset=TRAINSET, run_id="mine", system=system)
    assert system.paused == "mine"
    assert "compile(..., run_id='mine')" in capsys.readouterr().err


def test_a_missing_result_is_never_taken_for_the_next_one():
    class Gap(FakeSystem):
        def wait_run(self, run_id, on_progress=None, display_progress=False, label=""):
            del self.rows[1]
            return super().wait_run(run_id)

    with pytest.raises(RunFailed, match="example 1 has no result in run run"):
        BootstrapFewShot(always).compile(Chain(), trainset=TRAINSET, system=Gap())
