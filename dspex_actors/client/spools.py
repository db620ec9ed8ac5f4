"""The copies of examples that cannot be read twice, beside the journal of the node that has their run."""

from __future__ import annotations

import contextlib
import glob
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from dspex_actors.client.shared import PartOf
from dspex_actors.data.dataset import Dataset
from dspex_actors.data.spool import spool
from dspex_actors.journal.index import SPOOL_FOLDER
from dspex_actors.journal.records import RunRow
from dspex_actors.runs.identity.canon import Canon


class Placed(NamedTuple):
    """A dataset where a node can read it, again and again.

    Args:
        descriptor: opens it.
        digest: identity of its content.
        total: number of its examples, where that is known.
        spool: the copy that was made; None: it is read where it is.
    """

    descriptor: dict[str, Any]
    digest: str | None
    total: int | None
    spool: Path | None


def place(dataset: Dataset, data_dir: Path, run_id: str) -> Placed:
    """Put a dataset where the node of a data folder can read it."""
    if isinstance(dataset, PartOf) and (found := dataset.shared.view(dataset.rows, data_dir)) is not None:
        return Placed(*found, dataset.count(), None)
    if not dataset.needs_spool:
        return Placed(dataset.descriptor, dataset.digest, dataset.count(), None)
    folder = data_dir / SPOOL_FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{run_id}-{uuid.uuid4().hex[:8]}.spool"
    descriptor = spool(dataset.iter_from(0), path, dataset.input_names, Canon().passing)
    return Placed(descriptor, descriptor["digest"], descriptor["count"], path)


@contextlib.contextmanager
def kept_if_well(spooled: Path | None) -> Iterator[None]:
    """Remove a copy that was made when what follows raises: no run has it."""
    try:
        yield
    except BaseException:
        if spooled is not None:
            spooled.unlink(missing_ok=True)
        raise


def drop_others(data_dir: Path, row: RunRow) -> None:
    """Remove the copies of a run that its journal does not name: a run that is continued has been copied anew."""
    for path in (data_dir / SPOOL_FOLDER).glob(f"{glob.escape(row.run_id)}-????????.spool"):
        if row.state == "finished" or str(path) != row.spec.dataset.get("path"):
            path.unlink(missing_ok=True)
