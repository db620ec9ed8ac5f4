"""What a worker has asked outside of runs, on its way to the journal: in sums, never a message per call.

Runs write a row for each request. Single calls of programs and the inferences of ecosystems are only summed up, by the
hour, model, user and tags; once a second the sums go to the keeper of runs. A worker that is killed takes the last
second with it.
"""

from __future__ import annotations

import asyncio
import time
from contextvars import Context

from dspex_actors.errors import LMError
from dspex_actors.journal.errors import JournalError
from dspex_actors.journal.schema import Values, attempt_values
from dspex_actors.journal.spend import HOUR_SECONDS, Key, Sums
from dspex_actors.lm.attempts import Attempt, book_outside_with, current_ledger, tags_text
from dspex_actors.lm.request import LMRequest
from dspex_actors.names import RUNS
from dspex_actors.runs.messages import Paid
from supervisors import GenServer
from supervisors.errors import SupervisorsError

#: Sums are told so long after the first of what they have, in seconds.
TELL_SECONDS = 1.0
#: The keeper of runs is asked again after so many seconds.
AGAIN_SECONDS = 0.5


class Payments:
    """The sums of one worker.

    Args:
        worker: the worker.
    """

    def __init__(self, worker: GenServer) -> None:
        """Take what the sessions of this process enter outside of runs."""
        self._worker = worker
        self._sums = Sums()
        self._batch = 0
        self._timer: asyncio.TimerHandle | None = None
        self._telling: asyncio.Task[None] | None = None
        book_outside_with(self.enter)

    def enter(self, attempt: Attempt) -> None:
        """Add a request that belongs to no run."""
        self._sums.add("", (attempt_values(attempt),))
        self._tell_soon()

    def cached(self, request: LMRequest, model: str, saved: float | None) -> None:
        """Add an answer that a cache gave.

        Args:
            request: what was asked.
            model: the model that had answered.
            saved: USD that it had cost; None: unknown.
        """
        ledger = current_ledger()
        run = "" if ledger is None else ledger.run
        hour = int(time.time() // HOUR_SECONDS)
        key: Key = (hour, run, request.lm.deployment.provider, model, request.user or "", tags_text(request.tags) or "")
        self._sums.add_cached(key, saved)
        self._tell_soon()

    def _tell_soon(self) -> None:
        if self._timer is None and self._telling is None:
            # What it belongs to has nothing to do with the call that came first.
            self._timer = asyncio.get_running_loop().call_later(TELL_SECONDS, self._begin, context=Context())

    def _begin(self) -> None:
        self._timer = None
        self._telling = self._worker.spawn(self._tell())

    async def _tell(self) -> None:
        try:
            while self._sums:
                await self._bring(self._sums.take())
        finally:
            self._telling = None

    async def _bring(self, rows: list[Values]) -> None:
        """Have rows written down, however long the keeper of runs is away, or the disk is full."""
        self._batch += 1
        message = Paid(self._worker.ref, self._batch, rows)
        while True:
            try:
                kind, error = await self._worker.call(RUNS, message, timeout=60.0)
                if kind == "ok":
                    return
                self._worker.log.warning("what was paid waits for the journal", error=str(error)[:200])
            except (SupervisorsError, JournalError, LMError):
                pass
            await asyncio.sleep(AGAIN_SECONDS)

    async def tell_last(self) -> None:
        """Tell what there is, now: the worker ends."""
        if self._timer is not None:
            self._timer.cancel()
            self._begin()
        if self._telling is not None and not (await asyncio.wait({self._telling}, timeout=TELL_SECONDS))[0]:
            self._worker.log.warning("what was paid last is not in the journal")
