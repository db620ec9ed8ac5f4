"""The runs of all journals under a data folder, whether their nodes run or not."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from dspex_actors.errors import ConfigError
from dspex_actors.journal.errors import JournalCorrupt
from dspex_actors.journal.opening import owner_of, place_of, readers_under
from dspex_actors.journal.reader import JournalReader
from dspex_actors.journal.records import RunRow
from dspex_actors.journal.summary import run_summary
from supervisors.client.launch import node_runs

#: In it, the copies of examples that cannot be read twice, until their run is finished.
SPOOL_FOLDER = "spool"


class Found(NamedTuple):
    """A run, as it is now, and the journal that has it."""

    reader: JournalReader
    row: RunRow

    @property
    def folder(self) -> Path:
        """The data folder of its node."""
        return self.reader.path.parent


def all_runs(
    home: Path, *folders: Path, kind: str | None = None, limit: int = 1000
) -> tuple[list[Found], list[JournalCorrupt]]:
    """Return the newest runs of all journals under `home` and in `folders`, and what is wrong with damaged journals.

    They come without the code of their programs and metrics.

    Args:
        home: where journals are.
        *folders: further ones.
        kind: only runs of this kind; None: all.
        limit: so many at most.
    """
    found: dict[str, Found] = {}
    damaged = []
    for reader in readers_under(home, *folders):
        try:
            for row in reader.list_runs(kind=kind, limit=limit, code=False):
                found.setdefault(row.run_id, Found(reader, as_it_is(row, reader.path.parent)))
        except JournalCorrupt as error:
            damaged.append(error)
    newest = sorted(found.values(), key=lambda one: one.row.created_at, reverse=True)
    return newest[:limit], damaged


def list_runs(home: Path, *folders: Path, limit: int = 1000) -> list[dict[str, Any]]:
    """Return summaries of the runs that `all_runs` finds.

    Raises:
        JournalCorrupt: a journal is damaged, and no other one has a run.
    """
    found, damaged = all_runs(home, *folders, limit=limit)
    if damaged and not found:
        raise damaged[-1]
    return [run_summary(row) | {"journal": str(reader.path)} for reader, row in found]


def as_it_is(row: RunRow, folder: Path) -> RunRow:
    """Return a run as paused where its journal says running, but the node of the data folder is gone."""
    if row.state != "running" or node_runs(folder) or _is_elsewhere(row, folder):
        return row
    since = row.running_since or 0.0
    ran = max(0.0, (row.last_result_at or since) - since)  # as far as is known: the journal's writer counts it so, too
    seconds = row.active_seconds + ran
    return replace(
        row, state="paused", reason="its node was stopped or killed", running_since=None, active_seconds=seconds
    )


def _is_elsewhere(row: RunRow, folder: Path) -> bool:
    """Whether a run in a journal of several nodes is another one's: of that one nothing is known here."""
    return bool(row.owner) and place_of(folder) is not None and row.owner != owner_of(folder)


def find_run(run_id: str, home: Path) -> Found:
    """Return a run, wherever it is under `home`.

    Raises:
        ConfigError: no journal has it; JournalCorrupt if one of them cannot be read.
    """
    found = look_for(run_id, home)
    if found is None:
        raise ConfigError(f"no run {run_id!r} under {home}: `dspex runs` lists them")
    return found


def look_for(run_id: str, home: Path) -> Found | None:
    """Return a run, wherever it is under `home`; None: no journal has it.

    Raises:
        JournalCorrupt: none has it, and one of them cannot be read.
    """
    found, damaged = _look_for(run_id, home)
    if found is None and damaged is not None:
        raise damaged
    return found


def folder_of(run_id: str, home: Path) -> Path | None:
    """Return the data folder whose journal has a run; None where none has that can be read."""
    found, _ = _look_for(run_id, home)
    return None if found is None else found.folder


def _look_for(run_id: str, home: Path) -> tuple[Found | None, JournalCorrupt | None]:
    damaged: JournalCorrupt | None = None
    for reader in readers_under(home):
        try:
            row = reader.get_run(run_id)
        except JournalCorrupt as error:
            damaged = error
            continue
        if row is not None:
            return Found(reader, as_it_is(row, reader.path.parent)), damaged
    return None, damaged


def new_run_id(kind: str) -> str:
    """Return a fresh run id that sorts by time and can be typed."""
    return f"{kind}-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:4]}"
