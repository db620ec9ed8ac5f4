"""The examples of a run that have no result yet, read as they are asked for."""

from __future__ import annotations

from collections.abc import Iterator

from dspex_actors.data.dataset import Dataset
from dspex_actors.foundation.indexset import IndexSet


class Source:
    """Gives (index, packed example) of what is left to do, reading on only as far as asked.

    Args:
        dataset: the examples.
        done: the indices that have a result; results that come in while it is read may be added.
    """

    def __init__(self, dataset: Dataset, done: IndexSet) -> None:
        """Begin before the first one."""
        self._dataset, self._done = dataset, done
        self._left = self._read()
        #: How many examples there are, once the dataset has been read to its end.
        self.total: int | None = None

    def next(self) -> tuple[int, bytes] | None:
        """Return the next one, None after the last.

        Raises:
            ConfigError, OSError: the dataset cannot be read on.
        """
        return next(self._left, None)

    def _read(self) -> Iterator[tuple[int, bytes]]:
        start = self._done.next_missing(0)
        total = start
        for index, payload in enumerate(self._dataset.iter_packed(start), start):
            total = index + 1
            if index not in self._done:
                yield index, payload
        self.total = max(total, len(self._done))
