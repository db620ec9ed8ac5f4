"""The column "run" of docs/design/identities.md, cell by cell: what makes a run another one, and what does not."""

import functools
import importlib.util
import itertools
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from property_kit import examples

import dspex_actors as dspex
from dspex_actors.data.opening import open_dataset
from dspex_actors.journal.records import RunSpec
from dspex_actors.journal.sameness import check_same, differences
from dspex_actors.runs.identity.parts import dataset_parts, run_identity

NUMBERS = itertools.count()
LIMIT = 3


class Desk(dspex.Module):
    def __init__(self, threshold=0.5):
        self.threshold = threshold
        self.sort = dspex.Predict("ticket -> team")

    def forward(self, ticket):
        return self.sort(ticket=ticket)


def metric(example, prediction, trace=None):
    return True


def spec(program=None, score=metric, lm=None, options=None, **fields):
    told = run_identity(program or Desk(), score, lm, options or {})
    told["identity"]["dataset"] = fields.pop("dataset", {})
    return RunSpec(run_id="r", **told, **fields)


def changed(one, other):
    """Return what differs, as it is told."""
    return differences(spec(**one), spec(**other))


def lm(**settings):
    return dspex.LM(**{"model": "openai/gpt-4o", **settings})


# --- the LM ---------------------------------------------------------------------------------------------------------


def test_provider_and_model_belong_to_a_run():
    assert changed({"lm": lm()}, {"lm": lm(model="openai/gpt-5")}) == [
        "LM (model was 'openai/gpt-4o' and is 'openai/gpt-5')"
    ]
    assert changed({"lm": lm()}, {"lm": lm(model="anthropic/gpt-4o")}) != []
    assert changed({"lm": None}, {"lm": lm()}) == ["LM (model is new)"]


@pytest.mark.parametrize(
    "settings",
    [
        {"base_url": "http://localhost:1/v1"},
        {"api_key": "env:OTHER_KEY"},
        {"rpm": 5.0},
        {"tpm": 5.0},
        {"max_in_flight": 5},
        {"timeout": 5.0},
        {"deadline": 5.0},
        {"cache": False},
        {"rollout_id": 7},
    ],
    ids=str,
)
def test_server_key_limits_and_call_options_do_not(settings):
    assert changed({"lm": lm()}, {"lm": lm(**settings)}) == []


@pytest.mark.parametrize(("name", "value"), [("temperature", 0.5), ("max_tokens", 9), ("stop", ["x"]), ("seed", 3)])
def test_parameters_do(name, value):
    assert changed({"lm": lm()}, {"lm": lm(**{name: value})}) == [f"LM ({name} is new)"]
    assert changed({"lm": lm(seed=1)}, {"lm": lm(seed=2)}) == ["LM (seed was 1 and is 2)"]
    assert changed({"lm": lm(temperature=1)}, {"lm": lm(temperature=1.0)}) == []


def test_fallbacks_do_with_their_model_and_parameters():
    one = lm(fallbacks=[lm(temperature=0.0)])
    assert changed({"lm": one}, {"lm": lm(fallbacks=[lm(temperature=0.5)])}) == [
        "LM (fallback 1's temperature was 0 and is 0.5)"
    ]
    assert changed({"lm": one}, {"lm": lm(fallbacks=[lm(temperature=0.0, timeout=3.0, base_url="http://h/v1")])}) == []
    assert changed({"lm": lm(fallbacks=["openai/x"])}, {"lm": lm(fallbacks=[dspex.LM("openai/x")])}) == []


# --- the program ----------------------------------------------------------------------------------------------------


def test_instance_attributes_of_a_program_do():
    assert changed({"program": Desk(0.5)}, {"program": Desk(0.7)}) == [
        "program (attribute threshold was 0.5 and is 0.7)"
    ]


def test_instructions_and_demos_do():
    other = Desk()
    other.sort.signature = other.sort.signature.with_instructions("Sort it.")
    assert changed({"program": Desk()}, {"program": other}) == ["program (instructions of sort has changed)"]
    other = Desk()
    other.sort.demos = [dspex.Example(ticket="a", team="b").with_inputs("ticket")]
    assert changed({"program": Desk()}, {"program": other}) == ["program (demos of sort has changed)"]


def test_the_fields_of_a_signature_do():
    def program(annotation):
        made = Desk()
        made.sort = dspex.Predict(f"ticket -> team: {annotation}")
        return made

    assert changed({"program": program("str")}, {"program": program("int")}) == [
        "program (signature of sort has changed)"
    ]


def test_config_and_lm_of_a_predictor_do():
    def program(own=None, **config):
        made = Desk()
        made.sort = dspex.Predict("ticket -> team", **config)
        made.sort.lm = own
        return made

    assert changed({"program": program(temperature=0.1)}, {"program": program(temperature=0.2)}) == [
        "program (config temperature of sort was 0.1 and is 0.2)"
    ]
    assert changed({"program": program(lm(seed=1))}, {"program": program(lm(seed=2))}) == [
        "program (LM's seed of sort was 1 and is 2)"
    ]
    assert changed({"program": program(lm(rpm=1.0))}, {"program": program(lm(rpm=2.0))}) == []


def module_from(folder, text):
    """Import a script of the user's own, another one each time."""
    path = folder / f"own_{next(NUMBERS)}.py"
    path.write_text(text)
    found = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(found)
    sys.modules[path.stem] = module
    found.loader.exec_module(module)
    return module


SCRIPT = """
import dspex_actors as dspex

SHIFT = 1

def helper(x):
    return x + SHIFT

class Base(dspex.Module):
    scale = 2

    def clean(self, x):
        return helper(x)

class Program(Base):
    def forward(self, x):
        return self.clean(x)

def metric(example, prediction, trace=None):
    return helper(prediction.x)
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("return self.clean(x)", "return self.clean(x) + 1"),
        ("return helper(x)", "return helper(x) * 2"),
        ("scale = 2", "scale = 3"),
        ("return x + SHIFT", "return x - SHIFT"),
        ("SHIFT = 1", "SHIFT = 2"),
    ],
    ids=["its source", "its base's source", "an attribute of its base", "its helper's source", "its helper's global"],
)
def test_source_of_a_program_of_its_bases_and_of_what_they_read_does(tmp_path, old, new):
    one, other = module_from(tmp_path, SCRIPT), module_from(tmp_path, SCRIPT.replace(old, new))
    assert changed({"program": one.Program()}, {"program": other.Program()}) == ["program (class Program has changed)"]
    same = module_from(tmp_path, "# a comment\n\n" + SCRIPT.replace("return helper(x)\n", "return helper(x)  # so\n\n"))
    assert changed({"program": one.Program()}, {"program": same.Program()}) == []


# --- the metric -----------------------------------------------------------------------------------------------------


def closing_over(limit):
    return lambda example, prediction, trace=None: prediction.n > limit


def with_default(limit):
    def score(example, prediction, trace=None, limit=limit):
        return prediction.n > limit

    return score


def with_arguments(limit, example, prediction, trace=None, *, scale=1):
    return prediction.n * scale > limit


class Judge:
    def __init__(self, limit):
        self.limit = limit

    def __call__(self, example, prediction, trace=None):
        return prediction.n > self.limit

    def score(self, example, prediction, trace=None):
        return self(example, prediction)


def with_attribute(limit):
    def score(example, prediction, trace=None):
        return prediction.n > score.limit

    score.limit = limit
    return score


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (closing_over, "closure value 'limit'"),
        (with_default, "default 'limit'"),
        (lambda limit: functools.partial(with_arguments, limit), "argument 0"),
        (lambda limit: functools.partial(with_arguments, 0, scale=limit), "argument 'scale'"),
        (Judge, "attribute 'limit'"),
        (lambda limit: Judge(limit).score, "attribute 'limit'"),
        (with_attribute, "attribute 'limit'"),
    ],
    ids=["closure", "default", "partial", "partial by name", "callable object", "bound method", "attribute"],
)
def test_what_a_metric_holds_does_and_is_named(make, name):
    assert f"{name} was 3 and is 4" in changed({"score": make(3)}, {"score": make(4)})[0]
    assert changed({"score": make(3)}, {"score": make(3)}) == []


def test_source_helpers_and_globals_of_a_metric_do(tmp_path):
    one = module_from(tmp_path, SCRIPT).metric
    for old, new, what in (
        ("return helper(prediction.x)", "return -helper(prediction.x)", "source"),
        ("return x + SHIFT", "return x", "helper 'helper'"),
    ):
        other = module_from(tmp_path, SCRIPT.replace(old, new)).metric
        assert changed({"score": one}, {"score": other}) == [f"metric ({what} has changed)"]


def test_a_global_of_a_metric_does():
    scope = {"LIMIT": 3}
    exec("def metric(example, prediction, trace=None): return prediction.n > LIMIT", scope)
    before = spec(score=scope["metric"])
    scope["LIMIT"] = 4
    assert differences(before, spec(score=scope["metric"])) == ["metric (global 'LIMIT' was 3 and is 4)"]


def test_two_lambdas_in_one_line_are_two_metrics():
    one, other = (lambda e, p, t=None: p.x), (lambda e, p, t=None: p.y)
    assert changed({"score": one}, {"score": other}) == ["metric (source has changed)"]


def test_settings_of_our_own_metrics_do():
    one, other = dspex.metrics.numeric("n", tolerance=0.1), dspex.metrics.numeric("n", tolerance=0.2)
    assert "attribute 'tolerance' was 0.1 and is 0.2" in changed({"score": one}, {"score": other})[0]


@settings(deadline=None, max_examples=examples(30))
@given(st.text(min_size=30, max_size=40))
def test_long_texts_and_keys_are_not_kept(tail):
    key = f"sk-{tail}"
    assert not any(key in text for part in spec(score=closing_over(key)).identity.values() for text in part.values())


# --- the rest -------------------------------------------------------------------------------------------------------


def test_the_content_of_a_dataset_does(tmp_path):
    path = tmp_path / "data.jsonl"

    def of(text):
        path.write_text(text)
        found = open_dataset(path)
        return {"dataset_digest": found.digest, "dataset": dataset_parts(found.descriptor, found.count())}

    one = of('{"a": 1}\n')
    assert changed(one, of('{"a": 1}\n')) == []
    assert changed(one, of('{"a": 2}\n')) == ["dataset"]
    assert "number of examples was 1 and is 2" in changed(one, of('{"a": 1}\n{"a": 2}\n'))[0]


def test_the_adapter_does():
    one, other = ({"options": {"adapter": adapter}} for adapter in (dspex.ChatAdapter(), dspex.JSONAdapter()))
    assert changed(one, other) == ["settings (adapter has changed)"]
    assert changed({"options": {"adapter": None}}, {}) == []
    assert changed(one, {"options": {"adapter": dspex.ChatAdapter()}}) == []


def test_settings_of_a_bootstrap_do():
    one, other = ({"options": {"rule": {"successes": 4}, "metric_threshold": value}} for value in (0.5, 0.6))
    assert changed(one, other) == ["settings (metric_threshold was 0.5 and is 0.6)"]


@pytest.mark.parametrize("name", ["failures", "max_attempts", "max_failures", "max_in_flight", "strategy"])
def test_how_a_run_is_done_does_not(name):
    assert changed({"options": {name: 1}}, {"options": {name: 2}}) == []


def test_the_error_names_the_parts_and_what_changed_and_how_to_go_on_all_the_same():
    one, other = spec(program=Desk(0.5), score=closing_over(3)), spec(program=Desk(0.7), score=closing_over(4))
    with pytest.raises(dspex.ConfigError) as found:
        check_same(one, other)
    assert str(found.value) == (
        "run r is there already with another program (attribute threshold was 0.5 and is 0.7) and another metric "
        "(closure value 'limit' was 3 and is 4): continue it with what it was started with, or choose another run id "
        "(`--force-resume`, or force_resume=True, says that the difference does not matter)"
    )
    check_same(one, other, force=True)


def test_a_run_of_another_kind_is_refused_whatever_its_user_says():
    with pytest.raises(dspex.ConfigError, match="of another kind: evaluate, not bootstrap"):
        check_same(RunSpec(run_id="r"), RunSpec(run_id="r", kind="bootstrap"), force=True)


def test_digests_made_another_way_are_not_compared():
    before = RunSpec(run_id="r", program_digest="old", metric_digest="old", dataset_digest="d")
    assert differences(before, spec(dataset_digest="d")) == []
    assert differences(before, spec(dataset_digest="e")) == ["dataset"]
    assert differences(before, RunSpec(run_id="r", program_digest="new", dataset_digest="d")) == ["program", "metric"]
