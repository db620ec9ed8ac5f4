"""Datasets: examples one at a time from a file, a list, a generator or a spool; never loaded whole.

A dataset has a `descriptor` (plain data, from which `from_descriptor` opens it again anywhere on the host), a
`digest` (identity of its content), a `count`, and can be read from any index. What cannot be read twice says
so with `needs_spool`; `foundation.spool` makes a file of it.

The digest of a file is the SHA-256 of its bytes (1 GB takes about a second), not its size and time: a copied
or touched file is the same dataset, and an edited one never is. A limit is part of it; `on_bad_line` is not,
as the examples before the first bad line have the same index either way.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

from dspex_actors.data.fields import pack_example, split, unpack_example
from dspex_actors.data.spool import SpoolReader
from dspex_actors.errors import ConfigError

OnBadLine = Literal["stop", "skip"]
_LISTED = 20


@dataclass(slots=True)
class Skipped:
    """Rows that were left out: how many, and where and why for the first 20."""

    count: int = 0
    first: list[tuple[int, str]] = field(default_factory=list)
    _highest: int = 0

    def note(self, line: int, why: str) -> None:
        """Count a row, once however often the file is read."""
        if line > self._highest:
            self._highest = line
            self.count += 1
            if len(self.first) < _LISTED:
                self.first.append((line, why))


class Dataset(ABC):
    """Examples in a fixed order, each with its index from 0.

    Args:
        input_names: the fields that the program takes; the rest are labels. None: each Example's own.
        on_bad_line: `stop` raises at a row that is not usable, `skip` leaves it out and notes it in
            `skipped`.
        limit: only the first so many examples.
    """

    needs_spool = False

    def __init__(
        self,
        input_names: Sequence[str] | None = None,
        on_bad_line: OnBadLine = "stop",
        limit: int | None = None,
    ) -> None:
        """Check the settings that all datasets have."""
        if on_bad_line not in ("stop", "skip"):
            raise ConfigError(f"on_bad_line is 'stop' or 'skip'; got {on_bad_line!r}")
        if limit is not None and limit < 1:
            raise ConfigError(f"limit is a number of examples, 1 or more; got {limit}")
        self.input_names = None if input_names is None else tuple(input_names)
        self.on_bad_line: OnBadLine = on_bad_line
        self.limit = limit
        self.skipped = Skipped()

    @property
    @abstractmethod
    def descriptor(self) -> dict[str, Any]:
        """Return the plain data that opens this dataset again."""

    @property
    @abstractmethod
    def digest(self) -> str | None:
        """Return the identity of the content; None where only reading would tell."""

    @abstractmethod
    def count(self) -> int | None:
        """Return the number of examples, reading through the file if need be; None where it is unknown."""

    @abstractmethod
    def _rows(self, start: int) -> Iterator[Any]:
        """Give the usable rows from index `start` on, whatever the limit."""

    def iter_from(self, start: int) -> Iterator[Any]:
        """Give examples from index `start` on, one at a time, passing cheaply over those before."""
        if self.limit is None:
            return self._rows(start)
        return islice(self._rows(start), max(0, self.limit - start))

    def iter_packed(self, start: int = 0) -> Iterator[bytes]:
        """Give examples from index `start` on in the form that workers, spool and journal take."""
        return (pack_example(item, self.input_names) for item in self.iter_from(start))

    def __iter__(self) -> Iterator[Any]:
        """Give the examples, one at a time."""
        return self.iter_from(0)

    def _cut(self, count: int) -> int:
        return count if self.limit is None else min(count, self.limit)

    def _bad(self, line: int, why: str, where: str) -> None:
        if self.on_bad_line == "stop":
            raise ConfigError(f"{where} {line:,}: {why}; fix it, or pass --skip-bad-lines")
        self.skipped.note(line, why)


class ListDataset(Dataset):
    """Examples in a sequence of this process."""

    needs_spool = True

    def __init__(self, items: Sequence[Any], **settings: Any) -> None:
        """Keep a reference to the sequence."""
        super().__init__(**settings)
        self._items = items

    @property
    def descriptor(self) -> dict[str, Any]:
        """Return that it is a list: it has to be spooled before another process can open it."""
        return {"kind": "list", "count": self.count()}

    @property
    def digest(self) -> None:
        """Return None: the spool's digest identifies the content."""
        return None

    def count(self) -> int:
        """Return the length, up to the limit."""
        return self._cut(len(self._items))

    def _rows(self, start: int) -> Iterator[Any]:
        return _checked(self, islice(self._items, start, None), start)


class OnceDataset(Dataset):
    """Examples from a generator or iterator: read once, from the start."""

    needs_spool = True

    def __init__(self, items: Iterable[Any], **settings: Any) -> None:
        """Keep the iterator."""
        super().__init__(**settings)
        self._items = iter(items)
        self._begun = False

    @property
    def descriptor(self) -> dict[str, Any]:
        """Return that it is an iterator: it has to be spooled before anything can read it twice."""
        return {"kind": "iterator"}

    @property
    def digest(self) -> None:
        """Return None: the spool's digest identifies the content."""
        return None

    def count(self) -> None:
        """Return None: only reading would tell."""

    def peek(self) -> bool:
        """Return whether there is a first example, keeping it for the reader."""
        for first in self._items:
            self._items = chain([first], self._items)
            return True
        return False

    def _rows(self, start: int) -> Iterator[Any]:
        if self._begun:
            raise ConfigError("an iterator can be read once only: spool it first, or pass a list or a file")
        self._begun = True
        return islice(_checked(self, self._items, 0), start, None)


class SpoolDataset(Dataset):
    """Examples that `foundation.spool` wrote to a file."""

    def __init__(self, path: str | os.PathLike[str], **settings: Any) -> None:
        """Open the spool."""
        super().__init__(**settings)
        self._spool = SpoolReader(path)

    @property
    def descriptor(self) -> dict[str, Any]:
        """Return kind, path, count and digest."""
        found = {"kind": "spool", "path": str(self._spool.path.absolute()), "count": self._spool.count}
        return found | {"digest": self._spool.digest, "limit": self.limit}

    @property
    def digest(self) -> str:
        """Return the digest of the spooled examples."""
        return with_limit(self._spool.digest, self.limit)

    def count(self) -> int:
        """Return the number of examples."""
        return self._cut(self._spool.count)

    def iter_packed(self, start: int = 0) -> Iterator[bytes]:
        """Give the packed examples as they are in the file."""
        return islice(self._spool.iter_packed(start), max(0, self.count() - start))

    def _rows(self, start: int) -> Iterator[Any]:
        for data in self._spool.iter_packed(start):
            inputs, labels = unpack_example(data)
            yield inputs | labels


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
        from dspex_actors.data.files import open_file  # it builds on this module

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


def from_descriptor(descriptor: Mapping[str, Any]) -> Dataset:
    """Open the dataset that a `descriptor` stands for.

    Raises:
        ConfigError: its file is gone or no longer usable, or it never was in a file.
    """
    kind, path, limit = descriptor.get("kind"), descriptor.get("path"), descriptor.get("limit")
    if path is None:
        raise ConfigError(f"a dataset of kind {kind!r} lives in the process that made it: spool it first")
    if kind == "spool":
        return SpoolDataset(path, limit=limit)
    settings = {name: descriptor[name] for name in ("input_names", "on_bad_line") if name in descriptor}
    return open_dataset(path, limit=limit, **settings)


def with_limit(digest: str, limit: int | None) -> str:
    """Return the digest of the first `limit` examples of what `digest` identifies."""
    return digest if limit is None else f"{digest}-first-{limit}"


def _checked(dataset: Dataset, items: Iterable[Any], start: int) -> Iterator[Any]:
    for index, item in enumerate(items, start):
        try:
            split(item, dataset.input_names)
        except ConfigError as error:
            # Skipping in a list would give its later examples other indices when read from the middle.
            raise ConfigError(f"example {index:,} (counted from 0): {error.message}") from error
        yield item
