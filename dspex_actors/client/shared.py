"""Examples that the runs of an optimisation have in common: spooled once, and each run has a view of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from dspex_actors.data.fields import pack_example
from dspex_actors.data.memory import ListDataset
from dspex_actors.data.spool import SpoolReader, framed_record, spool, told_record
from dspex_actors.data.view import in_ranges, view_descriptor
from dspex_actors.errors import ConfigError
from dspex_actors.example import Example
from dspex_actors.journal.index import SPOOL_FOLDER
from dspex_actors.runs.identity.canon import Canon


class Shared:
    """Examples that several runs have in common.

    Args:
        examples: all of them, in an order that is the same whenever this is repeated; one that is there
            twice counts once.
        owner: the run that they are kept for; they go when it is finished.
    """

    def __init__(self, examples: Sequence[Example], owner: str) -> None:
        """Read nothing yet."""
        self._examples, self._owner = list({id(one): one for one in examples}.values()), owner
        #: Key of an example (see `_told`) → its index; and the digest of all.
        self._places: dict[bytes, int] | None = None
        self._digest = ""

    def view(self, rows: Sequence[Example], data_dir: Path) -> tuple[dict[str, object], str] | None:
        """Return descriptor and digest of the view that some of the examples are; None: one of them is none of these.

        Args:
            rows: the examples.
            data_dir: of the node that is to read them.

        Raises:
            SpoolError: no space or no permission.
        """
        content, canon, indices = hashlib.sha256(), Canon(), []
        try:
            places = self._read()
            for row in rows:
                told, key = _told(row, canon)
                if key not in places:
                    return None
                indices.append(places[key])
                content.update(told)
        except ConfigError:
            return None  # who spools them by themselves says which one it is
        digest, ranges = content.hexdigest(), in_ranges(indices)
        return view_descriptor(str(self._spooled(data_dir)), digest, self._digest, ranges, len(rows)), digest

    def _read(self) -> dict[bytes, int]:
        """Return where each example is, by its key."""
        if self._places is None:
            content, canon = hashlib.sha256(), Canon()
            places: dict[bytes, int] = {}
            for index, example in enumerate(self._examples):
                told, key = _told(example, canon)
                places.setdefault(key, index)
                content.update(told)
            self._places, self._digest = places, content.hexdigest()
        return self._places

    def _spooled(self, data_dir: Path) -> Path:
        """Return where the spool is, made if it is not there: an earlier life of the owner may have made it."""
        path = (data_dir / SPOOL_FOLDER / f"{self._owner}-{self._digest[:8]}.spool").absolute()
        try:
            is_there = path.exists() and SpoolReader(path).digest == self._digest
        except ConfigError:
            is_there = False
        if not is_there:
            spool(self._examples, path, None, Canon().passing)
        return path


def _told(example: Example, canon: Canon) -> tuple[bytes, bytes]:
    """Return what of an example the digest is over, and its key: what it is as it is spooled.

    One that holds objects is also told by which one it is: not all that is in an object is in its identity, and its
    pickle is another one each time.
    """
    framed = framed_record(pack_example(example))
    told = told_record(framed, example, None, canon.passing)
    key = hashlib.sha256(told).digest()
    return told, key if told is framed else key + str(id(example)).encode()


class PartOf(ListDataset):
    """Some of the examples that several runs have in common, or others.

    Args:
        shared: those in common.
        rows: the examples.
    """

    def __init__(self, shared: Shared, rows: Sequence[Example]) -> None:
        """Keep them."""
        super().__init__(rows)
        self.shared, self.rows = shared, rows
