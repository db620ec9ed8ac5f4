"""Opening datasets: from what a user gives, and from the descriptor of one that was opened before."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dspex_actors.data.content import check_content
from dspex_actors.data.dataset import Dataset, OnBadLine
from dspex_actors.data.files import FileDataset, open_file
from dspex_actors.data.memory import ListDataset, OnceDataset
from dspex_actors.data.spool import SpoolDataset
from dspex_actors.data.view import ViewDataset
from dspex_actors.errors import ConfigError


def open_dataset(
    source: Any,
    *,
    input_names: Sequence[str] | None = None,
    on_bad_line: OnBadLine = "stop",
    limit: int | None = None,
) -> Dataset:
    """Open a dataset and look at its first example.

    Args:
        source: a path (.jsonl, .ndjson, .json with an object per line, .csv; each also with .gz), a list, or
            any iterable of Examples or dicts.
        input_names: the program's inputs; the other fields are labels.
        on_bad_line: `stop` or `skip`.
        limit: only the first so many examples.

    Raises:
        ConfigError: there is no such file, it is of no known kind, it holds no example, or the first one is
            not usable.
    """
    settings: dict[str, Any] = {"input_names": input_names, "on_bad_line": on_bad_line, "limit": limit}
    if isinstance(source, Dataset):
        return source
    if isinstance(source, (str, os.PathLike)):
        return open_file(Path(source), **settings)
    if isinstance(source, Mapping) or not isinstance(source, Iterable):
        raise ConfigError(f"a dataset is a path, a list or an iterable of Examples; got {type(source).__name__}")
    dataset: ListDataset | OnceDataset
    if isinstance(source, Sequence):
        dataset = ListDataset(source, **settings)
        filled = bool(source)
    else:
        dataset = OnceDataset(source, **settings)
        filled = dataset.peek()
    if not filled:
        raise ConfigError("the dataset holds no examples")
    return dataset


def from_descriptor(descriptor: Mapping[str, Any], *, check: bool = True) -> Dataset:
    """Open the dataset that a `descriptor` stands for.

    Args:
        descriptor: the plain data.
        check: refuse it where its content is another one than when the descriptor was made; as long as the file was
            not touched, that costs no reading.

    Raises:
        ConfigError: its file is gone, no longer usable or edited, or it never was in a file.
    """
    kind, path, limit = descriptor.get("kind"), descriptor.get("path"), descriptor.get("limit")
    if path is None:
        raise ConfigError(f"a dataset of kind {kind!r} lives in the process that made it: spool it first")
    dataset: SpoolDataset | ViewDataset | FileDataset
    if kind == SpoolDataset.kind:
        dataset = SpoolDataset(path, limit=limit)
    elif kind == ViewDataset.kind:
        dataset = ViewDataset(path, **{name: descriptor[name] for name in ("digest", "of", "indices")})
    else:
        settings = {name: descriptor[name] for name in ("input_names", "on_bad_line") if name in descriptor}
        dataset = open_file(Path(path), limit=limit, **settings)
    if check:
        check_content(Path(path), descriptor, dataset.read_digest)
    return dataset
