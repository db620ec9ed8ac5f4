"""What may be given to the `gepa` package, checked here: it would look at it when the first evaluation is paid."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dspex_actors.foundation.checks import is_whole
from dspex_actors.foundation.config_errors import ConfigTypeError, ConfigValueError

#: What gepa has for these, by name.
SELECTIONS = ("pareto", "current_best", "epsilon_greedy", "top_k_pareto")
SELECTORS = ("round_robin", "all")
#: Arguments of `gepa.optimize` that are set here, and those that have no meaning here.
_OURS = (
    "seed_candidate", "trainset", "valset", "adapter", "task_lm", "evaluator", "reflection_lm", "reflection_lm_kwargs",
    "candidate_selection_strategy", "skip_perfect_score", "reflection_minibatch_size", "module_selector",
    "perfect_score", "use_merge", "max_merge_invocations", "max_metric_calls", "run_dir", "logger", "seed",
    "track_best_outputs", "display_progress_bar", "raise_on_exception", "use_wandb", "wandb_api_key",
    "wandb_init_kwargs", "use_mlflow",
)  # fmt: skip
_NONE = ("max_reflection_cost", "reflection_prompt_template", "reflection_strategy", "custom_candidate_proposer")


def check_selection(value: Any) -> None:
    """Refuse what cannot say which candidate is changed next.

    Raises:
        ConfigError: it is neither a name of gepa's nor an object with its method.
    """
    if not (value in SELECTIONS if isinstance(value, str) else _has(value, "select_candidate_idx")):
        raise ConfigValueError(
            f"candidate_selection_strategy is invalid: got {value!r:.100}, expected one of {', '.join(SELECTIONS)}, or "
            "an object with select_candidate_idx"
        )


def check_selector(value: Any) -> None:
    """Refuse what cannot say whose instruction is changed next.

    Raises:
        ConfigError: it is neither a name of gepa's nor a function.
    """
    if not (value in SELECTORS if isinstance(value, str) else _can_be_called(value)):
        raise ConfigValueError(
            f"component_selector is invalid: got {value!r:.100}, expected round_robin, all, or a function as gepa's"
        )


def checked_kwargs(given: Any) -> dict[str, Any]:
    """Return further arguments of `gepa.optimize`.

    Raises:
        ConfigError: it has no such argument, it is set by GEPA, or its value is of no use.
    """
    if given is not None and not isinstance(given, Mapping):
        raise ConfigTypeError(f"gepa_kwargs is invalid: got {given!r:.100}, expected a dict of arguments")
    if not given:
        return {}
    from gepa import api  # for those who have some

    there = inspect.signature(api.optimize).parameters
    for name, value in given.items():
        if name in _OURS:
            raise ConfigValueError(f"gepa_kwargs: {name} is an argument of GEPA itself, or set by it")
        if name in _NONE:
            raise ConfigValueError(f"gepa_kwargs: {name} has no meaning here; see instruction_proposer, budget")
        if name not in there:
            names = ", ".join(one for one in there if one not in (*_OURS, *_NONE))
            raise ConfigValueError(f"gepa_kwargs: gepa.optimize has no argument {name!r:.80}: there are {names}")
        is_good, expected = _VALUES.get(name, (_is_any, ""))
        if not is_good(value):
            raise ConfigValueError(f"gepa_kwargs: {name} is invalid: got {value!r:.100}, expected {expected}")
    return dict(given)


def _has(value: Any, method: str) -> bool:
    return not isinstance(value, type) and callable(getattr(value, method, None))


def _can_be_called(value: Any) -> bool:
    return callable(value) and not isinstance(value, type)


def _is_any(value: Any) -> bool:
    return True


def _is_one_of(*names: str | None, method: str = "") -> Callable[[Any], bool]:
    """Return whether a value is a name, or an object with a method."""
    return lambda value: value in names if isinstance(value, str | None) else bool(method) and _has(value, method)


def _are_functions(value: Any) -> bool:
    several = value if isinstance(value, Iterable) and not isinstance(value, str | Mapping) else [value]
    return value is None or all(map(_can_be_called, several))


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


_FLAG = (_is_flag, "True or False")
#: Arguments of `gepa.optimize` → what is legal, as a test and in words. Those of trackers are for these to judge.
_VALUES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "frontier_type": (
        _is_one_of("instance", "objective", "hybrid", "cartesian"),
        "instance, or with a metric that gives several scores by name objective, hybrid or cartesian",
    ),
    "batch_sampler": (
        _is_one_of("epoch_shuffled", method="next_minibatch_ids"),
        "epoch_shuffled, or an object with next_minibatch_ids",
    ),
    "merge_val_overlap_floor": (lambda value: is_whole(value, 1), "a whole number of at least 1"),
    "stop_callbacks": (_are_functions, "a function of gepa's state, or a list of such"),
    "callbacks": (
        lambda value: value is None or isinstance(value, list | tuple),
        "a list of objects with gepa's on_... methods",
    ),
    "val_evaluation_policy": (
        _is_one_of(None, "full_eval", method="get_eval_batch"),
        "full_eval, or an object with get_eval_batch",
    ),
    "acceptance_criterion": (
        _is_one_of("strict_improvement", "improvement_or_equal", method="should_accept"),
        "strict_improvement, improvement_or_equal, or an object with should_accept",
    ),
    "cache_evaluation": _FLAG,
    "use_cloudpickle": _FLAG,
    "wandb_attach_existing": _FLAG,
    "mlflow_attach_existing": _FLAG,
}
