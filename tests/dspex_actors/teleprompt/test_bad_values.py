"""Whatever optimisers are given: they take it, or refuse it in one line before anything is begun with."""

import inspect
import math
import re

import pytest

import dspex_actors as dspex
from dspex_actors import ConfigError
from dspex_actors.teleprompt.optimizer import Options
from dspex_actors.teleprompt.registry import OPTIMIZERS, optimizer_class
from dspex_actors.teleprompt.trainset import check_gives_something

#: No argument means all of these: what is neither taken nor refused in one line is a fault.
ODD = [None, True, -1, 0, 5, 0.5, math.nan, math.inf, "", "x", b"x", [], [5], {"lmx": 1}, object(), dspex.Predict, len]


def scored(example, prediction, trace=None):
    return True


class Empty(dspex.Module):
    """A program without predictors."""

    def forward(self, question):
        return dspex.Prediction(answer=question)


def rows(count=6, marked=True):
    made = [dspex.Example(question=f"q{number}", answer="a") for number in range(count)]
    return [one.with_inputs("question") for one in made] if marked else made


def student():
    return dspex.Predict("question -> answer")


def made(name, **given):
    """Return an optimiser with what it cannot do without."""
    kind = optimizer_class(name)
    there = inspect.signature(kind).parameters
    needed = {
        "metric": scored, "auto": "light", "bsize": 4, "k": 2, "trainset": rows(),
        "vectorizer": lambda texts: [[1.0, 0.0]] * len(texts),
    }  # fmt: skip
    if "auto" in there and {"max_full_evals", "max_metric_calls"} & set(given):
        needed.pop("auto")
    return kind(**{key: value for key, value in {**needed, **given}.items() if key in there or key in given})


def checked(optimizer, **given):
    """Have an optimiser check what its `compile` is given, without anything done."""
    takes = inspect.signature(optimizer.compile).parameters
    given = {"student": student(), **({"trainset": rows()} if "trainset" in takes else {}), **given}
    # KNNFewShot's asks nothing, and is none of a node's.
    return (optimizer.compile if optimizer.name == "KNNFewShot" else optimizer.check)(**given)


def one_line(action):
    """Do something that may be refused, in one line."""
    refused = ""
    try:
        action()
    except ConfigError as error:
        refused = error.message
    assert "\n" not in refused
    assert len(refused) < 700


def arguments(of):
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return [name for name, one in inspect.signature(of).parameters.items() if name != "self" and one.kind not in kinds]


SETTINGS = [(name, setting) for name in OPTIMIZERS for setting in arguments(optimizer_class(name))]
COMMON = ("student", *Options.__annotations__)
GIVEN = [
    (name, argument)
    for name in OPTIMIZERS
    for argument in arguments(optimizer_class(name).compile)
    if argument not in COMMON
]


@pytest.mark.parametrize(("name", "setting"), SETTINGS)
def test_a_setting_is_taken_or_refused_in_one_line(name, setting, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a text is a good log_dir
    for value in ODD:
        one_line(lambda value=value: checked(made(name, **{setting: value})))


@pytest.mark.parametrize(("name", "argument"), GIVEN)
def test_an_argument_of_compile_is_taken_or_refused_in_one_line(name, argument):
    for value in ODD:
        one_line(lambda value=value: checked(made(name), **{argument: value}))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_no_optimiser_can_do_with_is_refused_in_one_line(name):
    optimizer = made(name)
    takes = inspect.signature(optimizer.compile).parameters
    bad = {"student": [5, None, "x", Empty(), Empty, dspex.Predict, [student()]]}
    if "trainset" in takes:
        bad["trainset"] = [5, None, [5], {}, "nowhere.jsonl"]
    if "valset" in takes:
        bad["valset"] = [5, [5], [], rows(marked=False)]
    if "teacher" in takes:
        bad["teacher"] = [5, "x", Empty(), dspex.Predict, dspex.Predict("text -> label")]
    for what, values in bad.items():
        for value in values:
            with pytest.raises(ConfigError) as error:
                checked(made(name), **{what: value})
            assert "\n" not in error.value.message
            if what != "teacher":  # of a teacher with other predictors both are told
                assert what in error.value.message or "nowhere" in error.value.message


def forgets(example, prediction, trace=None):
    prediction.get("answer")


class Selects:
    """gepa's way to say which candidate is changed next."""

    def select_candidate_idx(self, state):
        return 0


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "labeled"])
def test_a_metric_that_forgets_to_return_is_refused(name):
    if name == "knn":
        with pytest.raises(ConfigError, match="forgets returns None"):
            made(name, metric=forgets)
        return
    with pytest.raises(ConfigError, match="the metric is invalid: forgets returns None, whatever it is given"):
        checked(made(name, metric=forgets))


def test_a_metric_that_returns_something_somewhere_is_not():
    def sometimes(example, prediction, trace=None):
        if trace is None:
            return None
        return 1.0

    def raises(example, prediction, trace=None):
        raise NotImplementedError

    async def later(example, prediction, trace=None):
        return 1.0

    for metric in (
        sometimes,
        raises,
        later,
        lambda example, prediction, trace=None: True,
        len,
        dspex.metrics.f1("answer"),
    ):
        check_gives_something(metric)

    async def forgets_later(example, prediction, trace=None):
        later(example, prediction)

    with pytest.raises(ConfigError, match="forgets_later returns None"):
        check_gives_something(forgets_later)


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        *((name, "teacher_settings", {"lmx": 1}) for name in ("bootstrap", "random_search", "mipro", "simba")),
        *((name, "teacher_settings", {"lm": "openai/x"}) for name in ("bootstrap", "distributed_bootstrap", "simba")),
        *((name, "num_threads", value) for name in ("random_search", "mipro", "simba", "gepa") for value in (0, "8")),
        *((name, "init_temperature", value) for name in ("copro", "mipro") for value in (math.nan, math.inf, -1, True)),
        *((name, "log_dir", value) for name in ("mipro", "gepa") for value in (5, b"x", [])),
        ("simba", "temperature_for_sampling", math.nan),
        ("bootstrap", "metric_threshold", True),
        ("knn", "trainset", 5),
        ("adaptive", "strategies", 5),
        ("adaptive", "strategies", []),
        ("adaptive", "settings", {"mipro": 5}),
        ("gepa", "auto", []),
        ("gepa", "candidate_selection_strategy", "xx"),
        ("gepa", "candidate_selection_strategy", 5),
        ("gepa", "component_selector", 5),
        ("gepa", "max_merge_invocations", -1),
        ("gepa", "gepa_kwargs", 5),
        ("gepa", "gepa_kwargs", {"wandbb": True}),
        ("gepa", "gepa_kwargs", {"use_wandb": True}),
        ("gepa", "gepa_kwargs", {"acceptance_criterion": "sometimes"}),
        ("gepa", "gepa_kwargs", {"batch_sampler": 5}),
        ("gepa", "gepa_kwargs", {"val_evaluation_policy": "some"}),
        ("gepa", "gepa_kwargs", {"frontier_type": "x"}),
        ("gepa", "gepa_kwargs", {"stop_callbacks": [5]}),
        ("gepa", "gepa_kwargs", {"callbacks": 5}),
        ("gepa", "gepa_kwargs", {"merge_val_overlap_floor": 0}),
        ("gepa", "gepa_kwargs", {"cache_evaluation": "yes"}),
    ],
)
def test_a_setting_that_would_fail_later_is_refused_at_once(name, setting, value):
    with pytest.raises(ConfigError, match=re.escape(setting)):
        made(name, **{setting: value})


def test_what_gepa_takes_is_taken():
    made("gepa", candidate_selection_strategy=Selects(), component_selector=lambda *args: [])
    made("gepa", gepa_kwargs={"acceptance_criterion": "improvement_or_equal", "stop_callbacks": lambda state: False})


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name not in ("labeled", "knn", "bootstrap")])
def test_examples_of_which_nobody_has_said_what_is_an_input_are_refused(name):
    with pytest.raises(ConfigError, match=r"trainset\[0\].*with_inputs"):
        checked(made(name), trainset=rows(marked=False))


@pytest.mark.parametrize("programs", [None, 5, "ab", {}, dspex.Predict("question -> answer"), [5], []])
def test_an_ensemble_of_what_are_no_programs_is_refused(programs):
    with pytest.raises(ConfigError, match="programs"):
        dspex.Ensemble().compile(programs)


def _refused(metric):
    """What DSPy refuses by a ValueError, too."""
    train = [dspex.Example(question=str(number), answer="a").with_inputs("question") for number in range(3)]
    program, by_hand = dspex.Predict("question -> answer"), {"auto": None, "num_candidates": 2}
    yield lambda: dspex.COPRO(metric=metric, breadth=1)
    yield lambda: dspex.MIPROv2(metric=metric, auto="huge")
    yield lambda: dspex.MIPROv2(metric=metric, num_candidates=3).compile(program, trainset=train)
    yield lambda: dspex.MIPROv2(metric=metric, auto=None).compile(program, trainset=train)
    yield lambda: dspex.MIPROv2(metric=metric, **by_hand).compile(program, trainset=train)
    yield lambda: dspex.MIPROv2(metric=metric, **by_hand).compile(program, trainset=train, valset=train, num_trials=2)
    yield lambda: dspex.MIPROv2(metric=metric).compile(program, trainset=train[:1])
    yield lambda: dspex.MIPROv2(metric=metric).compile(program, trainset=[])
    yield lambda: dspex.MIPROv2(metric=metric).compile(program, trainset=train, valset=[])
    yield lambda: dspex.BootstrapFewShotWithRandomSearch(metric=metric).compile(program, trainset=train, restrict=[99])


@pytest.mark.parametrize("number", range(10))
def test_who_catches_what_dspy_raises_catches_it_here(number):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - what is said stands in the tests above
        list(_refused(lambda example, prediction, trace=None: 1))[number]()
    assert isinstance(error.value, ConfigError)
