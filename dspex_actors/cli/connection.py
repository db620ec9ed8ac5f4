"""Which node a run is done by: the daemon's, or one of the command's own that is gone when the command ends."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from dspex_actors.client.connect import connect
from dspex_actors.client.own_node import join_or_start
from dspex_actors.client.system import System
from dspex_actors.foundation.home import default_data_dir
from dspex_actors.journal.index import folder_of
from dspex_actors.journal.opening import open_reader


def _home() -> Path:
    return default_data_dir().absolute()


def is_finished(run_id: str | None) -> bool:
    """Whether a run has all its results: its LM is not asked again."""
    folder = None if run_id is None else folder_of(run_id, _home())
    if folder is None or run_id is None:
        return False
    row = open_reader(folder).get_run(run_id)
    return row is not None and row.state == "finished"


def for_run(run_id: str | None, workers: int | None) -> Uninterrupted:
    """Return a connection for a run: to the node that has it already, else to the daemon's, else to one of our own.

    Args:
        run_id: its name; None for a new one.
        workers: of a node of our own.
    """
    folder = None if run_id is None else folder_of(run_id, _home())
    return Uninterrupted(connect(workers=workers) if folder is None else _over(folder))


def over(folder: Path) -> Uninterrupted:
    """Return a connection to the node of a data folder; where none runs, to one of our own over it."""
    return Uninterrupted(_over(folder))


def _over(folder: Path) -> System:
    node, own = join_or_start(folder)
    return System(node, None, own=own)


class Uninterrupted:
    """A connection whose end is not cut short: a second Ctrl-C must not leave a node behind."""

    def __init__(self, system: System) -> None:
        """Wrap it."""
        self._system = system

    def __enter__(self) -> System:
        """Enter it."""
        return self._system.__enter__()

    def __exit__(self, *error: Any) -> None:
        """Leave it, whatever signals come."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        self._system.__exit__(*error)
