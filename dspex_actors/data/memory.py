"""Datasets of this process: a sequence, and an iterator that can be read once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

from dspex_actors.data.dataset import Dataset
from dspex_actors.data.fields import split
from dspex_actors.errors import ConfigError


class ListDataset(Dataset):
    """Examples in a sequence of this process."""

    kind = "list"
    needs_spool = True

    def __init__(self, items: Sequence[Any], **settings: Any) -> None:
        """Keep a reference to the sequence."""
        super().__init__(**settings)
        self._items = items

    @property
    def descriptor(self) -> dict[str, Any]:
        """Return that it is a list: it has to be spooled before another process can open it."""
        return {"kind": self.kind, "count": self.count()}

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

    kind = "iterator"
    needs_spool = True

    def __init__(self, items: Iterable[Any], **settings: Any) -> None:
        """Keep the iterator."""
        super().__init__(**settings)
        self._items = iter(items)
        self._begun = False

    @property
    def descriptor(self) -> dict[str, Any]:
        """Return that it is an iterator: it has to be spooled before anything can read it twice."""
        return {"kind": self.kind}

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


def _checked(dataset: Dataset, items: Iterable[Any], start: int) -> Iterator[Any]:
    for index, item in enumerate(items, start):
        try:
            split(item, dataset.input_names)
        except ConfigError as error:
            # Skipping in a list would give its later examples other indices when read from the middle.
            raise ConfigError(f"example {index:,} (counted from 0): {error.message}") from error
        yield item
