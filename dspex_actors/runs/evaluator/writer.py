"""Results on their way from a run's evaluator to the journal: batch after batch, again while it cannot write."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

from dspex_actors.journal.errors import JournalError

#: The journal is tried again this often, in seconds, while the disk is full.
RETRY_SECONDS = 0.5
#: Most results in one transaction, and about the most bytes: a message has a limit.
BATCH, BATCH_BYTES = 2000, 8 << 20
#: At most so many results wait for the journal, of about so many bytes; with more, no more work is given out.
BACKLOG, BACKLOG_BYTES = 6000, 32 << 20


class Writer:
    """Keeps the results of one run until the journal has them.

    Args:
        run_id: the run.
        ask: sends a request to the keeper of runs and returns its answer.
        log: the evaluator's.
    """

    def __init__(self, run_id: str, ask: Callable[..., Awaitable[Any]], log: Any) -> None:
        """Start with nothing to write."""
        self._run_id, self._ask, self._log = run_id, ask, log
        self._rows: list[Any] = []
        self._bytes = 0
        self._there = asyncio.Event()
        #: Why the journal takes nothing at present; None: it does.
        self.trouble: str | None = None
        #: What `bring_rest` has not brought.
        self.left: list[Any] = []

    @property
    def is_behind(self) -> bool:
        """Whether so much waits for the journal that no more should be asked."""
        return len(self._rows) > BACKLOG or self._bytes > BACKLOG_BYTES

    def add(self, rows: list[Any]) -> None:
        """Take in results, in the order of a result row's fields."""
        self._rows.extend(rows)
        self._bytes += sum(map(_size, rows))
        self._there.set()

    async def write(self, *, written: Callable[[], None], finished: Callable[[], bool]) -> None:
        """Bring results to the journal until the run is finished; a batch is what came while the last was written.

        Args:
            written: called after each batch.
            finished: tells whether no more results will come.
        """
        while True:
            await self._there.wait()
            self._there.clear()
            while self._rows:
                # They stay in the list until they are down: an evaluator that is told to end brings them again.
                batch = _first(self._rows)
                await self.write_down("add", self._run_id, batch)
                del self._rows[: len(batch)]
                self._bytes -= sum(map(_size, batch))
                written()
            if finished() and not self._rows:
                return

    async def write_down(self, *request: Any) -> None:
        """Have something written to the journal, as soon as that can be."""
        while True:
            try:
                await self._ask(*request)
            except JournalError as error:
                if self.trouble is None:
                    self._log.error("the run waits for its journal", run=self._run_id, why=str(error))
                self.trouble = str(error)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if self.trouble is not None:
                self._log.info("the journal takes results again", run=self._run_id)
                self.trouble = None
            return

    async def bring_rest(self) -> None:
        """Bring what is here to the journal, of a run that is ended from outside."""
        # Apart from the list that `write` may still be at: it would take away what it has not written.
        self.left, self._rows = self._rows, []
        while self.left:
            batch = _first(self.left)
            await self._ask("add", self._run_id, batch)
            del self.left[: len(batch)]


def _first(rows: list[Any]) -> list[Any]:
    """Return as many of the first results as go into one message."""
    size = count = 0
    for row in itertools.islice(rows, BATCH):
        size += _size(row)
        if count and size > BATCH_BYTES:
            break
        count += 1
    return rows[:count]


def _size(row: tuple[Any, ...]) -> int:
    """Return about how many bytes a result takes: its example's and its prediction's."""
    return len(row[1]) + len(row[2] or b"") + 300
