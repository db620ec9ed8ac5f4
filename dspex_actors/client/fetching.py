"""A run of another host, as a journal here: fetched in portions, and gone when nobody reads it any more."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dspex_actors.journal.copies import Portion, Stand, take_portion
from dspex_actors.journal.reader import JOURNAL_FILE, JournalReader
from dspex_actors.journal.writer import Journal
from dspex_actors.runs.standby.messages import GetParts, GetPortion


class FetchedReader(JournalReader):
    """Reads a copy that goes with this object.

    Args:
        folder: where it is.
    """

    def __init__(self, folder: tempfile.TemporaryDirectory[str]) -> None:
        """Keep it as long as this is there."""
        super().__init__(Path(folder.name) / JOURNAL_FILE)
        self._folder = folder


def fetched(run_id: str, ask: Callable[[Any], list[Any]], *, with_parts: bool = False) -> FetchedReader:
    """Fetch a run; return who reads it.

    Args:
        run_id: the run.
        ask: asks the keeper of runs that has it.
        with_parts: with the runs that belong to it, in figures: without their results.
    """
    reader = FetchedReader(tempfile.TemporaryDirectory(prefix="dspex-run-", ignore_cleanup_errors=True))
    journal = Journal(reader.path)
    try:
        stand, is_last = Stand(), False
        while not is_last:
            portion = Portion(*ask(GetPortion(run_id, stand.seq)))
            stand = take_portion(journal, run_id, sys.maxsize, stand, portion)
            is_last = portion.is_last
        for part in ask(GetParts(run_id)) if with_parts else ():
            figures = Portion(*ask(GetPortion(part, sys.maxsize)))  # what is behind it, which is nothing
            take_portion(journal, part, sys.maxsize, Stand(), figures)
    finally:
        journal.close()
    return reader
