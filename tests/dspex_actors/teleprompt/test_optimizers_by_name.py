"""Optimisers have one face, and are found by name."""

import inspect
import pickle

import pytest

import dspex_actors as dspex
from dspex_actors import ConfigError
from dspex_actors.teleprompt import COPRO, BootstrapFewShot, LabeledFewShot
from dspex_actors.teleprompt.optimizer import Optimizer
from dspex_actors.teleprompt.registry import OPTIMIZERS, make_optimizer, optimizer_class, split_settings


def metric(example, prediction, trace=None):
    return True


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_optimiser_has_the_same_face(name):
    kind = optimizer_class(name)
    assert issubclass(kind, Optimizer)
    assert optimizer_class(kind.__name__) is kind
    assert kind.compile is not Optimizer.compile
    assert isinstance(kind.supports_distributed, bool)
    parameters = list(inspect.signature(kind.compile).parameters.values())
    assert parameters[1].name == "student"
    assert all(one.kind in (one.KEYWORD_ONLY, one.VAR_KEYWORD) for one in parameters[2:])


def test_another_configuration_is_another_optimiser_also_after_it_has_travelled():
    few = pickle.loads(pickle.dumps(COPRO(None, metric, depth=2))).configure(breadth=4)
    assert (few.breadth, few.depth, few.metric, few.name) == (4, 2, metric, "COPRO")
    wider = few.configure(depth=5)
    assert (wider.breadth, wider.depth, few.depth) == (4, 5, 2)
    with pytest.raises(ConfigError, match="COPRO has no setting width: there are prompt_model, metric, breadth"):
        few.configure(width=3)
    with pytest.raises(ConfigError, match="breadth: expected a whole number of at least 2"):
        few.configure(breadth=0)


def test_what_is_given_goes_before_what_is_configured_and_that_before_the_defaults():
    configured = {"bootstrap": {"max_bootstrapped_demos": 7, "max_rounds": 2, "no_setting_of_its": 1}, "copro": {}}
    made = make_optimizer("bootstrap", metric, {"max_rounds": 3}, configured)
    assert isinstance(made, BootstrapFewShot)
    assert (made.max_bootstrapped_demos, made.max_rounds, made.max_labeled_demos) == (7, 3, 16)
    assert isinstance(make_optimizer("labeled", metric), LabeledFewShot)


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("miprov9", {}, "optimizer is invalid: got 'miprov9', expected one of labeled, bootstrap, random_search"),
        ("random-search", {"width": 3}, "BootstrapFewShotWithRandomSearch has no setting width: there are metric"),
        ("knn", {}, "KNNFewShot needs k and trainset and vectorizer: make it in Python"),
        ("copro", {"breadth": 1}, "breadth: expected a whole number of at least 2, got 1"),
    ],
)
def test_what_cannot_be_made_by_name_is_refused_in_one_line(name, settings, words):
    with pytest.raises(ConfigError, match=words) as error:
        make_optimizer(name, metric, settings)
    assert "\n" not in str(error.value)


def test_settings_of_a_compile_are_told_from_those_of_the_class_and_go_before_what_is_configured():
    configured = {"mipro": {"auto": None, "minibatch_size": 12, "max_labeled_demos": 3}}
    given = {"num_candidates": 4, "num_trials": 9, "seed": 3}
    assert split_settings("mipro", given, configured) == (
        {"num_candidates": 4, "seed": 3}, {"minibatch_size": 12, "num_trials": 9},
    )  # fmt: skip
    assert split_settings("SIMBA", {"seed": 3, "bsize": 4}) == ({"bsize": 4}, {"seed": 3})
    assert split_settings("labeled", {"sample": False}) == ({}, {"sample": False})
    with pytest.raises(ConfigError, match=r"SIMBA has no setting width: there are .*, seed$"):
        make_optimizer("simba", metric, {"width": 3})


def test_one_that_needs_a_budget_has_a_light_one_where_none_is_given():
    assert make_optimizer("gepa", metric).auto == "light"
    assert make_optimizer("gepa", metric, {"max_metric_calls": 40}).auto is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"program": dspex.Predict}, "program: expected a program"),
        ({"optimizer": "mirpo"}, "optimizer is invalid: got 'mirpo'"),
        ({"optimizer": dspex.COPRO}, "optimizer is invalid"),
        ({"optimizer": "copro", "breath": 3}, "COPRO has no setting breath"),
        ({"optimizer": "copro", "valset": []}, "valset: COPRO takes none: leave it out"),
        ({"optimizer": dspex.COPRO(), "breath": 3}, "COPRO has no setting breath"),
    ],
)
def test_optimize_refuses_in_one_line(given, words):
    whole = {"program": dspex.Predict("question -> answer"), "trainset": [], "metric": lambda *it: True, **given}
    with pytest.raises(dspex.ConfigError) as caught:
        dspex.optimize(**whole)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_optimize_gives_class_and_compile_what_is_theirs():
    made = [dspex.Example(question=str(place), answer="yes").with_inputs("question") for place in range(4)]
    first = dspex.optimize(dspex.Predict("question -> answer"), made, optimizer="labeled", k=2, sample=False)
    assert [demo.question for demo in first.demos] == ["0", "1"]
    again = dspex.optimize(
        dspex.Predict("question -> answer"), made, optimizer=dspex.LabeledFewShot(k=3), k=1, sample=False
    )
    assert [demo.question for demo in again.demos] == ["0"]
