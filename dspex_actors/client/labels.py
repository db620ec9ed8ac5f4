"""A look at the first example before a run is paid for: inputs that it lacks, labels that no output can equal."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from dspex_actors.adapters.labels import read_label
from dspex_actors.adapters.types import type_name
from dspex_actors.client.inputs import input_names, stands_for
from dspex_actors.data.opening import open_dataset
from dspex_actors.errors import ConfigError
from dspex_actors.example import Example
from dspex_actors.metrics import FieldMetric
from dspex_actors.programs.inputs import missing_in
from dspex_actors.programs.module import Module

_log = logging.getLogger(__name__)


def check_labels(program: Any, devset: Any, metric: Any) -> None:
    """Warn of a label that cannot be read as its output field's type: the example would count as wrong.

    Args:
        program: its fields have types; of one that does not tell nothing is checked.
        devset: a list or a file; an iterator is not touched.
        metric: of `dspex.metrics`; any other one may compare as it likes.
    """
    if not isinstance(metric, FieldMetric):
        return
    signature = getattr(program, "signature", None)
    if signature is None and hasattr(program, "predictors") and (predictors := program.predictors()):
        signature = predictors[-1].signature
    fields = getattr(signature, "output_fields", {})
    first = _first(devset)
    for name in metric.fields:
        label = first.get(name)
        if name not in fields or label is None:
            continue
        annotation = fields[name].annotation
        if not any(_can_be_read(each, annotation) for each in [label, *(label if isinstance(label, list) else ())]):
            _log.warning(
                "label %s of the first example cannot be read as %s, the type of the output: got %.100r; "
                "an example with such a label counts as wrong",
                name,
                type_name(annotation),
                label,
            )


def check_given(program: Any, devset: Any) -> None:
    """Warn where the first example has not what the program asks with: each prompt would go without.

    Args:
        program: one whose inputs are those of its signature; code of the user's says itself what it lacks.
        devset: a list of Examples; dicts and files are read by the program's inputs.
    """
    first = devset[0] if isinstance(devset, list | tuple) and devset else None
    if not isinstance(first, Example) or first._input_keys is None:
        return
    given = list(first.inputs().keys())
    if missing := missing_in(_fields_of(stands_for(program)), given):
        _log.warning(
            "the first example lacks %s, an input of the program; its own are %s: name them alike, and mark them by "
            "with_inputs(...)",
            ", ".join(missing),
            ", ".join(map(str, given)) or "none",
        )


def _fields_of(program: Any) -> Mapping[str, Any]:
    """Return the input fields of a program that is given just these; of any other one none."""
    predictors = program.predictors() if isinstance(program, Module) else []
    for one in (program, *predictors[:1]):
        fields: Mapping[str, Any] = getattr(getattr(one, "signature", None), "input_fields", {})
        if fields and list(fields) == input_names(program):
            return fields
    return {}


def _can_be_read(label: Any, annotation: Any) -> bool:
    try:
        read_label(label, annotation)
    except Exception:  # a validator of the user's may raise anything
        return False
    return True


def _first(devset: Any) -> Mapping[str, Any]:
    try:
        if isinstance(devset, list | tuple):
            found = devset[0]
        elif isinstance(devset, str | os.PathLike):
            found = next(iter(open_dataset(devset, on_bad_line="skip")))
        else:
            return {}
    except (ConfigError, IndexError, StopIteration, OSError):
        return {}  # told by who opens it for good
    return found if isinstance(found, Mapping) or hasattr(found, "get") else {}
