"""The evaluators of a node's runs: started, watched, started again when they died, cleared away when they ended."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.branches import branch_spec, why_not_started
from dspex_actors.journal.base import JournalBase
from dspex_actors.journal.errors import JournalError
from dspex_actors.journal.records import RunRow
from dspex_actors.names import EVALUATORS, run_name
from dspex_actors.runs.evaluator.actor import Evaluator
from supervisors import ChildSpec, ExitReason, GenServer, Ref
from supervisors.errors import (
    AlreadyPresent,
    AlreadyStarted,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    NoProcess,
    ServerExited,
    SupervisorsError,
)
from supervisors.first_use import ensure_branch
from supervisors.host import processes

#: An evaluator that has ended is cleared away at this interval, in seconds, so many times at most.
CLEAR_SECONDS, CLEAR_TRIES = 0.05, 200
#: A run whose evaluator has died more often than this within this many seconds is given up.
MAX_FALLS, FALL_SECONDS = 8, 60.0
#: What could not be done because the journal was away is tried again after so many seconds.
AWAY_SECONDS = 0.5
#: While its branch of the tree is being restarted an evaluator cannot be started: how often to try, and how long apart.
START_TRIES, START_SECONDS = 100, 0.05


class Evaluators:
    """The evaluators that a keeper of runs has started.

    Args:
        keeper: the keeper.
        journal: its journal.
        workers: how many http workers its node has.
        has: whether a run that goes on does so on this node.
        give_up: ends a run, given its state and why.
    """

    def __init__(
        self,
        keeper: GenServer,
        journal: JournalBase,
        workers: int,
        has: Callable[[RunRow], bool],
        give_up: Callable[[str, str, str], Awaitable[object]],
    ) -> None:
        """Have none."""
        self._keeper, self._journal, self._workers, self._has, self._give_up = keeper, journal, workers, has, give_up
        self._watched: dict[Ref, str] = {}
        self._falls: dict[str, list[float]] = {}

    @property
    def count(self) -> int:
        """How many are under way."""
        return len(self._watched)

    async def start(self, run_id: str, found: dict[str, Any] | None = None) -> None:
        """Start the evaluator of a run; one that is there already is watched.

        Args:
            run_id: the run.
            found: what it would be told when it opens the run, which has been opened for it. None: it does that itself.

        Raises:
            ConfigError: it cannot be started; that is written down.
        """
        for _ in range(START_TRIES):
            await ensure_branch(self._keeper, branch_spec(EVALUATORS))
            # Two that are of one opening would take each other's batches for their own: it is told to one at most.
            spec, found = self._spec(run_id, found), None
            try:
                ref = await self._keeper.start_child(EVALUATORS, spec)
            except AlreadyStarted as error:
                ref = error.ref
            except (AlreadyPresent, NoProcess, ServerExited):
                # Ended and not cleared away yet, or its supervisor is at it, or that is being restarted itself.
                if not await self.clear(run_id):
                    await asyncio.sleep(START_SECONDS)
                continue
            except SupervisorsError as error:
                self._journal.set_state(run_id, "failed", f"its evaluator did not start: {error}")
                raise ConfigError(f"the run {run_id} cannot start: {why_not_started(error)}") from None
            if ref is not None and processes.has_ended(ref.pid, ref.born):
                await asyncio.sleep(START_SECONDS)  # its supervisor does not know yet
                continue
            if ref is not None:
                self._watched[ref] = run_id
                self._keeper.monitor(ref)
            return
        self._journal.set_state(run_id, "failed", "its evaluator did not start; see `dspex logs`")
        raise ConfigError(f"the run {run_id} cannot start: see `dspex logs`")

    def _spec(self, run_id: str, found: dict[str, Any] | None) -> ChildSpec:
        # One that has died is started again from here, never by its supervisor: that would tell it what was found, too.
        return ChildSpec(
            run_name(run_id),
            Evaluator,
            args=(run_id, self._workers, found),
            restart="temporary",
            name=run_name(run_id),
            shutdown=10.0,
        )

    async def end(self, run_id: str) -> None:
        """End the evaluator of a run that is halted: it brings what it has to the journal first."""
        with contextlib.suppress(ChildNotFound, NoProcess, ServerExited):
            await self._keeper.terminate_child(EVALUATORS, run_name(run_id))

    async def clear(self, run_id: str) -> bool:
        """Forget an ended evaluator's child spec; return whether that is possible now."""
        try:
            await self._keeper.delete_child(EVALUATORS, run_name(run_id))
        except ChildNotFound:
            return True
        except (NoProcess, ServerExited, ChildRestarting, ChildRunning):
            return False
        return True

    async def clear_away(self, run_id: str) -> None:
        """Forget an ended evaluator's child spec, as soon as its supervisor has noticed the end too."""
        if await self._keeper.whereis(EVALUATORS) is None:
            return  # there was none since the node started
        for _ in range(CLEAR_TRIES):
            if await self.clear(run_id):
                return
            await asyncio.sleep(CLEAR_SECONDS)
            row = self._journal.get_run(run_id)
            if row is not None and row.state == "running":
                return  # resumed meanwhile: it has an evaluator again

    def down(self, ref: Ref | None, reason: ExitReason) -> None:
        """Take in that a process has ended, an evaluator or another one."""
        run_id = None if ref is None else self._watched.pop(ref, None)
        if run_id is not None:
            self.ended(run_id, reason)

    def ended(self, run_id: str, reason: Any) -> None:
        """Take in that the evaluator of a run has ended."""
        self._keeper.spawn(self._after_end(run_id, reason))

    async def _after_end(self, run_id: str, reason: Any) -> None:
        """Clear away an evaluator that has ended for good; one that died comes back, its supervisor dead or not."""
        falls = self._falls_of(run_id)
        try:
            row = self._journal.get_run(run_id)
        except JournalError:
            if not reason.abnormal or len(falls) >= MAX_FALLS:
                self._keeper.send_after(AWAY_SECONDS, ("ended", run_id, reason))
                return  # else its successor hears what has become of the run when the journal is back
        else:
            if row is None or row.state != "running" or not self._has(row):
                self._falls.pop(run_id, None)
                await self.clear_away(run_id)
                return
        falls = self._falls[run_id] = [*falls, time.monotonic()]
        if len(falls) > MAX_FALLS:
            why = f"its evaluator died {len(falls)} times within {FALL_SECONDS:g} s, last of: {reason}"
            self._falls.pop(run_id)
            await self._give_up(run_id, "failed", why)
            await self.clear(run_id)
            return
        try:
            await self.start(run_id)
        except ConfigError:
            pass  # it is written down why
        except JournalError:
            self._keeper.send_after(AWAY_SECONDS, ("ended", run_id, reason))

    def _falls_of(self, run_id: str) -> list[float]:
        """Return when a run's evaluator died lately."""
        now = time.monotonic()
        return [at for at in self._falls.get(run_id, ()) if now - at < FALL_SECONDS]
