"""What an optimiser is made of, and what its `compile` is given, as the identity of its optimisation has it. Pure.

Whatever can change what is found is a part of it: plain settings, LMs (by what changes their answers, as of a run),
programs, functions and objects, also inside of lists and mappings.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from dspex_actors.lm.lm import LM
from dspex_actors.programs.module import Module
from dspex_actors.runs.identity import parts
from dspex_actors.runs.identity.canon import lm_parts
from dspex_actors.runs.identity.parts import program_identity

#: Settings that say how an optimisation is done, shown or limited, and not what it is: it goes on with others, too.
HOW = frozenset(
    {
        "callbacks", "data_format", "display_progress", "display_table", "eval_kwargs", "log_dir", "max_in_flight",
        "mlflow_attach_existing", "num_threads", "provide_traceback", "stop_callbacks", "teacher_pool",
        "track_best_outputs", "track_stats", "use_cloudpickle", "use_mlflow", "use_wandb", "verbose", "wandb_api_key",
        "wandb_attach_existing", "wandb_init_kwargs", "warn_on_score_mismatch",
    }
)  # fmt: skip

#: What is told as it is, where settings are shown.
PLAIN = (bool, int, float, str, type(None))


def settings_of(optimizer: Any) -> dict[str, Any]:
    """Return what of an optimiser changes what it finds, by name; the metric is told elsewhere.

    Args:
        optimizer: an `Optimizer`. An argument that is kept as an attribute is told as that is now. One that is as it
            would be without being said is left out, unless it is a plain attribute.
    """
    told = {name: value for name, value in optimizer.settings().items() if name not in HOW | parts.HOW}
    for name, value in _made_with(optimizer).items():
        if name not in told and name not in HOW and name != "metric":
            told |= told_as(name, value)
    return told


def told_as(name: str, value: Any) -> dict[str, Any]:
    """Return what a setting is by names of its own: an LM's settings and a mapping's members are told apart."""
    if isinstance(value, LM):
        return {f"{name}'s {key}": one for key, one in lm_parts(value).items()}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        members = [told_as(f"{name}.{key}", one) for key, one in value.items() if key not in HOW]
        return {key: one for member in members for key, one in member.items()}
    return {name: _value(value)}


def _made_with(optimizer: Any) -> dict[str, Any]:
    """Return the arguments that an optimiser was made with, and that are not what they are without being said."""
    args, kwargs = vars(optimizer)["_made_with"]
    signature = inspect.signature(type(optimizer))
    bound = signature.bind_partial(*args, **kwargs)
    bound.apply_defaults()
    found: dict[str, Any] = {}
    for name, one in signature.parameters.items():
        value = vars(optimizer).get(name, bound.arguments.get(name))
        if one.kind is one.VAR_KEYWORD:
            found |= bound.arguments.get(name, {})
        elif not is_as_unsaid(value, one.default):
            found[name] = value
    return found


def is_as_unsaid(value: Any, default: Any) -> bool:
    """Whether an argument is what it would be if it had not been said."""
    return value is default or (
        type(value) is type(default) and isinstance(value, int | float | str) and value == default
    )


def _value(value: Any) -> Any:
    """Return a value with digests in the place of programs, as a teacher: their text knows its place in memory."""
    if isinstance(value, Module):
        return program_identity(value).digest
    if isinstance(value, list | tuple):
        return [_value(one) for one in value]
    if isinstance(value, Mapping):
        return {key: _value(one) for key, one in value.items()}
    return value
