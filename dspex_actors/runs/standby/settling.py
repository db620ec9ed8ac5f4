"""What a request has changed counts before it is answered; and what it has ended is let go of.

Nothing that does not go on is led for long, however that came about (a request that was refused after its run was
claimed for it, an evaluator that did not start): its lease would keep all other nodes from going on with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from dspex_actors.errors import DspexError
from dspex_actors.journal.base import JournalBase
from dspex_actors.runs.messages import NO_ROWS, Add, End
from dspex_actors.runs.standby.coordination import Coordination
from dspex_actors.runs.standby.led import Led
from supervisors import GenServer
from supervisors.cluster.leases.messages import LEASES, Delete
from supervisors.errors import SupervisorsError

#: Runs that are led and do not go on are looked for this often, in seconds.
LOOK_SECONDS = 1.0
#: One that is just being claimed goes on within so many seconds.
IDLE_SECONDS = 10.0


class Settling:
    """Waits for what counts, and ends what is over, for the keeper of runs of one node.

    Args:
        keeper: the keeper.
        journal: its journal.
        led: the runs that the node coordinates.
    """

    def __init__(self, keeper: GenServer, journal: JournalBase, led: Led) -> None:
        """Know of nothing that has ended."""
        self._keeper, self._journal, self._led = keeper, journal, led
        #: Runs that do not go on, and since when that is known.
        self._idle: dict[str, float] = {}

    async def settled(self, request: Any) -> None:
        """Return when what a request has changed is on the disks of all who have to have it.

        Raises:
            JournalError: it is not yet; says why.
            Fenced: the run is another node's.
        """
        ends = False
        match request:
            case Add(run_id) | ("open" | "dataset", run_id, *_) | ("workflow", "reopen" | "step", run_id, *_):
                run = self._led.get(run_id)
            case (
                End(run_id)
                | ("cancel" | "pause", run_id, *_)
                | ("workflow", "end" | "give up" | "limits", run_id, *_)
                | ("workflow", "enlist", {"run_id": run_id}, _)
            ):
                run, ends = self._led.get(run_id), True
            case _:
                return
        if run is None:
            return
        which = None if run.run_id == run_id and not isinstance(request, Add) else run_id
        if not isinstance(request, Add):
            run.note(which)
        elif request.rows == NO_ROWS:
            run.check_own()
        try:
            await run.counted(which)
        finally:
            if ends:
                await self._let_go(run, run_id)

    async def _let_go(self, run: Coordination, run_id: str) -> None:
        """End what a request has ended: of parts, that they are looked at; of all, as soon as it counts."""
        row = self._journal.get_run(run_id)
        if row is not None and row.state == "running":
            return
        if run.run_id != run_id:
            run.is_over(run_id)
        elif run.sync.all_counts:
            await self.end(run)
        else:
            self._idle[run_id] = float("-inf")

    async def keep_looking(self) -> None:
        """Let go of what does not go on, as long as the keeper lives."""
        while True:
            try:
                await self.end_idle(time.monotonic())
            except DspexError as error:
                self._keeper.log.info("runs that do not go on are looked at later", why=error.message)
            await asyncio.sleep(LOOK_SECONDS)

    async def end_idle(self, now: float) -> None:
        """Let go of what has ended, or has not gone on for a while, and counts; `now`: monotonic seconds."""
        idle = {}
        for run in self._led.heads:
            row = self._journal.get_run(run.run_id)
            if row is None or row.state != "running":
                idle[run.run_id] = self._idle.get(run.run_id, now)
        self._idle = idle  # now: what ends while one is let go of is entered in it
        for run in self._led.heads:
            since = idle.get(run.run_id, now)
            if now - since > IDLE_SECONDS and run.sync.all_counts and not run.is_fenced:
                await self.end(run)

    async def end(self, run: Coordination) -> None:
        """Let go of a run that is over, or paused."""
        if self._led.get(run.run_id) is run:
            self._led.forget(run)
            run.end()
            row = self._journal.get_run(run.run_id)
            if row is None or row.state == "finished":  # nobody claims it any more
                with contextlib.suppress(SupervisorsError):
                    await self._keeper.call(LEASES, Delete(run.holding.name), timeout=5.0)
            await run.holding.release()
