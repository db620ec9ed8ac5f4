"""The keeper of runs, and the journal, as who carries an optimisation out asks them: one that fell is waited for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from dspex_actors.client.looking import look, wait_for_end
from dspex_actors.errors import DspexError, RunInterrupted
from dspex_actors.journal.errors import JournalError
from dspex_actors.journal.records import Part, RunRow
from dspex_actors.teleprompt.endings import Away
from dspex_actors.teleprompt.step_runs import How
from supervisors.client.launch import node_runs

T = TypeVar("T")
#: The keeper of runs, where it fell and its node did not, is waited for so long, in seconds, and asked this often.
COME_BACK_SECONDS, PAUSE_SECONDS = 20.0, 0.05


class Keeper:
    """The keeper of runs of an optimisation's node.

    Args:
        how: the optimisation is carried out.
    """

    def __init__(self, how: How) -> None:
        """Ask nothing yet."""
        self._how, self._system = how, how.system

    def insist(self, ask: Callable[[], T], away: Any = (RunInterrupted, JournalError), *, checks: bool = True) -> T:
        """Ask the keeper of runs, or the journal; one that fell (it raises `away`) is waited for.

        Raises:
            Away: it is not back, or its node is gone.
        """
        until = time.monotonic() + COME_BACK_SECONDS
        while True:
            try:
                return ask()
            except away as error:
                if checks:
                    self._how.check(now=True)
                if time.monotonic() > until or not node_runs(self._system.data_dir):
                    raise Away(
                        f"optimisation {self._how.run_id} is interrupted ({error.message.partition(':')[0]}); connect "
                        "again, and the same id goes on with it",
                        run_id=self._how.run_id,
                    ) from error
            time.sleep(PAUSE_SECONDS)

    def row(self, run_id: str) -> RunRow | None:
        """Return a run, None: it is not there."""
        return self.insist(lambda: self._system.journal.get_run(run_id))

    def parts(self, run_id: str) -> Sequence[Part]:
        """Return the runs of an optimisation's steps."""
        return self.insist(lambda: self._system.journal.parts_of(run_id))

    def look(self, run_id: str) -> dict[str, Any]:
        """Return how a run stands."""
        return self.insist(lambda: look(run_id, self._system._ask, self._system.data_dir, self._system.journal))

    def wait(self, run_ids: Iterable[str], seconds: float) -> None:
        """Return when one of some runs has ended, after so many seconds at the latest."""
        wait_for_end(run_ids, self._system._ask, seconds)

    def pause(self, run_id: str, why: str) -> None:
        """Pause a run."""
        self.insist(lambda: self._system._order(run_id, "pause", run_id, why))

    def cancel(self, run_id: str, reason: str) -> None:
        """End a run for good, if it has not just ended."""
        try:
            self.insist(lambda: self._system.cancel(run_id, reason))
        except RunInterrupted:
            raise  # it goes on, and nobody may have its part
        except DspexError:
            pass  # it has just ended
