"""Each argument of each optimiser, of its class and of its `compile`: whoever can change the result changes what the
optimisation is, and so cannot be given another one's work; the others do not. An argument that is in no table fails."""

import inspect
import pkgutil
from importlib import import_module

import pytest

import dspex_actors as dspex
from dspex_actors import GEPA, SIMBA, AdaptiveOptimizer, BootstrapFinetune, Example, MIPROv2, Predict, teleprompt
from dspex_actors.journal.sameness import differences
from dspex_actors.teleprompt.book import spec_of
from dspex_actors.teleprompt.made_of import told_as
from dspex_actors.teleprompt.optimizer import Optimizer, Options
from dspex_actors.teleprompt.starting import plan

STUDENT = Predict("question -> answer")
TRAIN = [Example(question=str(number), answer="b").with_inputs("question") for number in range(100)]
ONE, OTHER = dspex.LM("openai/one", api_key="env:A_KEY"), dspex.LM("openai/other", api_key="env:A_KEY")
SAME = dspex.LM("openai/one", api_key="env:ANOTHER_KEY", timeout=3)


def metric(example, prediction, trace=None):
    return True


def other_metric(example, prediction, trace=None):
    return bool(prediction)


class Selector:
    """Selects by a number of its own."""

    def __init__(self, number):
        self.number = number

    def __call__(self, *args, **kwargs):
        return [self.number]

    def select_candidate_idx(self, *args):
        return self.number

    def next_minibatch_ids(self, *args):
        return [self.number]


TEACHER = STUDENT.deepcopy()
TEACHER.demos = [Example(question="9", answer="9")]
#: Arguments that change what is found: two values of each, by name. None: only one's absence and presence.
CHANGES = {
    "prompt_model": (ONE, OTHER),
    "task_model": (ONE, OTHER),
    "reflection_lm": (ONE, OTHER),
    "teacher_settings": ({"lm": ONE}, {"lm": OTHER}),
    "metric": (metric, other_metric),
    "metric_threshold": (0.5, 0.6),
    "max_bootstrapped_demos": (2, 3),
    "max_labeled_demos": (2, 3),
    "max_rounds": (2, 3),
    "max_errors": (2, 3),
    "num_candidate_programs": (2, 3),
    "stop_at_score": (50, 60),
    "breadth": (2, 3),
    "depth": (2, 4),
    "init_temperature": (0.5, 0.6),
    "target_demos": (2, 3),
    "quality_threshold": (0.5, 0.6),
    "consensus_threshold": (0.5, 0.7),
    "voters": (1, 2),
    "chunk_size": (2, 4),
    "strategies": (["copro"], ["copro", "mipro"]),
    "settings": ({"copro": {"prompt_model": ONE}}, {"copro": {"prompt_model": OTHER}}),
    "auto": ("medium", "heavy"),
    "num_candidates": (2, 3),
    "seed": (1, 2),
    "trials_in_flight": (2, 3),
    "bsize": (2, 3),
    "max_steps": (2, 3),
    "max_demos": (2, 3),
    "demo_input_field_maxlen": (10, 20),
    "temperature_for_sampling": (0.5, 0.6),
    "temperature_for_candidates": (0.5, 0.6),
    "max_full_evals": (2, 3),
    "max_metric_calls": (20, 30),
    "reflection_minibatch_size": (2, 4),
    "candidate_selection_strategy": (Selector(1), Selector(2)),
    "component_selector": (Selector(1), Selector(2)),
    "instruction_proposer": (Selector(1), Selector(2)),
    "gepa_kwargs": ({"batch_sampler": Selector(1)}, {"batch_sampler": Selector(2)}),
    "skip_perfect_score": (True, False),
    "add_format_failure_as_feedback": (True, False),
    "use_merge": (True, False),
    "max_merge_invocations": (2, 3),
    "failure_score": (0.1, 0.2),
    "perfect_score": (2.0, 3.0),
    "k": (2, 3),
    "adapter": (dspex.ChatAdapter(), dspex.JSONAdapter()),
    "exclude_demos": (True, False),
    "multitask": (True, False),
    # of compile
    "sample": (True, False),
    "teacher": (STUDENT.deepcopy(), TEACHER),
    "valset": (TRAIN[:40], TRAIN[:50]),
    "restrict": ([0], [1]),
    "labeled_sample": (True, False),
    "num_trials": (2, 3),
    "minibatch": (True, False),
    "minibatch_size": (2, 3),
    "minibatch_full_eval_steps": (2, 3),
    "program_aware_proposer": (True, False),
    "data_aware_proposer": (True, False),
    "tip_aware_proposer": (True, False),
    "fewshot_aware_proposer": (True, False),
    "view_data_batch_size": (2, 3),
}
#: Arguments that do not: how fast, how much of it is shown or written where, how long at most.
DO_NOT = {
    "data_format": ("openai", "gemini"),
    "num_threads": (2, 3),
    "track_stats": (True, False),
    "verbose": (True, False),
    "log_dir": ("one", "another"),
    "teacher_pool": ((1, 2), (1, 3)),
    "use_wandb": (True, False),
    "wandb_api_key": ("one", "two"),
    "wandb_init_kwargs": ({"a": 1}, {"a": 2}),
    "use_mlflow": (True, False),
    "track_best_outputs": (False, False),
    "warn_on_score_mismatch": (True, False),
    "eval_kwargs": ({"num_threads": 1}, {"num_threads": 2}),
    "provide_traceback": (True, False),
}
#: What is None always, and what they are given elsewhere.
NOTHING = {
    (BootstrapFinetune, "train_kwargs"),
    (GEPA, "code_proposer"),
    (GEPA, "teacher"),
    (MIPROv2, "requires_permission_to_run"),
}
ELSEWHERE = frozenset({"self", "student", "trainset", "options", *Options.__annotations__})
#: What they need beside an argument.
NEEDED = {
    GEPA: ({"auto": "light"}, {}),
    SIMBA: ({"bsize": 4}, {}),
    MIPROv2: ({"auto": None, "num_candidates": 2}, {"num_trials": 4}),
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Have folders that are named be made in one of the test's own."""
    monkeypatch.chdir(tmp_path)


def optimizers():
    for module in pkgutil.walk_packages(teleprompt.__path__, f"{teleprompt.__name__}."):
        import_module(module.name)
    found, todo = [], [Optimizer]
    while todo:
        for cls in todo.pop().__subclasses__():
            todo.append(cls)
            makes_runs = "trainset" in inspect.signature(cls.compile).parameters
            if makes_runs and cls.__module__.startswith(f"{teleprompt.__name__}."):
                found.append(cls)
    return sorted(found, key=lambda cls: cls.__name__)


def _arguments(function):
    return {name: one for name, one in inspect.signature(function).parameters.items() if name not in ELSEWHERE}


def _arguments_of_compile():
    return [(cls, name) for cls in optimizers() for name in _arguments(cls.compile) if (cls, name) not in NOTHING]


def _arguments_of_classes():
    return [(cls, name) for cls in optimizers() for name in _arguments(cls) if (cls, name) not in NOTHING]


def made(cls, settings, arguments):
    """Return the run of an optimisation."""
    for_class, for_compile = NEEDED.get(cls, ({}, {}))
    budgets = {"auto", "max_full_evals", "max_metric_calls"}
    if cls is GEPA and budgets & set(settings):
        for_class = {}
    if "metric" in inspect.signature(cls).parameters:
        for_class = {"metric": metric, **for_class}
    if cls is MIPROv2 and settings.get("auto"):
        for_class, for_compile = {"metric": metric}, {}
    optimizer, given = cls(**{**for_class, **settings}), {**for_compile, **arguments}
    valset = given.pop("valset", None)
    if cls is AdaptiveOptimizer:  # what it chooses follows from what the journal has
        return spec_of(optimizer, STUDENT, TRAIN, None, "o", {}, valset=valset, arguments=given)
    return plan(optimizer, STUDENT, TRAIN, valset, None, "o", None, given).spec


def check(name, ask):
    """Check that an argument changes what an optimisation is, or does not, as its table says."""
    assert (name in CHANGES) != (name in DO_NOT), f"{name}: say whether it can change the result"
    one, other = [ask(value) for value in (CHANGES if name in CHANGES else DO_NOT)[name]]
    assert differences(one, ask(CHANGES.get(name, DO_NOT.get(name))[0])) == []  # it is the same for the same
    found = differences(one, other)
    assert bool(found) == (name in CHANGES), (name, found)
    assert "A_KEY" not in str(one.identity), "a key is nobody's identity"


@pytest.mark.parametrize(("cls", "name"), _arguments_of_classes(), ids=lambda one: getattr(one, "__name__", one))
def test_an_argument_of_an_optimiser_changes_what_its_optimisation_is_if_it_can_change_the_result(cls, name):
    check(name, lambda value: made(cls, {name: value}, {}))


@pytest.mark.parametrize(("cls", "name"), _arguments_of_compile(), ids=lambda one: getattr(one, "__name__", one))
def test_an_argument_of_compile_changes_what_its_optimisation_is_if_it_can_change_the_result(cls, name):
    check(name, lambda value: made(cls, {}, {name: value}))


def test_the_message_names_what_of_an_lm_is_another_one():
    one, other = (made(MIPROv2, {"prompt_model": lm}, {}) for lm in (ONE, OTHER))
    assert differences(one, other) == ["settings (prompt_model's model was 'openai/one' and is 'openai/other')"]
    assert differences(one, made(MIPROv2, {"prompt_model": SAME}, {})) == []  # neither key nor patience is a part
    warm = dspex.LM("openai/one", api_key="env:A_KEY", temperature=0.7)
    assert differences(one, made(MIPROv2, {"prompt_model": warm}, {}))


def test_settings_of_settings_that_say_how_it_is_done_are_no_part():
    one, other = (made(AdaptiveOptimizer, {"settings": {"mipro": {"num_threads": n}}}, {}) for n in (1, 2))
    assert differences(one, other) == []
    quiet, loud = ({"callbacks": callbacks} for callbacks in ([], [Selector(1)]))
    assert told_as("gepa_kwargs", quiet) == told_as("gepa_kwargs", loud) == {}


def test_what_is_set_on_an_optimiser_later_counts_and_programs_in_lists_are_told_by_what_they_are():
    optimizer = MIPROv2(metric, prompt_model=ONE, auto="light")
    before = plan(optimizer, STUDENT, TRAIN, None, None, "o", None, {}).spec
    optimizer.prompt_model = OTHER
    assert differences(before, plan(optimizer, STUDENT, TRAIN, None, None, "o", None, {}).spec)
    assert told_as("teacher", [STUDENT.deepcopy()]) == told_as("teacher", [STUDENT.deepcopy()])
    assert told_as("teacher", [STUDENT]) != told_as("teacher", [TEACHER])


def test_an_optimisation_of_before_with_nothing_but_plain_settings_is_the_same_still():
    """What journals hold: the settings that were told then, under their names."""
    told = made(MIPROv2, {}, {}).identity["settings"]
    assert "failure_score" not in made(GEPA, {}, {}).identity["settings"]
    assert {"auto", "prompt_model", "teacher_settings"}.isdisjoint(told)
    assert told["optimizer"] == "'MIPROv2'"
