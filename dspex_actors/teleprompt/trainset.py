"""The trainset of an optimiser: the examples themselves, in order."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from dspex_actors.client.inputs import dataset_inputs, input_names
from dspex_actors.data.opening import open_dataset
from dspex_actors.errors import ConfigError
from dspex_actors.example import Example


def read_trainset(source: Any, program: Any) -> list[Example]:
    """Return the examples of a trainset; all of them, because labelled demos are drawn from the whole.

    Args:
        source: Examples (kept as they are), dicts (get the program's inputs), or a path to JSONL or CSV.
        program: the program that they are for.

    Raises:
        ConfigError: it is none of these, or a file is not usable.
    """
    if isinstance(source, str | os.PathLike):
        source = open_dataset(source, input_names=dataset_inputs(source, program))
    if isinstance(source, Mapping) or not isinstance(source, Iterable):
        raise ConfigError(
            f"trainset: expected a list of Examples or a path to JSONL or CSV, got {type(source).__name__}"
        )
    return [_example(item, place, program) for place, item in enumerate(source)]


def _example(item: Any, place: int, program: Any) -> Example:
    if isinstance(item, Example):
        return item
    if not isinstance(item, Mapping):
        raise ConfigError(f"trainset[{place}]: expected an Example or a dict, got {type(item).__name__}")
    example, names = Example(item), input_names(program, item)
    return example if names is None else example.with_inputs(*names)
