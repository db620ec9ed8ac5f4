"""What optimisers refuse before anything is asked, and what their best program has beside it."""

import copy
import math
import pickle

import pytest

import dspex_actors as dspex
from dspex_actors import ConfigError, Example, Module, Predict
from dspex_actors.runs.identity.parts import program_identity
from dspex_actors.teleprompt import (
    COPRO,
    GEPA,
    SIMBA,
    AdaptiveOptimizer,
    BootstrapFewShot,
    BootstrapFewShotWithRandomSearch,
    DistributedBootstrap,
    Ensemble,
    KNNFewShot,
    LabeledFewShot,
    MIPROv2,
)
from dspex_actors.teleprompt.adaptive import Choice
from dspex_actors.teleprompt.book import spec_of
from dspex_actors.teleprompt.candidates import Candidates
from dspex_actors.teleprompt.gepa import GEPAResult

TRAINSET = [Example(question="why", answer="so").with_inputs("question")]
STUDENT = Predict("question -> answer")


class Empty(Module):
    def forward(self, question):
        return question


def metric(example, prediction, trace=None):
    return True


def search(**settings):
    return BootstrapFewShotWithRandomSearch(**{"metric": metric, **settings})


def gepa(**settings):
    return GEPA(metric, auto="light", **settings)


def ones(texts):
    return [[1.0]] * len(texts)


def propose(**settings):
    return COPRO(**{"metric": metric, **settings})


@pytest.mark.parametrize("make", [search, propose])
@pytest.mark.parametrize(
    ("settings", "student", "trainset", "words"),
    [
        ({"metric": None}, STUDENT, TRAINSET, "metric: .* compares programs by it: give it metric"),
        ({"metric": lambda: True}, STUDENT, TRAINSET, r"metric.*got the parameters|metric: it is called as metric"),
        ({}, "text", TRAINSET, r"student: expected a program \(dspex.Module\), got str"),
        ({}, Empty(), TRAINSET, "student: Empty has no predictors, so nothing can be optimised"),
        ({}, STUDENT, [], "trainset: expected at least one example, got none"),
        ({}, STUDENT, 5, "trainset: expected a list of Examples or a path"),
    ],
)
def test_what_cannot_be_optimised_is_refused_in_one_line(make, settings, student, trainset, words):
    with pytest.raises(ConfigError, match=words) as error:
        make(**settings).compile(student, trainset=trainset)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("make", "settings", "words"),
    [
        (search, {"num_candidate_programs": -1}, "num_candidate_programs: expected a whole number of at least 0"),
        (search, {"max_bootstrapped_demos": 0}, "max_bootstrapped_demos: expected a whole number of at least 1"),
        (search, {"max_labeled_demos": "many"}, "max_labeled_demos: expected a whole number"),
        (search, {"stop_at_score": "high"}, "stop_at_score is invalid: got 'high'"),
        (propose, {"breadth": 1}, "breadth: expected a whole number of at least 2, got 1"),
        (propose, {"depth": 0}, "depth: expected a whole number of at least 1, got 0"),
        (propose, {"init_temperature": -1}, "init_temperature is invalid: got -1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, settings, words):
    with pytest.raises(ConfigError, match=words):
        make(**settings)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: COPRO("openai/x", metric), "prompt_model is invalid: got 'openai/x', expected an LM, as dspex.LM"),
        (lambda: COPRO(None, metric, init_temperature=math.nan), "init_temperature is invalid: got nan"),
        (lambda: MIPROv2(metric, task_model=5), "task_model is invalid: got 5, expected an LM"),
        (lambda: MIPROv2(metric, init_temperature=math.inf), "init_temperature is invalid: got inf"),
        (lambda: MIPROv2(metric, log_dir=5), "log_dir is invalid: got 5, expected the path of a folder"),
        (lambda: SIMBA(metric=metric, prompt_model="x"), "prompt_model is invalid: got 'x'"),
        (lambda: SIMBA(metric=metric, teacher_settings={"lmx": 1}), "teacher_settings: lmx cannot be set"),
        (lambda: SIMBA(metric=metric, temperature_for_sampling=math.inf), "temperature_for_sampling is invalid"),
        (lambda: BootstrapFewShot(metric, teacher_settings={"lm": "x"}), r"teacher_settings\['lm'\] is invalid"),
        (lambda: search(teacher_settings={"lm": "x"}), r"teacher_settings\['lm'\] is invalid: got 'x'"),
        (lambda: gepa(reflection_lm="x"), "reflection_lm is invalid: got 'x', expected an LM"),
        (lambda: gepa(candidate_selection_strategy="best"), "candidate_selection_strategy is invalid: got 'best'"),
        (lambda: gepa(component_selector=5), "component_selector is invalid: got 5, expected round_robin, all"),
        (lambda: gepa(max_merge_invocations=-1), "max_merge_invocations: expected a whole number of at least 0"),
        (lambda: gepa(gepa_kwargs=5), "gepa_kwargs is invalid: got 5, expected a dict"),
        (lambda: LabeledFewShot().compile(5, trainset=TRAINSET), "student: expected a program"),
        (lambda: LabeledFewShot().compile(Empty(), trainset=TRAINSET), "student: Empty has no predictors"),
        (lambda: BootstrapFewShot(metric).compile(Empty(), trainset=TRAINSET), "student: Empty has no predictors"),
        (lambda: KNNFewShot(1, TRAINSET, ones).compile(Empty()), "student: Empty has no predictors"),
        (lambda: Ensemble().compile(None), "programs is invalid: got None, expected a list of programs"),
    ],
)
def test_what_cannot_work_is_refused_before_a_node_is_asked(make, words):
    with pytest.raises(ConfigError, match=words) as error:
        make()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("make", [lambda folder: MIPROv2(metric, log_dir=folder), lambda folder: gepa(log_dir=folder)])
def test_a_folder_that_cannot_be_written_to_is_refused_before_anything_is_paid(make, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"log_dir is invalid: got .*file/below, where nothing can be written"):
        make(tmp_path / "file" / "below").compile(STUDENT, trainset=TRAINSET * 3)


def test_what_is_noted_down_on_a_program_is_no_part_of_what_it_is():
    program = STUDENT.deepcopy()
    identity = program_identity(program)
    program.strategy = Choice("copro", "few examples")
    program.detailed_results = GEPAResult([], [], [], [], {}, [])
    assert program_identity(program) == identity
    program.strategy = "a setting of the user's"
    assert program_identity(program) != identity


def test_how_an_optimisation_is_done_is_no_part_of_what_it_is(tmp_path):
    one = spec_of(MIPROv2(metric, num_threads=4, verbose=True), STUDENT, TRAINSET, None, "x", {})
    other = spec_of(MIPROv2(metric, track_stats=False, log_dir=tmp_path), STUDENT, TRAINSET, None, "x", {})
    third = spec_of(MIPROv2(metric, seed=4), STUDENT, TRAINSET, None, "x", {})
    assert one.options_digest == other.options_digest != third.options_digest


def test_the_lms_that_an_optimiser_asks_are_known():
    first, second, third = (dspex.LM(f"embedded/{name}") for name in ("nearest", "naive-bayes", "centroid"))
    assert MIPROv2(metric, first, second, {"lm": third}).lms() == [first, second, third]
    assert SIMBA(metric=metric, prompt_model=first, teacher_settings={"lm": third}).lms() == [first, third]
    assert search(teacher_settings={"lm": third}).lms() == [third]
    assert DistributedBootstrap(metric, teacher_settings={"lm": third}).lms() == [third]
    assert gepa(reflection_lm=first).lms() == [first]
    assert AdaptiveOptimizer(metric, settings={"copro": {"prompt_model": first}}).lms() == [first]
    assert COPRO(None, metric).lms() == []


def test_seeds_that_there_are_not_and_unknown_options_are_refused():
    with pytest.raises(ConfigError, match=r"restrict is invalid: got \[99\], expected seeds from -3 to 15"):
        search().compile(STUDENT, trainset=TRAINSET, restrict=[99])
    with pytest.raises(TypeError, match="unexpected keyword argument 'bugdet'"):
        search().compile(STUDENT, trainset=TRAINSET, bugdet=3)


def test_candidates_do_not_travel_with_their_program_and_are_no_part_of_what_it_is():
    program = Predict("question -> answer")
    identity = program_identity(program)
    program.candidate_programs = Candidates([{"score": 20.0, "program": program}, {"score": None}, {"score": 60.0}])
    assert [one["score"] for one in program.candidate_programs] == [60.0, 20.0, None]
    assert program.deepcopy().candidate_programs is program.candidate_programs
    assert len(pickle.loads(pickle.dumps(program.candidate_programs))) == 0
    assert len(copy.deepcopy(program.candidate_programs)) == 3
    assert program_identity(program) == identity
    assert [name for name, _ in program.named_predictors()] == ["self"]
