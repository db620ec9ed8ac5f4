"""What optimisers change of a program, as plain values: to be looked at, kept, and put back."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from dspex_actors.example import Example
from dspex_actors.foundation.config_errors import ConfigKeyError, ConfigTypeError, ConfigValueError
from dspex_actors.programs.walk import Predictor

#: What a predictor has: name → what a value of it is.
KINDS: dict[str, tuple[type, ...]] = {"instructions": (str,), "demos": (list, tuple), "config": (Mapping,)}


def parameters_of(named: list[tuple[str, Predictor]]) -> dict[str, dict[str, Any]]:
    """Return path → `instructions`, `demos`, `config`; copies, but for the demos themselves."""
    return {
        path: {
            "instructions": predictor.signature.instructions,
            "demos": list(predictor.demos),
            "config": copy.deepcopy(predictor.config),
        }
        for path, predictor in named
    }


def update_parameters(named: list[tuple[str, Predictor]], values: Mapping[str, Any]) -> None:
    """Take over what `parameters_of` returned, or some of it; all or nothing.

    Raises:
        ConfigError: there is no such predictor or parameter, or a value of another kind.
    """
    predictors = dict(named)
    if not isinstance(values, Mapping):
        raise ConfigTypeError(f"parameters are invalid: got {values!r:.80}, expected a dict by predictor path")
    for path, part in values.items():
        if path not in predictors:
            raise ConfigKeyError(f"there is no predictor {path!r}; there are {', '.join(predictors) or 'none'}")
        if not isinstance(part, Mapping):
            raise ConfigTypeError(f"parameters of {path} are invalid: got {part!r:.80}, expected a dict")
        for name, value in part.items():
            if name not in KINDS:
                raise ConfigKeyError(f"{path} has no parameter {name!r}; it has {', '.join(KINDS)}")
            if not isinstance(value, KINDS[name]):
                expected = {"instructions": "a text", "demos": "a list", "config": "a dict"}[name]
                raise ConfigValueError(f"{name} of {path} is invalid: got {value!r:.80}, expected {expected}")
            demos: Any = value if name == "demos" else ()
            if wrong := [demo for demo in demos if not isinstance(demo, Mapping | Example)]:
                raise ConfigValueError(
                    f"demos of {path} is invalid: got {wrong[0]!r:.80} in it, expected Examples or dicts of fields"
                )
    for path, part in values.items():
        predictor = predictors[path]
        if "instructions" in part:
            predictor.signature = predictor.signature.with_instructions(part["instructions"])
        if "demos" in part:
            predictor.demos = list(part["demos"])
        if "config" in part:
            predictor.config = dict(part["config"])
