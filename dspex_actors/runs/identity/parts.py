"""The parts of a run, each with what it is made of: name → short text, so that a mismatch can be named."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dspex_actors.foundation.secrets import scrub
from dspex_actors.lm.lm import LM
from dspex_actors.programs.module import Module
from dspex_actors.programs.walk import Part
from dspex_actors.runs.identity.canon import NOTES, Canon, attributes_of, digest, lm_parts
from dspex_actors.runs.identity.source import is_own, source_of

#: Digests made another way are not compared; one more whenever the way changes.
WAY = "1"
#: A shorter value is kept as it is, so that a mismatch can say what it was; a key is longer.
SHOWN = 24
#: Settings that say how a run is done and not what it is, and what travels packed: it is told by what it was made of.
HOW = frozenset(
    {
        "batch",
        "budget",
        "context",
        "deadline",
        "failure_score",
        "failures",
        "hedge",
        "least_in_flight",
        "max_attempts",
        "max_failures",
        "max_in_flight",
        "nodes",
        "requires",
        "sample",
        "spare",
        "strategy",
        "trace",
        "unknown_price",
        "whole_budget",
        "whole_calls",
    }
)
#: What settings are that nobody has set.
_UNSET = frozenset({"None", "{}"})
#: What of a predictor has a name of its own among the parts.
_PREDICTOR = frozenset({"signature", "demos", "config", "lm"})


@dataclass(frozen=True, slots=True)
class Identity:
    """What something is.

    Args:
        parts: what it is made of: name → short text (a plain value as it is, else a digest after `#`).
    """

    parts: dict[str, str]

    @property
    def digest(self) -> str:
        """One digest of all parts."""
        return digest("\n".join(f"{name}: {self.parts[name]}" for name in sorted(self.parts)))


def metric_name(metric: Any) -> str:
    """Return what people call a metric."""
    return getattr(metric, "__name__", None) or type(metric).__name__


def run_identity(
    program: Any, metric: Any, lm: Any, options: Mapping[str, Any], *, how: frozenset[str] = HOW
) -> dict[str, Any]:
    """Return the identity of a run as the fields of its `RunSpec`.

    Args:
        program: a Module, or any callable program.
        metric: a callable.
        lm: the LM of predictors that have none of their own; None: there is none.
        options: the settings.
        how: names of those that only say how it is done; they are left out.
    """
    found = {
        "program": program_identity(program),
        "metric": metric_identity(metric),
        "LM": lm_identity(lm),
        "settings": options_identity(options, how),
    }
    return {
        "program_digest": found["program"].digest,
        "metric_digest": found["metric"].digest,
        "lm_digest": found["LM"].digest,
        "options_digest": found["settings"].digest,
        "identity": {"way": {"version": WAY}, **{name: one.parts for name, one in found.items()}},
    }


def program_identity(program: Any) -> Identity:
    """Return what a program is.

    For a Module: its classes (source, the bases' too, and what they read), the attributes of the program and of those
    in it, and of each predictor signature, demos, config and LM. For any other callable: as a metric.
    """
    if not isinstance(program, Module):
        return metric_identity(program)
    canon = Canon()
    found: dict[str, str] = {}
    for path, module in program.named_sub_modules():
        place = path.removeprefix("self").removeprefix(".")
        cls = type(module)
        if place == "" or is_own(cls):
            found[f"class {cls.__name__}"] = f"#{digest(canon.text(cls))}"
        for name, value in (attributes_of(module) or {}).items():
            if name in _PREDICTOR and module.is_predictor:
                continue
            if not _is_program(value):
                found[f"attribute {place}{'.' if place else ''}{name}"] = _shown(canon, value)
    for path, predictor in program.named_predictors():
        of = "" if path == "self" else f" of {path}"
        found[f"signature{of}"] = f"#{digest(canon.signature(predictor.signature))}"
        found[f"instructions{of}"] = _shown(canon, predictor.signature.instructions)
        found[f"demos{of}"] = _shown(canon, [dict(demo) for demo in predictor.demos])
        for name, value in predictor.config.items():
            found[f"config {name}{of}"] = _shown(canon, value)
        if predictor.lm is not None:
            found |= {f"LM's {name}{of}": text for name, text in lm_identity(predictor.lm).parts.items()}
    return Identity(found)


def metric_identity(metric: Any) -> Identity:
    """Return what a metric is: source, and all that it reads; a partial's arguments, an object's attributes."""
    return Identity(_callable_parts(Canon(), metric))


def lm_identity(lm: Any) -> Identity:
    """Return what of an LM changes its answers; of one of the user's own its class and attributes."""
    canon = Canon()
    if lm is None:
        return Identity({})
    if isinstance(lm, LM):
        return Identity({name: _shown(canon, value) for name, value in lm_parts(lm).items()})
    return Identity(_callable_parts(canon, lm))


def options_identity(options: Mapping[str, Any], how: frozenset[str] = HOW) -> Identity:
    """Return what settings are, one by one; those that are not set are none of them."""
    canon = Canon()
    told = {name: _shown(canon, value) for name, value in options.items() if name not in how}
    return Identity({name: text for name, text in told.items() if text not in _UNSET})


def data_identity(data: Mapping[str, Any]) -> Identity:
    """Return what a mapping holds, value by value."""
    canon = Canon()
    return Identity({name: _shown(canon, value) for name, value in data.items()})


def steps_identity(steps: Mapping[str, tuple[Any, Any]]) -> Identity:
    """Return what the steps of a workflow are: what each does, and instead; and their order.

    Args:
        steps: path → its function or program, and its fallback or None; in their order.
    """
    found = {"order": ", ".join(steps)}
    for path, (function, fallback) in steps.items():
        found[f"step {path}"] = f"#{program_identity(function).digest}"
        if fallback is not None:
            found[f"fallback of {path}"] = f"#{program_identity(fallback).digest}"
    return Identity(found)


def dataset_parts(descriptor: Mapping[str, Any], count: int | None) -> dict[str, str]:
    """Return what is kept of a dataset for people: its content is compared by its digest."""
    found = {"number of bytes": descriptor.get("bytes"), "number of examples": count}
    return {name: f"{value:,}" for name, value in found.items() if value is not None}


def _callable_parts(canon: Canon, value: Any) -> dict[str, str]:
    if isinstance(value, types.FunctionType):
        if not is_own(value):
            return {"function": _shown(canon, value)}
        read = {name: _shown(canon, one) for name, one in canon.read_by(value).items()}
        return {"name": value.__name__, "source": f"#{digest(source_of(value))}", **read}
    if isinstance(value, types.MethodType):
        return _callable_parts(canon, value.__func__) | _object_parts(canon, value.__self__)
    if hasattr(value, "func") and hasattr(value, "keywords"):  # a partial
        given = {f"argument {place}": _shown(canon, one) for place, one in enumerate(value.args)}
        given |= {f"argument {name!r}": _shown(canon, one) for name, one in value.keywords.items()}
        return _callable_parts(canon, value.func) | given
    return _object_parts(canon, value)


def _object_parts(canon: Canon, value: Any) -> dict[str, str]:
    attributes = None if isinstance(value, type) else attributes_of(value)
    if attributes is None or isinstance(value, types.BuiltinFunctionType):
        return {"object": f"#{digest(canon.text(value))}"}
    held = {f"attribute {name!r}": _shown(canon, one) for name, one in attributes.items() if name not in NOTES}
    return {"class": f"#{digest(canon.text(type(value)))}", **held}


def _is_program(value: Any) -> bool:
    """Whether something is a program, or a collection of nothing else: those are told apart."""
    if isinstance(value, Part):
        return True
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return bool(members) and all(map(_is_program, members))


def _shown(canon: Canon, value: Any) -> str:
    text = canon.text(value)
    plain = value is None or type(value) in (bool, int, float, str)
    return text if plain and len(text) <= SHOWN and scrub(text) == text else f"#{digest(text)}"
