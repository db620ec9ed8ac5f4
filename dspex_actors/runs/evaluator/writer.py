"""Results on their way from a run's evaluator to the journal: batch after batch, again while it cannot write."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from dspex_actors.journal.errors import JournalError
from dspex_actors.journal.schema import RESULT_COLUMNS, Values
from dspex_actors.runs.messages import Add

#: The journal is tried again this often, in seconds, while the disk is full.
RETRY_SECONDS = 0.5
#: Most results in one transaction, and about the most bytes: a batch is in memory several times while it is packed.
BATCH, BATCH_BYTES = 1000, 2 << 20
#: At most so many results wait for the journal, of about so many bytes; with more, no more work is given out.
BACKLOG, BACKLOG_BYTES = 6_000, 32 << 20
#: What a row takes beside its long values, and what a request takes; about.
_ROW, _ATTEMPT = 300, 300
_long = itemgetter(*map(RESULT_COLUMNS.index, ("example", "prediction", "extra", "error")))


@dataclass(slots=True)
class _Entry:
    """A result with requests, or requests alone, and about how many bytes they take."""

    result: Values | None
    attempts: Sequence[Values]
    size: int


class Writer:
    """Keeps the rows of one run until the journal has them.

    Args:
        run_id: the run.
        ask: sends a request to the keeper of runs and returns its answer.
        log: the evaluator's.
    """

    def __init__(self, run_id: str, ask: Callable[..., Awaitable[Any]], log: Any) -> None:
        """Start with nothing to write."""
        self._run_id, self._ask, self._log = run_id, ask, log
        self._entries: deque[_Entry] = deque()
        self._bytes = 0
        self._there = asyncio.Event()
        # Entries ever taken in, and written; and what to call when as many are written as were taken in by then.
        self._taken = self._written = 0
        self._marks: deque[tuple[int, Callable[[], None]]] = deque()
        self._lock = asyncio.Lock()
        #: Why the journal takes nothing at present; None: it does.
        self.trouble: str | None = None

    @property
    def is_behind(self) -> bool:
        """Whether so much waits for the journal that no more should be asked."""
        return len(self._entries) > BACKLOG or self._bytes > BACKLOG_BYTES

    @property
    def left(self) -> int:
        """Return how many results, or requests without one, wait for the journal."""
        return len(self._entries)

    def add(self, results: Sequence[Values], attempts: Sequence[Values] = ()) -> None:
        """Take in results and requests, as they are written."""
        for result in results:
            self._append(_Entry(result, attempts, _ATTEMPT * len(attempts) + _size(result)))
            attempts = ()
        if attempts:
            self._append(_Entry(None, attempts, _ATTEMPT * len(attempts)))
        self._there.set()

    def _append(self, entry: _Entry) -> None:
        self._entries.append(entry)
        self._bytes += entry.size
        self._taken += 1

    def mark(self, written: Callable[[], None]) -> None:
        """Have `written` called when everything that was taken in until now is in the journal."""
        if self._written == self._taken:
            written()
        else:
            self._marks.append((self._taken, written))

    async def write(self, *, written: Callable[[], None], finished: Callable[[], bool]) -> None:
        """Bring rows to the journal until the run is finished; a batch is what came while the last was written.

        Args:
            written: called after each batch.
            finished: tells whether no more results will come.
        """
        while True:
            await self._there.wait()
            self._there.clear()
            while self._entries:
                await self._write_batch(self.write_down)
                written()
            if finished() and not self._entries:
                return

    async def bring_rest(self) -> None:
        """Bring what is here to the journal, without waiting for one that cannot write.

        Raises:
            DspexError: it cannot.
        """
        while self._entries:
            await self._write_batch(self._ask)

    async def _write_batch(self, write: Callable[[Any], Awaitable[Any]]) -> None:
        async with self._lock:
            size, count = 0, 0
            results: list[Values] = []
            attempts: list[Values] = []
            for entry in itertools.islice(self._entries, BATCH):
                if count and size + entry.size > BATCH_BYTES:
                    break
                size += entry.size
                count += 1
                if entry.result is not None:
                    results.append(entry.result)
                attempts += entry.attempts
            if not count:
                return
            # They stay in the queue until they are down: an evaluator that is told to end brings them again.
            await write(Add(self._run_id, results, attempts))
            for _ in range(count):
                self._entries.popleft()
            self._bytes -= size
            self._written += count
        while self._marks and self._marks[0][0] <= self._written:
            self._marks.popleft()[1]()

    async def write_down(self, request: Any) -> None:
        """Have something written to the journal, as soon as that can be."""
        while True:
            try:
                await self._ask(request)
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


def _size(result: Values) -> int:
    """Return about how many bytes a result takes."""
    return _ROW + sum(map(len, filter(None, _long(result))))
