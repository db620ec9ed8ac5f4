"""`dspex.optimize`: a better program, of ours or of DSPy's, by any of our optimisers.

better = dspex.optimize(program, trainset, metric, optimizer="mipro", budget=5.0, run_id="tonight")
better.save("better.json")
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from dspex_actors.client.system import current_system
from dspex_actors.dspy.student import as_student, asked, default_lm, examples_of, handed_back, is_theirs
from dspex_actors.errors import ConfigError
from dspex_actors.settings import context, settings
from dspex_actors.teleprompt.optimizer import Optimizer, Options
from dspex_actors.teleprompt.registry import make_optimizer, name_of, needed, optimizer_class
from dspex_actors.teleprompt.taken import check_as_it_runs, check_metric_taken, check_valset_taken, takes_metric
from dspex_actors.teleprompt.trainset import check_student, read_trainset

#: What arguments of `compile` are that `optimize` has itself.
_OWN = frozenset({"self", "student", "trainset", "valset", "budget"})
#: Settings that promise something of runs; the other `Options` say only how they are done.
_OF_RUNS = frozenset({"run_id"})


def optimize(
    program: Any,
    trainset: Any,
    metric: Any = None,
    optimizer: str | Optimizer = "adaptive",
    valset: Any = None,
    budget: float | Mapping[str, float] | None = None,
    *,
    lm: Any = None,
    **settings: Any,
) -> Any:
    """Return a better program; the program itself stays as it is.

    It is the optimiser's `compile`: its evaluations are runs of the node, by all workers, paced, kept in the journal;
    with `run_id` a killed one goes on, and what is paid for is not asked again.

    A program of DSPy's is optimised as it is. Instructions and demos are chosen for its own predictors, its own code
    and adapters run on the workers, and what comes back is a `dspy.Module` with them set, which DSPy's `save` saves.

    Args:
        program: a `dspex.Module`, or a `dspy.Module` (then DSPy has to be installed on each host).
        trainset: Examples with their inputs marked, DSPy's too, or a path to JSONL or CSV. None for a
            `dspex.KNNFewShot(...)`, which is made with its own.
        metric: `metric(example, prediction, trace=None)`; None: the optimiser has one, or needs none.
        optimizer: one of `dspex.teleprompt.registry.OPTIMIZERS` (labeled, bootstrap, random_search, copro, mipro, gepa,
            simba, distributed_bootstrap, finetune, knn, adaptive), or a `dspex.COPRO(...)` and the like. Those that
            choose as the program runs (knn) take programs of ours only.
        valset: what candidates are scored on, for optimisers that take one; None: the trainset.
        budget: as of `Options`.
        lm: for predictors that have none of their own, as of `evaluate`; None: the one in the settings, else the
            connection's, else, for a program of DSPy's, the one that `dspy.configure` has set.
        **settings: of the optimiser's class, of its `compile` (`teacher`), and those of `Options` (`run_id`,
            `max_in_flight`, `display_progress`, `system`, `tags` ...). LMs and programs among them may be DSPy's.

    Raises:
        ConfigError: something is not usable; before anything is paid.
        RunFailed, RunInterrupted, BudgetExceeded: as of `Optimizer.carry`.
    """
    student = as_student(program)
    check_student(student, "program")
    kind = _kind(optimizer)
    check_metric_taken(kind, metric, optimizer)
    check_valset_taken(kind, valset)
    given = {name: _ours(value) for name, value in settings.items()}
    if "trainset" not in inspect.signature(kind.compile).parameters:
        check_as_it_runs(kind, student)
        limits = {"budget": budget, **{name: value for name, value in given.items() if name in _OF_RUNS}}
        return _as_it_runs(kind, optimizer, student, examples_of(trainset), metric, given, limits)
    made, options = _made(kind, optimizer, metric, given)
    if valset is not None:
        options["valset"] = examples_of(valset)
    if budget is not None:
        options["budget"] = budget
    chosen = _lm(asked(lm), options.get("system"), theirs=is_theirs(program))
    with context(**({} if chosen is None else {"lm": chosen})):
        found = made.compile(student, trainset=examples_of(trainset), **options)
    return handed_back(found, program) if is_theirs(program) else found


def _kind(optimizer: Any) -> type[Optimizer]:
    """Return the class of an optimiser, or of the one of a name.

    Raises:
        ConfigError: it is none.
    """
    if isinstance(optimizer, str):
        return optimizer_class(optimizer)
    if isinstance(optimizer, Optimizer):
        return type(optimizer)
    named = isinstance(optimizer, type) and issubclass(optimizer, Optimizer)
    hint = f"{optimizer.__name__}(...), made" if named else "one such as dspex.MIPROv2(metric=...)"
    raise ConfigError(f"optimizer is invalid: got {optimizer!r:.80}, expected a name, such as 'mipro', or {hint}")


def _made(
    kind: type[Optimizer], optimizer: Any, metric: Any, given: Mapping[str, Any]
) -> tuple[Optimizer, dict[str, Any]]:
    """Return the optimiser, and what is left for its `compile`.

    Raises:
        ConfigError: it has no such setting.
    """
    known = (set(inspect.signature(kind.compile).parameters) | set(Options.__annotations__)) - _OWN - {"options"}
    options = {name: value for name, value in given.items() if name in known}
    of_class = {name: value for name, value in given.items() if name not in known}
    if isinstance(optimizer, str):
        return make_optimizer(optimizer, metric, of_class), options
    if metric is not None and takes_metric(kind):
        of_class["metric"] = metric
    return (optimizer.configure(**of_class) if of_class else optimizer), options


def _as_it_runs(
    kind: type[Optimizer],
    optimizer: Any,
    student: Any,
    trainset: Any,
    metric: Any,
    given: dict[str, Any],
    limits: Mapping[str, Any],
) -> Any:
    """Return a program that chooses as it runs: the optimiser is made with the trainset, and there are no runs.

    Raises:
        ConfigError: a setting of runs is given, it has another trainset, or cannot be made.
    """
    for name, value in limits.items():
        if value is not None:
            raise ConfigError(
                f"{name}: {kind.__name__} makes no runs, so expected none, got {value!r:.60}: leave it out"
            )
    examples = None if trainset is None else read_trainset(trainset, student)
    if isinstance(optimizer, str):
        lacking = [name for name in needed(kind) if name not in given and name != "trainset"]
        if lacking:
            said = ", ".join(f"{name}=..." for name in lacking)
            raise ConfigError(f"{kind.__name__} needs {' and '.join(lacking)}: give dspex.optimize {said}")
        if not examples:
            raise ConfigError("trainset: expected at least one example, got none")
        given = {**given, "trainset": examples}
    elif examples is not None and examples != optimizer.made_with("trainset"):
        raise ConfigError(
            f"trainset: {kind.__name__} is made with its own, so expected None or the same, got another one: make it "
            f"with this one, or give its name, {(name_of(kind.__name__) or kind.__name__)!r}, and its settings"
        )
    made, options = _made(kind, optimizer, metric, given)
    taken = inspect.signature(kind.compile).parameters
    return made.compile(student, **{name: value for name, value in options.items() if name in taken})


def _ours(value: Any) -> Any:
    """Return what stands here for a setting of DSPy's kind: a program, an LM, or a dict with one in it."""
    if isinstance(value, Mapping):
        return {name: _ours(one) for name, one in value.items()}
    return as_student(asked(value))


def _lm(given: Any, system: Any, *, theirs: bool) -> Any:
    """Return who is asked where predictors do not say; None: the settings, or the connection, say so."""
    if given is not None or not theirs or settings.lm is not None:
        return given
    try:
        connected = system or current_system()
    except ConfigError:
        return default_lm()  # what has to be connected says so itself
    return None if connected.lm is not None else default_lm()
