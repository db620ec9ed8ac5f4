"""The actor `events`: the one writer of a node's store of events.

What comes in while one batch is being written goes into the next one: a transaction each. The file is written in a
thread, so that the actor answers meanwhile. It follows the bounds that the configuration sets. A disk that is full or
a file that is broken drops events, which are counted and told by an event later; nobody waits for it, and nothing
else stops. It takes what stands in `messages`.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from dspex_actors.foundation.events.kinds import EventsDropped
from dspex_actors.foundation.events.record import Record, to_record
from dspex_actors.foundation.following import ConfigChanged, follow
from dspex_actors.foundation.telemetry.recorded import events_dropped
from dspex_actors.observe.events.messages import EVENTS, Await, AwaitFlush, Flush, Keep, Stats, StoreStats, records_of
from dspex_actors.observe.events.store import EVENTS_FILE, MAX_AGE_SECONDS, MAX_BYTES, EventStore
from dspex_actors.observe.events.supervision import SupervisionReports
from dspex_actors.observe.telemetry import push
from supervisors import NO_REPLY, Caller, GenServer, Ref

#: The section of the configuration that it follows.
SETTINGS = "infrastructure.events"
#: A store that cannot be opened is tried again this often, in seconds.
OPEN_SECONDS = 2.0
#: The reports of supervisors are looked for, what is too old removed, and drops told this often, in seconds.
LOOK_SECONDS = 1.0
#: Somebody reads: what a process sends for the first time is here after so many seconds; what those send that were
#: asked to is waited for so long.
FIRST_SECONDS, SETTLE_SECONDS = 0.03, 1.0
#: Reasons for which a store is closed and opened anew: its file is not what it was.
_BROKEN = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)


class EventsServer(GenServer):
    """Writes the store. Arguments: how large it may be, in bytes, and how old an event, in seconds."""

    def init(self, max_bytes: int = MAX_BYTES, max_age: float = MAX_AGE_SECONDS) -> None:
        """Begin with no file open: one that cannot be opened is no reason not to start."""
        push.from_actor(self)
        self._path = Path(self.node["data_dir"]) / EVENTS_FILE
        self._bounds = {"max_bytes": max_bytes, "max_age": max_age}
        follow(self, SETTINGS)
        self._thread = ThreadPoolExecutor(1, "events-writer")
        self._store: EventStore | None = None
        self._tried = -OPEN_SECONDS
        self._error: str | None = None
        self._reports = SupervisionReports(Path(self.node["logs"]), str(self.node["name"]))
        #: What is to be written, and who waits for that.
        self._records: list[Record] = []
        self._callers: list[Caller] = []
        self._waiting: list[tuple[int, Caller]] = []
        self._dropped: Counter[str] = Counter()
        self._untold: Counter[str] = Counter()
        self._kept = self._last = 0
        self._wake = asyncio.Event()
        #: Who reads; who sends and waits to be asked; who was asked, and is not back yet.
        self._readers: list[Caller] = []
        self._senders: dict[Ref, Caller] = {}
        self._asked: set[Ref] = set()
        self._reading, self._settled = asyncio.Event(), asyncio.Event()
        self.spawn(self._write())
        self.spawn(self._flush())
        self.spawn(self._look())

    def handle_call(self, request: Any, caller: Caller) -> Any:
        """Take what `messages` has."""
        match request:
            case Keep(list(), int()):
                self._drop("queue", request.dropped)
                self._records += self._readable(request)
                self._callers.append(caller)
                self._wake.set()
            case Flush():
                self._readers.append(caller)
                self._reading.set()
            case AwaitFlush():
                self._senders[caller.ref] = caller
                self.when_given_up(caller, partial(self._forget, caller))
                self._asked.discard(caller.ref)
                self._settled.set()
            case Await(int(seq), int() | float() as seconds):
                if self._last > seq:
                    return self._last
                self._waiting.append((seq, caller))
                asyncio.get_running_loop().call_later(min(seconds, 60.0), self._give_up, caller)
            case Stats():
                return StoreStats(self._last, self._kept, dict(self._dropped), self._error)
            case _:
                return "error", f"the events actor does not know the request {request!r:.200}"
        return NO_REPLY

    async def handle_info(self, message: Any) -> None:
        """Take other bounds."""
        match message:
            case ConfigChanged(path, value) if (name := path.removeprefix(f"{SETTINGS}.")) in self._bounds:
                self._bounds[name] = value
                await self._in_thread(self._close)  # the next one that writes opens it with these
                self._tried = -OPEN_SECONDS
            case _:
                super().handle_info(message)

    async def terminate(self, reason: Any) -> None:
        """Write what is here, and close the file."""
        await self._keep_all()
        await self._in_thread(self._close)

    # --- writing ----------------------------------------------------------------------------------------------------

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            callers, self._callers = self._callers, []
            await self._keep_all()
            for caller in callers:
                self.reply(caller, None)
            self._tell()

    async def _look(self) -> None:
        while True:
            untold, self._untold = self._untold, Counter()
            if not await self._in_thread(self._housekeeping, untold):
                self._untold += untold  # next time
            self._tell()
            await asyncio.sleep(LOOK_SECONDS)

    async def _flush(self) -> None:
        """Answer those who read when what others have in their queues is here, and in the file: all in one round."""
        while True:
            await self._reading.wait()
            self._reading.clear()
            await asyncio.sleep(FIRST_SECONDS)
            readers, self._readers = self._readers, []
            self._asked = set(self._senders)
            waiting, self._senders = self._senders, {}
            for sender in waiting.values():
                self.reply(sender, None)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_SECONDS):
                    while self._asked:
                        self._settled.clear()
                        await self._settled.wait()
            self._callers += readers
            self._wake.set()

    def _readable(self, message: Keep) -> list[Record]:
        try:
            return records_of(message)
        except TypeError as error:
            self._complain(error)
            self._drop("unreadable", len(message.records))
            return []

    def _forget(self, sender: Caller) -> None:
        if self._senders.get(sender.ref) == sender:
            del self._senders[sender.ref]

    async def _keep_all(self) -> None:
        records, self._records = self._records, []
        if records and not await self._in_thread(self._keep, records):
            self._drop("disk", len(records))

    async def _in_thread(self, function: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    def _tell(self) -> None:
        """Answer those who wait for something new."""
        due = [caller for seq, caller in self._waiting if self._last > seq]
        self._waiting = [(seq, caller) for seq, caller in self._waiting if self._last <= seq]
        for caller in due:
            self.reply(caller, self._last)

    def _give_up(self, caller: Caller) -> None:
        if any(caller == one for _, one in self._waiting):
            self._waiting = [(seq, one) for seq, one in self._waiting if one != caller]
            self.reply(caller, self._last)

    def _drop(self, why: str, count: int) -> None:
        if count:
            self._dropped[why] += count
            self._untold[why] += count
            events_dropped(count, why)

    # --- in the thread ----------------------------------------------------------------------------------------------

    def _keep(self, records: list[Record]) -> bool:
        """Write a batch; return whether it is in the store."""
        store = self._opened()
        if store is not None:
            try:
                self._last = store.write(records)
                self._kept += len(records)
                self._error = None
                return True
            except sqlite3.Error as error:
                self._failed(error)
            except (TypeError, ValueError, OverflowError) as error:  # its sender would send it again, for ever
                self._complain(error)
        return False

    def _housekeeping(self, untold: Counter[str]) -> bool:
        """Take in reports of supervisors, say what was dropped, remove what is too old; return whether it was said."""
        store = self._opened()
        if store is None:
            return False
        is_told = False
        try:
            records, seen = self._reports.new(store.note("reports"))
            if untold:
                event = EventsDropped(count=untold.total(), why=dict(untold), node=str(self.node["name"]), actor=EVENTS)
                records.append(to_record(event))
            if records:
                self._last = store.write(records)
                is_told = True
                store.keep_note("reports", seen)
            store.prune()
            self._error = None
        except sqlite3.Error as error:
            self._failed(error)
            self._reports.look_again()
        return is_told

    def _opened(self) -> EventStore | None:
        """Return the store, opened if it is not; None where that is not possible now."""
        now = time.monotonic()
        if self._store is None and now - self._tried >= OPEN_SECONDS:
            self._tried = now
            try:
                self._store = EventStore(self._path, int(self._bounds["max_bytes"]), self._bounds["max_age"])
                self._last = self._store.last
                if self._store.was_damaged:
                    self.log.error("the store of events was damaged: put aside, begun anew", file=str(self._path))
            except (sqlite3.Error, OSError) as error:
                self._complain(error)
        return self._store

    def _failed(self, error: sqlite3.Error) -> None:
        self._complain(error)
        if (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _BROKEN:
            self._close()

    def _close(self) -> None:
        if self._store is not None:
            with contextlib.suppress(sqlite3.Error):
                self._store.close()
            self._store = None

    def _complain(self, error: Exception) -> None:
        if self._error is None:  # once until it is well again
            self.log.error("the store of events cannot be written: events are dropped", error=str(error))
        self._error = str(error)
