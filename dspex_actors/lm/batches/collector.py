"""The collector of batches: one per node, started when a run first goes through batches.

It gathers the requests of a run until no more come: that is a round, all examples wait for an answer. A round is one
batch, or as many as the provider's limits make of it. Everything is written down first (`store`), so whatever is
killed, the collector too, goes on where it was: a request that is in a batch is waited for, and not asked again.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import orjson

from dspex_actors.errors import DspexError
from dspex_actors.lm.batches.carrier import Carrier, Halved
from dspex_actors.lm.batches.formats import FORMATS, progress_text
from dspex_actors.lm.batches.messages import BATCHES, AskInBatch, BatchNews, EndBatches, InBatch, KnowsRequest
from dspex_actors.lm.batches.store import ANSWERED, BATCHES_FILE, FAILED, NEW, Asked, Batch, BatchStore, LineOf
from dspex_actors.observe.reporting import report_from_actor
from supervisors import NO_REPLY, Caller, ChildSpec, GenServer, Ref
from supervisors.errors import CallFailed

#: What stands around a request in a batch, in bytes, at most.
_AROUND = 200
#: A round that never ends goes after so many times the quiet that is waited for.
_LONGEST = 60
#: While nothing can be written down it is tried again after so many seconds.
_DISK_SECONDS = 5.0
#: What is under way is left after so many seconds.
_END_SECONDS = 2.0


def batches_spec() -> ChildSpec:
    """Return the collector as a child of the branch of observers."""
    return ChildSpec(BATCHES, Batches, name=BATCHES, shutdown=5.0)


class _Waiter:
    """Who waits for a request."""

    __slots__ = ("caller", "example", "worker")

    def __init__(self, caller: Caller, example: int, worker: Ref) -> None:
        self.caller, self.example, self.worker = caller, example, worker


class _Round:
    """What has been asked since the last batch of a line."""

    __slots__ = ("bytes", "count", "first", "full", "last")

    def __init__(self) -> None:
        self.first = self.last = time.monotonic()
        self.count = self.bytes = 0
        self.full = asyncio.Event()


class Batches(GenServer):
    """The collector. Requests: `AskInBatch`, `KnowsRequest`, `EndBatches`, and "batches" for how all of them stand."""

    def init(self) -> None:
        """Go on with the batches that are under way."""
        report_from_actor(self)
        self._path = Path(self.node["data_dir"]) / BATCHES_FILE
        self._store = BatchStore(self._path)
        self._waiting: dict[tuple[str, bytes], list[_Waiter]] = {}
        self._workers: dict[str, Counter[Ref]] = {}
        self._rounds: dict[int, _Round] = {}
        self._carriers: dict[int, Carrier] = {}
        self._told: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        for batch in self._store.open_batches():
            self._carry(batch)

    async def terminate(self, reason: Any) -> None:
        """Leave batches where they are, and close the file."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_END_SECONDS)
        self._store.close()

    def handle_call(self, request: Any, caller: Caller) -> Any:
        """Answer one request; what is asked in a batch is answered when the batch has it."""
        match request:
            case AskInBatch():
                try:
                    self._ask(request, caller)
                except sqlite3.Error as error:  # a full disk: who waits, waits for that
                    return "again", f"batches cannot be written down: {error}"
                return NO_REPLY
            case KnowsRequest(run, key):
                return self._store.find(run, key) is not None
            case EndBatches(run):
                try:
                    self._end(run)
                except sqlite3.Error as error:  # a full disk: it is asked again
                    self.reply_error(caller, CallFailed(f"batches cannot be written down: {error}"))
                    return NO_REPLY
                return None
            case "batches":
                return [self._shown(carrier) for carrier in self._carriers.values()]
        return "error", DspexError(f"the collector of batches does not know {request!r:.200}").to_record()

    def _shown(self, carrier: Carrier) -> dict[str, Any]:
        batch = carrier.batch
        return {
            "run_id": carrier.line.run, "model": carrier.line.deployment.model, "batch": batch.remote,
            "state": batch.state, "requests": batch.size, "done": carrier.done, "trouble": carrier.trouble,
        }  # fmt: skip

    # --- asked ------------------------------------------------------------------------------------------------------

    def _ask(self, asked: AskInBatch, caller: Caller) -> None:
        known, line = self._store.find(asked.run, asked.key), None
        if known is not None and known.state in (ANSWERED, FAILED):
            is_payer = known.place[0] == asked.place[0] or not known.told
            self._answer(known, caller, is_payer=is_payer)
            return
        if known is None:
            line = self._store.line_for(asked)
            self._store.add(asked, line.id)
        waiter = _Waiter(caller, asked.place[0], asked.worker)
        self._waiting.setdefault((asked.run, asked.key), []).append(waiter)
        self._workers.setdefault(asked.run, Counter())[asked.worker] += 1
        if line is not None:
            self._came(line, 1, len(asked.body))
        elif known is not None and known.state != NEW:
            self.cast(asked.worker, InBatch(asked.run, [known.key], [known.place]))
            if (text := self._told.get(asked.run)) is not None:
                self.cast(asked.worker, BatchNews(asked.run, text))
        self.when_given_up(caller, lambda: self._given_up(asked.run, asked.key, waiter))

    def _given_up(self, run: str, key: bytes, waiter: _Waiter) -> None:
        waiters = self._waiting.get((run, key), [])
        if waiter not in waiters:
            return
        waiters.remove(waiter)
        self._left(run, waiter)
        if not waiters:
            del self._waiting[run, key]
            with contextlib.suppress(sqlite3.Error):
                known = self._store.find(run, key)
                if known is not None and known.state == NEW:
                    self._store.drop(known.id)  # it was not asked, and nobody wants it now

    def _left(self, run: str, waiter: _Waiter) -> None:
        workers = self._workers[run]
        workers[waiter.worker] -= 1
        if not workers[waiter.worker]:
            del workers[waiter.worker]
        if not workers:
            del self._workers[run]

    def _answer(self, row: Asked, caller: Caller, *, is_payer: bool) -> None:
        place = row.place if is_payer else None
        if row.state == FAILED:
            self.reply(caller, ("error", orjson.loads(row.answer or b"{}")))
        else:
            self.reply(caller, ("answer", row.status, row.request_id, row.answer, place, row.asked))
        # With a full disk the row stays as it is: others wait for theirs, and in the books it counts once all the same.
        with contextlib.suppress(sqlite3.Error):
            if row.state == FAILED or (row.status or 0) >= 300:
                self._store.drop(row.id)  # it is asked anew, if at all: a refusal costs nothing, and may be none then
            elif is_payer and not row.told:
                row.told = True
                self._store.told(row.id)

    # --- rounds -----------------------------------------------------------------------------------------------------

    def _came(self, line: LineOf, count: int, size: int) -> None:
        """Take note of requests that wait for a batch."""
        round_ = self._rounds.get(line.id)
        if round_ is None:
            round_ = self._rounds[line.id] = _Round()
            self._start(self._gather(line, round_))
        round_.last = time.monotonic()
        round_.count += count
        round_.bytes += size + _AROUND * count
        wire = FORMATS[line.deployment.provider]
        if round_.count >= wire.most or round_.bytes >= wire.most_bytes:
            round_.full.set()

    async def _gather(self, line: LineOf, round_: _Round) -> None:
        """Wait until no more come, and make batches of what is there."""
        while not round_.full.is_set():
            now = time.monotonic()
            left = min(round_.last + line.gather, round_.first + _LONGEST * line.gather) - now
            if left <= 0:
                break
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await round_.full.wait()
        del self._rounds[line.id]
        wire = FORMATS[line.deployment.provider]
        while True:
            try:
                batch = self._store.begin(line.id, wire.most, wire.most_bytes, _AROUND)
            except sqlite3.Error as error:
                await self._cannot_write(error)
                continue
            if batch is None:
                return
            self._tell_in_batch(line.run, batch)
            self._carry(batch)

    async def _cannot_write(self, error: Exception) -> None:
        self.log.error("batches cannot be written down: they wait for that", why=str(error))
        await asyncio.sleep(_DISK_SECONDS)

    def _tell_in_batch(self, run: str, batch: Batch) -> None:
        rows: dict[Ref, list[Asked]] = {}
        for row in self._store.keys_of(batch.id):
            for worker in {waiter.worker for waiter in self._waiting.get((run, row.key), ())}:
                rows.setdefault(worker, []).append(row)
        for worker, mine in rows.items():
            self.cast(worker, InBatch(run, [row.key for row in mine], [row.place for row in mine]))

    def _carry(self, batch: Batch) -> None:
        line = self._store.line(batch.line)
        carrier = Carrier(
            batch, line, self._store, self._path, lambda rows: self._have(line.run, rows), self._again,
            lambda: self._tell_news(line.run), self.log,
        )  # fmt: skip
        self._carriers[batch.id] = carrier
        self._start(self._run(carrier))

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self.spawn(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, carrier: Carrier) -> None:
        try:
            await carrier.run()
        except Halved as halved:
            for batch in halved.batches:
                self._carry(batch)
        except (sqlite3.Error, OSError) as error:  # a full disk, also for the file that is sent
            await self._cannot_write(error)
            self._carry(carrier.batch)  # it stands as it is written down
            return
        del self._carriers[carrier.batch.id]
        self._tell_news(carrier.line.run)

    # --- answered ---------------------------------------------------------------------------------------------------

    def _have(self, run: str, rows: list[Asked]) -> None:
        """Give results to those that wait for them."""
        for row in rows:
            waiters = self._waiting.pop((run, row.key), [])
            # In the books it stands once, however often it is told; one of those that wait may have died just now.
            is_here = any(one.example == row.place[0] for one in waiters)
            for waiter in waiters:
                self._left(run, waiter)
                self._answer(row, waiter.caller, is_payer=waiter.example == row.place[0] or not is_here)

    def _again(self, line: LineOf, rows: list[Asked]) -> None:
        """Take in what was not done in time: it goes into another batch, if somebody waits for it."""
        wanted = [row for row in rows if (line.run, row.key) in self._waiting]
        if wanted:
            self.log.info("requests that were not done in time are asked again", run=line.run, requests=len(wanted))
            self._came(line, len(wanted), 0)
        for row in rows:
            if (line.run, row.key) not in self._waiting:
                self._store.drop(row.id)

    def _tell_news(self, run: str) -> None:
        """Tell those who wait how the batches of a run stand, where that is another thing than before."""
        mine = [one for one in self._carriers.values() if one.line.run == run and one.batch.state != "over"]
        if not mine:
            self._told.pop(run, None)
            return
        began = [one.batch.began for one in mine if one.batch.began is not None]
        text = progress_text(
            sum(one.batch.size for one in mine), sum(one.done for one in mine), len(mine),
            min(began, default=None), time.time(),
        )  # fmt: skip
        trouble = next((one.trouble for one in mine if one.trouble is not None), None)
        text = text if trouble is None else f"{text}; {trouble}"
        if self._told.get(run) != text:
            self._told[run] = text
            for worker in self._workers.get(run, ()):
                self.cast(worker, BatchNews(run, text))

    # --- the end ----------------------------------------------------------------------------------------------------

    def _end(self, run: str) -> None:
        """Cancel what is under way for a run, and forget it."""
        mine = [carrier for carrier in self._carriers.values() if carrier.line.run == run]
        for carrier in mine:
            carrier.end()  # also where nothing can be written down
        for carrier in mine:
            carrier.cancel()
        self._store.end_run(run)
        self._told.pop(run, None)
