"""The actor `telemetry`: hears what the node's processes count and measure, and tells it to who asks.

Started by the first process that has something to tell. What it takes stands in `messages`; the table that it keeps is
`foundation.telemetry.merge.Book`. Every second it writes that down, so one that is killed goes on with the totals, and
with what processes have told that ended meanwhile; those that are there tell it everything again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any

import msgpack

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.files import write_whole
from dspex_actors.foundation.following import ConfigChanged, follow
from dspex_actors.foundation.ids import new_id
from dspex_actors.foundation.telemetry.merge import Book, Source, plain_rows, view
from dspex_actors.foundation.telemetry.rates import Rates
from dspex_actors.names import TELEMETRY
from dspex_actors.observe.telemetry.endpoint import Endpoint
from dspex_actors.observe.telemetry.messages import Await, Heard, Read, Tell
from dspex_actors.observe.telemetry.teller import TELL_SECONDS
from supervisors import NO_REPLY, Caller, ChildSpec, GenServer
from supervisors.host import processes

FILE = "telemetry.state"
#: The section of the configuration that it follows.
SETTINGS = "infrastructure.telemetry"
#: It is written this often while something changes, in seconds; a table that takes long to write less often.
WRITE_SECONDS, WRITE_SHARE = 1.0, 0.02
#: Who reads waits at most so long for processes to tell what is new, in seconds.
FRESH_SECONDS = 0.3


class Telemetry(GenServer):
    """Keeps the telemetry of one node, since its daemon started."""

    def init(self) -> None:
        """Go on with what the one before has written down, if that was under the same daemon."""
        self._path = Path(self.node["data_dir"]) / "run" / FILE
        self._epoch = new_id()
        self._began = time.monotonic()
        self._book = self._read_file()
        self._rates = Rates(self._began)
        self._awaiting: dict[str, Caller] = {}
        #: Those that are to tell what is new before somebody's answer, and those that will tell nothing more.
        self._asked: dict[str, asyncio.Event] = {}
        self._leaving: set[str] = set()
        self._is_written = True
        self._pause = WRITE_SECONDS
        self._interval, self._is_on = TELL_SECONDS, True
        self._endpoint = Endpoint(self._page, self.log)
        self._serving: asyncio.Task[None] | None = None
        follow(self, SETTINGS)

    def _read_file(self) -> Book:
        try:
            uid, plain = msgpack.unpackb(self._path.read_bytes(), strict_map_key=False)
            if uid == self.node["uid"]:
                return Book.from_plain(plain)
        except FileNotFoundError:
            pass
        except Exception as error:
            self.log.warning("what telemetry had written down cannot be read: it begins anew", why=str(error))
        return Book()

    def terminate(self, reason: Any) -> None:
        """Write the last down."""
        self._write()

    # --- told -------------------------------------------------------------------------------------------------------

    def handle_call(self, request: Any, caller: Caller) -> Any:
        """Hear a process, or answer who reads."""
        match request:
            case Tell(str(), str(), int(), int(), list()):
                return self._hear(request)
            case Await(str(incarnation)):
                if incarnation in self._asked:
                    return None  # somebody wants to read
                self._awaiting[incarnation] = caller
                self.when_given_up(caller, lambda: self._forget(incarnation, caller))
                return NO_REPLY
            case Read(str(), _, str()):
                self.spawn(self._answer(request, caller))
                return NO_REPLY
        self.log.error("telemetry does not know a request", request=repr(request)[:200])
        return "error", ConfigError(f"telemetry does not know the request {request!r:.200}").to_record()

    def handle_cast(self, message: Any) -> None:
        """Take note of what is not known here."""
        self.log.error("telemetry does not know a message", message=repr(message)[:200])

    def handle_info(self, message: Any) -> None:
        """Write down what is new; do what the configuration says."""
        match message:
            case "write":
                self._bury()
                self._write()
            case ConfigChanged(path, value):
                self._configure(path.removeprefix(f"{SETTINGS}."), value)

    def _configure(self, setting: str, value: Any) -> None:
        match setting:
            case "metrics_port":
                if self._serving is not None:
                    self._serving.cancel()
                self._serving = self.spawn(self._endpoint.serve(value))
            case "interval":
                self._interval = value
            case "enabled":
                self._is_on = value
        if setting in ("interval", "enabled"):
            self._wake_all()

    def _forget(self, incarnation: str, caller: Caller) -> None:
        if self._awaiting.get(incarnation) == caller:
            del self._awaiting[incarnation]

    def _hear(self, told: Tell) -> Heard:
        now = time.monotonic()
        source = Source(told.actor, told.pid, told.born)
        is_known = told.incarnation in self._book.sources
        try:
            grown = self._book.tell(told.incarnation, source, told.rows)
        except (TypeError, ValueError, AttributeError) as error:
            self.log.error("telemetry was told what it cannot read", by=told.actor, why=repr(error)[:200])
            return self._heard()
        if is_known or not told.is_again:  # what an actor of before has heard has not come in the last minute
            for name, tags, more in grown:
                self._rates.grow((name, tags), more, now)
        asked = self._asked.pop(told.incarnation, None)
        if asked is not None:
            asked.set()
        if told.is_last:
            self._leaving.add(told.incarnation)
            self._write()
            return self._heard()
        self._leaving.discard(told.incarnation)
        if self._is_written and told.rows:
            self._is_written = False
            self.send_after(self._pause, "write")
        return self._heard()

    def _heard(self) -> Heard:
        return Heard(self._epoch, self._interval, self._is_on)

    def _bury(self) -> None:
        """Put the figures of processes that have ended into the totals."""
        for incarnation, source in list(self._book.sources.items()):
            with contextlib.suppress(OSError):
                if processes.has_ended(source.pid, source.born):
                    self._book.end(incarnation)
                    self._leaving.discard(incarnation)

    def _write(self) -> None:
        began = time.monotonic()
        try:
            write_whole(self._path, msgpack.packb([self.node["uid"], self._book.to_plain()]))
        except OSError as error:
            self.log.warning("telemetry cannot be written down", why=str(error))
        self._pause = max(WRITE_SECONDS, (time.monotonic() - began) / WRITE_SHARE)
        self._is_written = True

    # --- asked ------------------------------------------------------------------------------------------------------

    async def _answer(self, read: Read, caller: Caller) -> None:
        if read.fresh:
            await self._ask_all()
        self._bury()
        rates = self._rates.per_second(time.monotonic())
        match read.form:
            case "rows":
                answer: Any = plain_rows(self._book.whole(read.prefix))
            case "actors":
                tables = self._book.by_actor(read.prefix)
                answer = {actor: view(table) for actor, table in tables.items() if table}
            case _:
                answer = view(self._book.whole(read.prefix), rates)
        self.reply(caller, answer)

    async def _ask_all(self) -> None:
        """Have every process tell what is new; who takes longer is not waited for."""
        # Those that have something to tell come at once; who was first has had this actor started.
        await asyncio.sleep(self._began + FRESH_SECONDS - time.monotonic())
        self._bury()
        self._wake_all()
        for incarnation in self._book.sources:
            if incarnation not in self._leaving:  # one that does not wait yet is about to
                self._asked.setdefault(incarnation, asyncio.Event())
        asked = dict(self._asked)
        if asked:
            told = [asyncio.ensure_future(event.wait()) for event in asked.values()]
            await asyncio.wait(told, timeout=FRESH_SECONDS)
            for (incarnation, event), task in zip(asked.items(), told, strict=True):
                task.cancel()
                if self._asked.get(incarnation) is event:  # it has died, or is busy: the next one does not wait for it
                    del self._asked[incarnation]

    def _wake_all(self) -> None:
        """Have every process tell soon, and hear how it is to be told."""
        waiting, self._awaiting = self._awaiting, {}
        for incarnation, caller in waiting.items():
            self._asked.setdefault(incarnation, asyncio.Event())
            self.reply(caller, None)

    async def _page(self) -> bytes:
        from dspex_actors.observe.telemetry.prometheus import page

        await self._ask_all()
        return page(self._book.whole())


def telemetry_spec() -> ChildSpec:
    """Return the child of the observers' branch that the actor is."""
    return ChildSpec(TELEMETRY, Telemetry, name=TELEMETRY)
