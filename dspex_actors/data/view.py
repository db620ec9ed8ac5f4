"""Views: some examples of a spool, in any order, by their indices. Runs that have their examples from one set share it.

A view has a digest of its own, which is the one that a spool of just its examples would have: what a run is does not
depend on where its examples lie.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from dspex_actors.data.dataset import Dataset
from dspex_actors.data.fields import unpack_example
from dspex_actors.data.spool import SpoolDataset, SpoolReader


class ViewDataset(Dataset):
    """Some examples of a spool.

    Args:
        path: what `spool` wrote.
        digest: of the view.
        of: digest of the spool.
        indices: as `in_ranges` has them.
    """

    kind = "view"

    def __init__(self, path: str | os.PathLike[str], *, digest: str, of: str, indices: Sequence[Any]) -> None:
        """Open the spool, and find the examples in it."""
        super().__init__()
        self._spool = SpoolReader(path)
        self._digest, self._of, self._ranges = digest, of, list(indices)
        self._offsets = self._spool.offsets(from_ranges(indices))

    @property
    def descriptor(self) -> dict[str, Any]:
        """Return kind, path, digests, indices and count."""
        path = str(self._spool.path.absolute())
        return view_descriptor(path, self._digest, self._of, self._ranges, len(self._offsets))

    def read_digest(self) -> str:
        """Return its digest; where the file is that of another spool, the digest of that."""
        return self._digest if self._spool.digest == self._of else self._spool.digest

    @property
    def digest(self) -> str:
        """Return the digest of its examples."""
        return self._digest

    def count(self) -> int:
        """Return the number of examples."""
        return len(self._offsets)

    def iter_packed(self, start: int = 0) -> Iterator[bytes]:
        """Give the packed examples as they are in the file."""
        return self._spool.iter_at(islice(self._offsets, start, None))

    def _rows(self, start: int) -> Iterator[Any]:
        for data in self.iter_packed(start):
            inputs, labels = unpack_example(data)
            yield inputs | labels


def view_descriptor(path: str, digest: str, of: str, ranges: Sequence[Any], count: int) -> dict[str, Any]:
    """Return the plain data that opens a view: see `ViewDataset`."""
    return {"kind": ViewDataset.kind, "path": path, "digest": digest, "of": of, "indices": ranges, "count": count}


def file_of(descriptor: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the descriptor of the whole file that a dataset is in: of a view its spool's, else the dataset's own."""
    if descriptor.get("kind") != ViewDataset.kind:
        return descriptor
    return {"kind": SpoolDataset.kind, "path": descriptor.get("path"), "digest": descriptor.get("of")}


def in_ranges(indices: Sequence[int]) -> list[Any]:
    """Return indices in short: [first, last + 1] for some that follow each other, a number for one alone."""
    found: list[Any] = []
    for index in indices:
        if found and found[-1][1] == index:
            found[-1][1] = index + 1
        else:
            found.append([index, index + 1])
    return [first if last == first + 1 else [first, last] for first, last in found]


def from_ranges(ranges: Sequence[Any]) -> list[int]:
    """Return the indices that `in_ranges` has told in short."""
    return [index for one in ranges for index in ([one] if isinstance(one, int) else range(one[0], one[1]))]
