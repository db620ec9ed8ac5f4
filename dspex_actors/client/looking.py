"""Looking at a run while a node, or its journal, is away for a moment."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from dspex_actors.errors import DspexError, RunInterrupted
from dspex_actors.journal.errors import JournalError
from dspex_actors.journal.reader import JournalReader
from dspex_actors.journal.records import RunRow
from dspex_actors.journal.summary import run_summary
from supervisors.client.launch import node_runs
from supervisors.errors import CallTimeout, NodeDown, NoProcess, ServerExited, SupervisorsError

#: A run that is waited for is looked at this often, in seconds: at first often, then less often. Its end is told.
POLL_FIRST, POLL_LAST = 0.05, 0.25
#: A keeper of runs that has not answered so many seconds after it should have is looked at.
LATE_SECONDS = 1.0
#: How long a node that fell is waited for before a run counts as interrupted, in seconds; and one that is there and
#: does not answer.
COME_BACK_SECONDS, PATIENCE_SECONDS = 4.0, 60.0
#: So long, in seconds, a journal may refuse to be read while its node lives; then nobody can tell how a run is.
JOURNAL_SECONDS = 120.0
ENDED = ("finished", "failed", "cancelled", "paused")


class Patience:
    """How long somebody waits for a journal that refuses to be read.

    Args:
        run_id: what is waited for.
    """

    def __init__(self, run_id: str) -> None:
        """Have it be well."""
        self._run_id = run_id
        self._since: float | None = None

    def well(self) -> None:
        """Take note that it was read."""
        self._since = None

    def refused(self, error: JournalError) -> None:
        """Take note that it was not.

        Raises:
            JournalError: so it has been for too long: says since when, and what of the run.
        """
        now = time.monotonic()
        self._since = since = self._since or now
        if now - since > JOURNAL_SECONDS:
            raise JournalError(
                f"{error.message}; so it has been for {now - since:.0f} seconds, and nobody can tell how "
                f"{self._run_id} is. It goes on when that is put right: wait for it again"
            ) from error


def look(run_id: str, ask: Callable[..., Any], data_dir: Path, journal: JournalReader) -> dict[str, Any]:
    """Return a run's summary and note.

    Args:
        run_id: the run.
        ask: asks the keeper of runs.
        data_dir: of its node.
        journal: of its node.

    Raises:
        RunInterrupted: the node went away.
        JournalError: its journal has refused to be read for too long.
    """
    asked, patience = time.monotonic(), Patience(run_id)
    while True:
        try:
            found: dict[str, Any] = ask("progress", run_id, timeout=COME_BACK_SECONDS)
            return found
        except JournalError as error:
            # The run waits for its journal, and so does who waits for the run.
            patience.refused(error)
            time.sleep(POLL_LAST)
            asked = time.monotonic()
        except (NoProcess, ServerExited, CallTimeout, NodeDown) as error:
            # One that is there and only slow is no reason to give a run up.
            seconds = PATIENCE_SECONDS if isinstance(error, CallTimeout) else COME_BACK_SECONDS
            if time.monotonic() - asked > seconds or not node_runs(data_dir):
                row = _row(run_id, journal)
                if row is not None and row.state in ENDED and row.state != "paused":
                    # It ended just before its node went: another program's, which had no more to wait for.
                    return {"summary": run_summary(row), "note": {}}
                raise RunInterrupted("the node went away", run_id=run_id) from None
            time.sleep(0.05)


def wait_for_end(run_ids: Iterable[str], ask: Callable[..., Any], seconds: float) -> None:
    """Return when one of some runs has ended, after so many seconds at the latest; what has become of it is looked at.

    A keeper of runs that cannot be asked, or is of an earlier version, has its askers sleep.

    Args:
        run_ids: the runs.
        ask: asks the keeper of runs.
        seconds: how long.
    """
    until, asked = time.monotonic() + seconds, list(run_ids)
    if not asked:  # nothing is under way: who waits, waits for something else
        time.sleep(seconds)
        return
    try:
        ask("wait", asked, seconds, timeout=seconds + LATE_SECONDS)
    except (DspexError, SupervisorsError):
        time.sleep(max(0.0, until - time.monotonic()))


def _row(run_id: str, journal: JournalReader) -> RunRow | None:
    try:
        return journal.get_run(run_id)
    except JournalError:  # a server that went away too
        return None
