"""The optimisers by name: what the command line and the configuration call them.

Another one is a line in `OPTIMIZERS`; its class is imported when it is asked for.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple

from dspex_actors.errors import ConfigError
from dspex_actors.teleprompt.optimizer import Optimizer, Options


class Entry(NamedTuple):
    """An optimiser.

    Args:
        place: of its class, as `module:class`, the module within `dspex_actors.teleprompt`.
        what: one line for people.
        budgets: settings of which it needs one; where none is given, the first of them is "light".
    """

    place: str
    what: str
    budgets: tuple[str, ...] = ()


#: Their names are those of the tables under `optimisation` in the configuration, where there is one.
OPTIMIZERS = {
    "labeled": Entry("labeled:LabeledFewShot", "examples as they are become demos"),
    "bootstrap": Entry("bootstrap:BootstrapFewShot", "what a teacher answered well becomes demos"),
    "random_search": Entry("random_search:BootstrapFewShotWithRandomSearch", "many bootstraps, compared"),
    "distributed_bootstrap": Entry(
        "distributed_bootstrap:DistributedBootstrap", "demos from all parts of a large trainset, ranked and voted on"
    ),
    "knn": Entry("knn_few_shot:KNNFewShot", "demos chosen for each call, from the nearest examples"),
    "finetune": Entry(
        "finetune.optimizer:BootstrapFinetune", "what a teacher answered well becomes data to fine-tune an LM with"
    ),
    "copro": Entry("copro:COPRO", "an LM proposes instructions, in the light of how earlier ones scored"),
    "simba": Entry("simba.optimizer:SIMBA", "what a program did well and badly becomes demos and rules"),
    "adaptive": Entry(
        "adaptive_optimizer:AdaptiveOptimizer",
        "the optimiser that suits the program, its data and what was tried before",
    ),
    "gepa": Entry(
        "gepa.optimizer:GEPA",
        "instructions that an LM proposes from single examples and feedback",
        ("auto", "max_full_evals", "max_metric_calls"),
    ),
    "mipro": Entry("mipro.optimizer:MIPROv2", "instructions that an LM proposes, and sets of demos, combined"),
}


def optimizer_class(name: str) -> type[Optimizer]:
    """Return the class of an optimiser.

    Args:
        name: one of `OPTIMIZERS`; "-" counts as "_", and so does its class's own name.

    Raises:
        ConfigError: there is none of this name.
    """
    asked = str(name).strip().replace("-", "_").lower()
    for known, entry in OPTIMIZERS.items():
        module, _, called = entry.place.partition(":")
        if asked in (known, called.lower()):
            return getattr(import_module(f"dspex_actors.teleprompt.{module}"), called)  # type: ignore[no-any-return]
    raise ConfigError(f"optimizer is invalid: got {str(name)!r:.80}, expected one of {', '.join(OPTIMIZERS)}")


def name_of(called: str) -> str | None:
    """Return the name of an optimiser by that of its class; None: it is none of these."""
    return next((name for name, entry in OPTIMIZERS.items() if entry.place.endswith(f":{called}")), None)


def make_optimizer(
    name: str,
    metric: Callable[..., Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    configured: Mapping[str, Any] | None = None,
) -> Optimizer:
    """Return an optimiser by name.

    Args:
        name: one of `OPTIMIZERS`.
        metric: given to those that take one.
        settings: arguments of its class.
        configured: what the configuration says of `optimisation`, as nested dicts; its table of this name goes before
            the class's defaults, as far as the class has such an argument.

    Raises:
        ConfigError: there is none of this name, it has no such setting, or needs what a name cannot give.
    """
    kind = optimizer_class(name)
    there = inspect.signature(kind).parameters
    open_ended = any(one.kind is one.VAR_KEYWORD for one in there.values())
    unknown = [] if open_ended else sorted(set(settings or {}) - set(there))
    if unknown:
        names = ", ".join([*there, *_of_compile(kind)])
        raise ConfigError(f"{kind.__name__} has no setting {unknown[0]}: there are {names}")
    known = _known_as(kind)
    table = {key: value for key, value in ((configured or {}).get(known) or {}).items() if key in there}
    given = {**table, **(settings or {})}
    if metric is not None and ("metric" in there or open_ended):
        given["metric"] = metric
    if (budgets := OPTIMIZERS[known].budgets) and not any(given.get(name) for name in budgets):
        given[budgets[0]] = "light"
    lacking = [key for key in needed(kind) if key not in given]
    if lacking == ["metric"]:
        raise ConfigError(f"metric: {kind.__name__} compares programs by it: give it one")
    if lacking:
        raise ConfigError(f"{kind.__name__} needs {' and '.join(lacking)}: make it in Python, and call its compile")
    return kind(**given)


def needed(kind: type[Optimizer]) -> list[str]:
    """Return the arguments without which an optimiser cannot be made."""
    return [
        name
        for name, one in inspect.signature(kind).parameters.items()
        if one.default is one.empty and one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)
    ]


def split_settings(
    name: str, settings: Mapping[str, Any], configured: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return settings as those of an optimiser's class, and those that only its `compile` takes.

    Args:
        name: one of `OPTIMIZERS`.
        settings: by name, of either.
        configured: what the configuration says of `optimisation`, as nested dicts: it goes before the defaults of
            `compile`.

    Raises:
        ConfigError: there is no such optimiser.
    """
    kind = optimizer_class(name)
    own = _of_compile(kind)
    table = (configured or {}).get(_known_as(kind)) or {}
    of_compile = {key: value for key, value in {**table, **settings}.items() if key in own}
    return {key: value for key, value in settings.items() if key not in own}, of_compile


def _of_compile(kind: type[Optimizer]) -> list[str]:
    """Return the plain arguments that an optimiser's `compile` has and its class has not."""
    others = {"self", "student", "trainset", "valset", "teacher", "max_in_flight", *Options.__annotations__}
    class_has = inspect.signature(kind).parameters
    parameters = inspect.signature(kind.compile).parameters.values()
    return [
        one.name
        for one in parameters
        if one.name not in others and one.name not in class_has and one.kind is one.KEYWORD_ONLY
    ]


def _known_as(kind: type[Optimizer]) -> str:
    return next(key for key, entry in OPTIMIZERS.items() if entry.place.endswith(f":{kind.__name__}"))
