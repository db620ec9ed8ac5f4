"""The runs of all journals under a data folder, whether their nodes run or not."""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from pathlib import Path
from typing import Any

from dspex_actors.errors import ConfigError, DspexError
from dspex_actors.journal.errors import JournalCorrupt
from dspex_actors.journal.reader import JournalReader, find_journals
from dspex_actors.journal.records import RunRow
from dspex_actors.journal.summary import run_summary

#: The journal's file in a node's data folder.
JOURNAL_FILE = "journal.db"
#: In it, the copies of examples that cannot be read twice, until their run is finished.
SPOOL_FOLDER = "spool"


def list_runs(home: Path, *folders: Path, limit: int = 1000) -> list[dict[str, Any]]:
    """Return summaries of the runs in all journals under `home` and in `folders`, newest first.

    Raises:
        JournalCorrupt: a journal is damaged, and no other one has a run.
    """
    paths = dict.fromkeys([*(folder / JOURNAL_FILE for folder in folders), *find_journals(home)])
    found: dict[str, dict[str, Any]] = {}
    damaged: DspexError | None = None
    for path in paths:
        try:
            for row in JournalReader(path).list_runs(limit=limit):
                found.setdefault(row.run_id, summary_of(row, path.parent) | {"journal": str(path)})
        except JournalCorrupt as error:
            damaged = error
    if damaged is not None and not found:
        raise damaged
    return sorted(found.values(), key=lambda item: str(item["started_at"] or ""), reverse=True)[:limit]


def summary_of(row: RunRow, folder: Path) -> dict[str, Any]:
    """Return a run's summary; one that its node left behind as running when it was killed is paused."""
    summary = run_summary(row)
    if row.state == "running" and not node_runs(folder):
        summary |= {"state": "paused", "reason": "its node was stopped or killed"}
    return summary


def node_runs(folder: Path) -> bool:
    """Tell whether a node runs over a data folder: its daemon holds the folder's lock as long as it lives."""
    try:
        fd = os.open(folder / "run" / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def find_run(run_id: str, home: Path) -> Path:
    """Return the data folder whose journal has a run.

    Raises:
        ConfigError: none has; JournalCorrupt if one of them cannot be read.
    """
    folder, damaged = _look_for(run_id, home)
    if folder is not None:
        return folder
    if damaged is not None:
        raise damaged
    raise ConfigError(f"no run {run_id!r} under {home}: `dspex runs` lists them")


def folder_of(run_id: str, home: Path) -> Path | None:
    """Return the data folder whose journal has a run; None where none has that can be read."""
    return _look_for(run_id, home)[0]


def _look_for(run_id: str, home: Path) -> tuple[Path | None, DspexError | None]:
    damaged: DspexError | None = None
    for path in find_journals(home):
        try:
            if JournalReader(path).get_run(run_id) is not None:
                return path.parent, damaged
        except JournalCorrupt as error:
            damaged = error
    return None, damaged


def new_run_id(kind: str) -> str:
    """Return a fresh run id that sorts by time and can be typed."""
    return f"{kind}-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:4]}"
