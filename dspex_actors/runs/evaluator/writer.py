"""Results on their way from a run's evaluator to the journal: batch after batch, again while it cannot write."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from operator import itemgetter
from typing import Any, NamedTuple

from dspex_actors.journal.errors import JournalError
from dspex_actors.journal.rows import packed_rows
from dspex_actors.journal.schema import RESULT_COLUMNS, Values
from dspex_actors.runs.messages import NO_ROWS, Add

#: The journal is tried again this often, in seconds, while the disk is full.
RETRY_SECONDS = 0.5
#: About the most results in one transaction, and the most bytes: a batch is in memory several times while it is packed.
BATCH, BATCH_BYTES = 1000, 2 << 20
#: A batch of so many rows does not wait for the one before, where the journal has copies on other nodes.
LARGE_BATCH = 200
#: At most so many results wait for the journal, of about so many bytes; with more, no more work is given out.
BACKLOG, BACKLOG_BYTES = 6_000, 32 << 20
#: What a row takes beside its long values, and what a request takes; about.
_ROW, _ATTEMPT = 300, 300
_long = itemgetter(*map(RESULT_COLUMNS.index, ("example", "prediction", "extra", "error")))


class _Entry(NamedTuple):
    """Results and requests that came together: how many rows, and about how many bytes, they are."""

    results: Sequence[Values]
    attempts: Sequence[Values]
    rows: int
    size: int


class _Entries(NamedTuple):
    """Entries that are in one batch: how many, their rows, and about how many bytes they are."""

    number: int
    rows: int
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
        # Of the coordinator, and of the opening of the run; and the last batch that was made.
        self._epoch = self._opening = self._number = 0
        self._entries: deque[_Entry] = deque()
        self._rows = self._bytes = 0
        self._there = asyncio.Event()
        # Entries ever taken in, and written; and what to call when as many are written as were taken in by then.
        self._taken = self._written = 0
        self._marks: deque[tuple[int, Callable[[], None]]] = deque()
        self._lock = asyncio.Lock()
        # Batches under way: their tasks, how many entries, rows and bytes each has; and the entries of all of them.
        self._depth = 1
        self._flying: deque[tuple[asyncio.Task[Any], _Entries]] = deque()
        self._sent = self._sent_rows = 0
        self._is_ending = False
        #: Why the journal takes nothing at present; None: it does.
        self.trouble: str | None = None

    def opened(self, epoch: int, opening: int, depth: int = 1) -> None:
        """Take in what the keeper has opened the run as, and how many batches may be on their way to it at once."""
        self._epoch, self._opening, self._depth = epoch, opening, depth

    @property
    def is_behind(self) -> bool:
        """Whether so much waits for the journal that no more should be asked."""
        return self._rows > BACKLOG or self._bytes > BACKLOG_BYTES

    @property
    def takes_more(self) -> bool:
        """Whether what is asked now can be written down."""
        return self.trouble is None and not self.is_behind

    @property
    def left(self) -> int:
        """Return how many results, or requests without one, wait for the journal."""
        return self._rows

    def add(self, results: Sequence[Values], attempts: Sequence[Values] = ()) -> None:
        """Take in results and requests, as they are written; what is taken in together is written together."""
        rows = max(len(results), len(attempts))
        if rows:
            size = _ROW * len(results) + _ATTEMPT * len(attempts) + sum(map(_long_bytes, results))
            self._entries.append(_Entry(results, attempts, rows, size))
            self._rows += rows
            self._bytes += size
            self._taken += 1
        self._there.set()  # also where there was nothing: the run may be finished now

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
            while self._entries if self._depth == 1 else self._goes_on():
                if self._depth == 1:
                    await self._write_batch(self.write_down)
                written()
            if finished() and not self._entries:
                return

    def _goes_on(self) -> bool:
        """Send more batches, and say whether one has come back.

        They are written in their order: each names the one before it, and is refused until that is there.
        """
        comes_back = bool(self._flying) and self._flying[0][0].done()
        if comes_back:
            task, entries = self._flying.popleft()
            task.result()
            self._sent -= entries.number
            self._sent_rows -= entries.rows
            self._drop(entries)
        while not self._is_ending and len(self._flying) < self._depth and self._sent < len(self._entries):
            if self._flying and self._rows - self._sent_rows < LARGE_BATCH:
                break
            entries, add = self._next_batch(self._sent, self._number if self._flying else 0)
            task = asyncio.create_task(self.write_down(add))
            task.add_done_callback(lambda _: self._there.set())
            self._flying.append((task, entries))
            self._sent += entries.number
            self._sent_rows += entries.rows
        return comes_back

    async def bring_rest(self) -> None:
        """Bring what is here to the journal, without waiting for one that cannot write.

        Raises:
            DspexError: it cannot.
        """
        self._is_ending = True
        while self._flying:  # they come again, in other batches
            self._flying.pop()[0].cancel()
        self._sent = self._sent_rows = 0
        while self._entries:
            await self._write_batch(self._ask)

    async def _write_batch(self, write: Callable[[Any], Awaitable[Any]]) -> None:
        async with self._lock:
            if not self._entries:
                return
            # They stay in the queue until they are down: an evaluator that is told to end brings them again.
            # What is packed once more for that, maybe with others, is another batch: its rows count once all the same.
            entries, add = self._next_batch(0, 0)
            await write(add)
            self._drop(entries)

    def _next_batch(self, first: int, after: int) -> tuple[_Entries, Add]:
        """Return the entries from the `first` one on that go into one batch, and the batch.

        Args:
            first: that one is there.
            after: the number of the batch that has to be there before; 0: none.
        """
        count = rows = size = 0
        results: list[Values] = []
        attempts: list[Values] = []
        for entry in islice(self._entries, first, None):
            if count and (rows + entry.rows > BATCH or size + entry.size > BATCH_BYTES):
                break
            count += 1
            rows += entry.rows
            size += entry.size
            results += entry.results
            attempts += entry.attempts
        self._number += 1
        packed = packed_rows(results, attempts)
        add = Add(self._run_id, self._epoch, self._opening, self._number, packed, after)
        return _Entries(count, rows, size), add

    def _drop(self, entries: _Entries) -> None:
        """Forget the first entries: they are down."""
        for _ in range(entries.number):
            self._entries.popleft()
        self._rows -= entries.rows
        self._bytes -= entries.size
        self._written += entries.number
        while self._marks and self._marks[0][0] <= self._written:
            self._marks.popleft()[1]()

    async def is_ours(self) -> bool:
        """Return True when the journal has said that the run is still ours; a batch without rows asks just that."""
        await self.write_down(Add(self._run_id, self._epoch, self._opening, self._number, NO_ROWS))
        return True

    async def write_down(self, request: Any) -> Any:
        """Have something written to the journal, as soon as that can be; return the keeper's answer."""
        while True:
            try:
                answer = await self._ask(request)
            except JournalError as error:
                if self.trouble is None:
                    self._log.error("the run waits for its journal", run=self._run_id, why=str(error))
                self.trouble = str(error)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if self.trouble is not None:
                self._log.info("the journal takes results again", run=self._run_id)
                self.trouble = None
            return answer


def _long_bytes(result: Values) -> int:
    """Return how many bytes the long values of a result take."""
    return sum(map(len, filter(None, _long(result))))
