"""Brings one batch to its provider, once, and its results back, whatever is killed meanwhile.

A batch is *made* (on the disk), *sending* (its name is on the disk, the provider may have it), *out* (the provider's id
is on the disk), and *over*. Whoever finds one that is being sent looks whether the provider has it before it sends it
again: OpenAI keeps our name with it; Anthropic keeps none, so one of its size is waited for, and its results tell.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from dspex_actors.errors import InvalidRequest, LMError, Overloaded
from dspex_actors.lm.batches import formats
from dspex_actors.lm.batches.formats import FORMATS, Line, OpenAIBatches, Standing
from dspex_actors.lm.batches.http import BatchHttp, is_refused, may_pass
from dspex_actors.lm.batches.store import ANSWERED, FAILED, Asked, Batch, BatchStore, LineOf, write_batch
from dspex_actors.lm.wire import bodies, wire_for

#: What was sent and is not to be found is looked for during so many seconds, before it is sent again.
SETTLE_SECONDS = 20.0
#: Clocks of a provider and ours may differ by so many seconds.
CLOCKS_SECONDS = 600.0
#: After a failure for the moment it is tried again after so many seconds, then after twice as many, at most so many.
AGAIN_FIRST, AGAIN_LAST = 0.5, 60.0
#: OpenAI has a limit on tokens in all batches of a model: what does not fit is tried again after so many seconds.
FULL_SECONDS = 60.0
_FULL = "token_limit_exceeded"
#: Results are written down so many at a time.
_RESULTS = 500
_GONE = "the batch was cancelled at the provider"
_MISSING = "the batch has ended without an answer"

#: Called with requests that have their result, and with those that wait for another batch.
Tell = Callable[[list[Asked]], None]
Again = Callable[[LineOf, list[Asked]], None]


class Halved(Exception):
    """A batch has become several.

    Args:
        batches: what it has become.
    """

    def __init__(self, batches: list[Batch]) -> None:
        """Keep them."""
        super().__init__()
        self.batches = batches


class Carrier:
    """One batch on its way.

    Args:
        batch: it.
        line: what is in it.
        store: where it is written down.
        folder: for the file that is sent.
        tell: takes requests with their results.
        again: takes requests that wait for another batch.
        news: called when something has changed that people want to know.
        log: the collector's.
    """

    def __init__(
        self, batch: Batch, line: LineOf, store: BatchStore, path: Path, tell: Tell, again: Again,
        news: Callable[[], None], log: Any,
    ) -> None:  # fmt: skip
        """Begin."""
        self.batch, self.line = batch, line
        #: Of its requests, those that are done, as far as is told; and why nothing goes on, if that is so.
        self.done = 0
        self.trouble: str | None = None
        self._store, self._path = store, path
        self._tell, self._again, self._news, self._log = tell, again, news, log
        deployment = line.deployment
        wire = wire_for(deployment.provider, line.model_type)
        assert wire is not None
        self._wire = wire
        self._format = FORMATS[deployment.provider]
        self._http = BatchHttp(deployment, wire)
        self._endpoint = formats.endpoint_of(wire.path(deployment.model_name))
        self._tries = 0
        self._sent_at = time.monotonic()  # where it was sent by an earlier collector, that was now, to be safe
        self._cancel = asyncio.Event()
        if batch.state == "cancelling":
            self._cancel.set()

    def end(self) -> None:
        """Have it cancelled at the provider, as long as this process lives."""
        self._cancel.set()

    def cancel(self) -> None:
        """Have it cancelled, whoever is killed: nobody wants its results any more."""
        self._cancel.set()
        if self.batch.state == "made":
            self._store.change(self.batch, state="over")
        elif self.batch.state in ("sending", "out"):
            self._store.change(self.batch, state="cancelling")

    async def run(self) -> None:
        """Send it, wait for its end, and bring in its results.

        Raises:
            Halved: it is several now, which have to be carried.
        """
        try:
            if self.batch.remote is None:
                await self._send()
            if self.batch.state != "over":
                await self._follow()
        except LMError as error:
            error.provider, error.model = self.line.deployment.provider, self.line.deployment.model_name
            self._fail(error)
        finally:
            await self._http.close()

    # --- out --------------------------------------------------------------------------------------------------------

    async def _send(self) -> None:
        """Submit it, unless the provider has it already.

        Raises:
            LMError: the provider will not have it.
        """
        while self.batch.remote is None and self.batch.state != "over":
            was_sent = self.batch.state in ("sending", "cancelling")
            try:
                found = await self._find() if was_sent else None
            except LMError as error:  # a refusal too: the provider may have it, and whoever pays must not lose it
                await self._wait_after(error)
                continue
            if found is not None:
                self._is_out(found)
                return
            try:
                if self.batch.state == "cancelling":
                    self._store.change(self.batch, state="over")  # it never arrived
                    return
                if (told := await self._submit()) is not None:
                    self._is_out(told)
            except LMError as error:
                if not was_sent and is_refused(error) and self.batch.state == "sending":
                    self._store.change(self.batch, state="made")  # it is certainly not there
                if is_refused(error) and not may_pass(error):
                    raise
                await self._wait_after(error)

    async def _submit(self) -> Standing | None:
        wire, batch = self._format, self.batch
        file = self._path.with_name(f"batch-{batch.tag}.part")
        try:
            if not wire.has_file or batch.file is None:
                item = functools.partial(_item, wire, batch.tag, self._endpoint)
                parts = wire.before, wire.between, wire.behind
                await asyncio.to_thread(write_batch, self._path, batch.id, file, parts, item)
            if isinstance(wire, OpenAIBatches):
                if batch.file is None:
                    uploaded = await self._http.upload("/files", file, f"dspex-{batch.tag}.jsonl")
                    self._store.change(batch, file=_read(formats.id_in, uploaded.get("id")))
                names = {formats.TAG: batch.tag, "dspex_run": self.line.run[:512]}
                if not self._sends():
                    return None
                told = await self._http.post(wire.path, wire.creation(str(batch.file), self._endpoint, names))
            else:
                if not self._sends():
                    return None
                told = await self._http.post_file(wire.path, file)
        finally:
            file.unlink(missing_ok=True)
        return _standing(wire, told)

    def _sends(self) -> bool:
        """Write down that the provider may have it from now on; False: nobody wants it any more."""
        if self.batch.state == "over":
            return False
        self._store.change(self.batch, state="sending", sent=self.batch.sent or time.time())
        self._sent_at = time.monotonic()
        return True

    async def _find(self) -> Standing | None:
        """Return the batch as the provider has it; None: it has it not, as far as can be known after some time.

        Raises:
            LMError: nobody knows.
        """
        batch, since = self.batch, self.batch.sent or time.time()
        while True:
            is_late = time.monotonic() - self._sent_at > SETTLE_SECONDS
            candidates = formats.found_again(
                batch.tag, batch.size, since - CLOCKS_SECONDS, self._store.remotes(), await self._listed(since),
                by_size=not self._format.has_names,
            )  # fmt: skip
            for one in candidates:
                if self._format.has_names or await self._is_mine(one):
                    return one
            if is_late:
                return None
            await asyncio.sleep(min(1.0, self.line.poll))

    async def _listed(self, since: float) -> list[Standing]:
        found: list[Standing] = []
        after = ""
        while True:
            path = f"{self._format.path}?limit={self._format.page_size}{after}"
            page, following = _read(self._format.page, await self._http.get(path))
            found += page
            if following is None or (page and page[-1].made < since - CLOCKS_SECONDS):
                return found
            after = f"&{self._format.cursor}={following}"

    async def _is_mine(self, one: Standing) -> bool:
        """Wait until a batch has ended, and look whether its results are for this one's requests."""
        while not one.has_ended:
            self.trouble = "a batch that may be ours is waited for"
            self._news()
            await self._pause(self.line.poll)
            one = _standing(self._format, await self._http.get(f"{self._format.path}/{one.remote}"))
        self.trouble = None
        for path in one.files:
            async with contextlib.aclosing(self._http.lines(path)) as lines:
                async for line in lines:
                    name = _read(self._format.line, _read(bodies.load, line)).name
                    return formats.number_of(self.batch.tag, name) is not None
        return False

    def _is_out(self, found: Standing) -> None:
        state = "cancelling" if self.batch.state == "cancelling" else "out"
        self._store.change(self.batch, remote=found.remote, began=found.made, state=state)
        self._log.info("a batch is out", run=self.line.run, batch=found.remote, requests=self.batch.size)
        self._well()

    # --- in ---------------------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        path, asked_to_end = f"{self._format.path}/{self.batch.remote}", False
        while True:
            try:
                if self._cancel.is_set() and not asked_to_end:
                    await self._end_there(path)
                    asked_to_end = True
                standing = _standing(self._format, await self._http.get(path))
                self.done = standing.done
                if standing.has_ended and standing.why is None and not self._cancel.is_set():
                    await self._bring_in(standing)
            except LMError as error:
                if error.status == 404 and time.monotonic() - self._sent_at > SETTLE_SECONDS:
                    raise  # it is not there any more; one that was just made may not be there yet
                await self._wait_after(error)
                continue
            if standing.has_ended:
                break
            self._well()
            await self._pause(self.line.poll)
        if standing.why is not None and not self._cancel.is_set():
            await self._was_refused(*standing.why)
        self._store.change(self.batch, state="over")
        self._news()

    async def _end_there(self, path: str) -> None:
        try:
            await self._http.post(f"{path}/cancel", {})
        except LMError as error:
            if not is_refused(error) or may_pass(error):
                raise  # else it has ended

    async def _was_refused(self, code: str, words: str) -> None:
        """Take note that it could not begin: it is sent again where that may help, else its requests have failed."""
        if code != _FULL:
            raise InvalidRequest(f"the batch was refused: {code}: {words}", code=code, retryable=False)
        self.trouble = words
        self._news()
        await self._pause(max(FULL_SECONDS, self.line.poll))
        batches = self._store.halve(self.batch)
        if batches == [self.batch]:
            raise InvalidRequest(f"the request does not fit: {words}", code=code, retryable=False)
        raise Halved(batches)

    async def _bring_in(self, standing: Standing) -> None:
        for path in standing.files:
            lines: list[Line] = []
            async with contextlib.aclosing(self._http.lines(path)) as raw:
                async for line in raw:
                    lines.append(_read(self._format.line, _read(bodies.load, line)))
                    if len(lines) >= _RESULTS:
                        self._take(lines)
                        lines = []
            self._take(lines)
        left = self._store.keys_of(self.batch.id)
        if left:
            self._fail(Overloaded(f"{_MISSING} ({standing.remote})", retryable=True))

    def _take(self, lines: Iterable[Line]) -> None:
        results: list[tuple[int, int, int, str | None, bytes]] = []
        again: list[int] = []
        for line in lines:
            number = formats.number_of(self.batch.tag, line.name)
            if number is None:
                continue
            if line.fate == "expired":
                again.append(number)
            elif line.fate == "cancelled":
                results.append((number, FAILED, 0, None, _record(self.line, _GONE)))
            else:
                results.append((number, ANSWERED, line.status, line.request_id, line.body))
        self._tell(self._store.set_results(self.batch.id, results))
        if again:
            wanted = set(again)
            rows = [row for row in self._store.keys_of(self.batch.id) if row.id in wanted]
            self._store.renew(self.batch.id, again)
            self._again(self.line, rows)

    def _fail(self, error: LMError) -> None:
        """Have all that has no result fail so."""
        record = bodies.dump({**error.to_record(), "context": None})
        rows = self._store.keys_of(self.batch.id)
        self._tell(self._store.set_results(self.batch.id, [(row.id, FAILED, 0, None, record) for row in rows]))
        if self.batch.state != "over":
            self._store.change(self.batch, state="over")
        self._log.warning("requests of a batch have failed", run=self.line.run, requests=len(rows), why=str(error))
        self._news()

    # --- waiting ----------------------------------------------------------------------------------------------------

    def _well(self) -> None:
        self._tries, self.trouble = 0, None
        self._news()

    async def _wait_after(self, error: LMError) -> None:
        wait = min(AGAIN_LAST, AGAIN_FIRST * 2**self._tries) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        self._tries = min(self._tries + 1, 20)
        self.trouble = error.message
        self._news()
        await self._pause(max(wait, min(error.retry_after or 0.0, AGAIN_LAST)))

    async def _pause(self, seconds: float) -> None:
        """Wait so long, or until it is to be cancelled."""
        if self._cancel.is_set():
            await asyncio.sleep(min(seconds, 5.0))
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._cancel.wait()


def _item(wire: formats.BatchFormat, tag: str, endpoint: str, number: int, body: bytes) -> bytes:
    return wire.item(formats.name_of(tag, number), endpoint, body)


def _record(line: LineOf, why: str) -> bytes:
    deployment = line.deployment
    error = Overloaded(why, provider=deployment.provider, model=deployment.model_name, retryable=False)
    return bodies.dump(error.to_record())


def _standing(wire: formats.BatchFormat, data: dict[str, Any]) -> Standing:
    found: Standing = _read(wire.standing, data)
    return found


def _read(reader: Callable[[Any], Any], data: Any) -> Any:
    """Read what a provider has told; what cannot be read is an error of the server's, for the moment."""
    try:
        return reader(data)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError):
        pass
    raise Overloaded("the provider tells something of a batch that cannot be read", retryable=True)
