"""A run's work in one worker: lanes that take one example after the other, and results on their way."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from dspex_actors.lm.attempts import Ledger
from dspex_actors.runs.notes import Notes
from dspex_actors.runs.spec import EXAMPLE_SECONDS, INHERIT_SECONDS
from dspex_actors.runs.work import Chunk, Rest, Result
from dspex_actors.workers.outbox import Outbox
from dspex_actors.workers.runner import Runner, run_example
from supervisors import Ref

#: A batch of results waits at most so many seconds.
BATCH_SECONDS = 0.05
#: A lane whose example had to wait for a limit longer than it may, and asked nobody, takes the next one so much later.
REFUSED_SECONDS = 1.0
#: Calls that are cancelled have ended after so many seconds, or are left.
CANCEL_SECONDS = 2.0

_GIVEN_UP = {"type": "Cancelled", "message": "the run was ended while the example was under way"}


class RunTask:
    """A run's work in this worker.

    Args:
        run_id: the run.
        evaluator: who asks, and gets the results.
        notes: where requests are written down.
        spawn: runs a coroutine; its crash is the worker's.
        send: sends a batch (its number, its results) to the evaluator.
    """

    def __init__(
        self,
        run_id: str,
        evaluator: Ref,
        notes: Notes,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[Any]],
        send: Callable[[Ref, int, list[Result]], None],
    ) -> None:
        """Begin without anything to do."""
        self.run_id = run_id
        self.evaluator = evaluator
        self.notes = notes
        #: Examples begun.
        self.begun = 0
        #: Its evaluator has died; what is in flight is finished and kept for the next one.
        self.is_orphan = False
        self.active = 0
        self.queue: deque[tuple[int, int, bytes]] = deque()
        self._window = 0
        self._outbox = Outbox()
        self._lanes: set[asyncio.Task[Any]] = set()
        self._runner: Runner | None = None
        self._seconds: float | None = None
        self._failure: tuple[dict[str, Any], str | None] | None = None
        self._spawn = spawn
        self._send = send
        self._timer: asyncio.TimerHandle | None = None

    def take(self, chunk: Chunk) -> None:
        """Take in examples, and how many may be under way from now on."""
        self._window = chunk.window
        self.queue.extend(zip(chunk.indices, chunk.sends, chunk.payloads, strict=True))
        self._fill()

    def begin(self, runner: Runner, options: dict[str, Any]) -> None:
        """Do what waits, with the run's code."""
        self._runner = runner
        self._seconds = options.get("deadline", EXAMPLE_SECONDS)
        self._fill()

    def cannot_begin(self, record: dict[str, Any], failure: str | None) -> None:
        """Answer every example with an error: the run's code cannot be opened here."""
        self._failure = (record, failure)
        self._fill()

    def _fill(self) -> None:
        """Have as many lanes as the window allows; a lane takes one example after the other."""
        if self._failure is not None:
            record, failure = self._failure
            while self.queue:
                index, send, payload = self.queue.popleft()
                self._outbox.add(payload, Result(index=index, send=send, error=record, failure=failure, latency=0.0))
                if self._outbox.is_full:
                    self._flush()
            self._batch()
        runner = self._runner
        if runner is None:
            return
        for _ in range(min(self._window - self.active, len(self.queue))):
            self.active += 1
            lane = self._spawn(self._lane(runner))
            self._lanes.add(lane)
            lane.add_done_callback(self._lanes.discard)

    async def _lane(self, runner: Runner) -> None:
        try:
            while self.queue and self.active <= self._window:
                index, send, payload = self.queue.popleft()
                self.begun += 1
                ledger = Ledger(seconds=self._seconds, note=partial(self._note, index, send))
                try:
                    result = await run_example(runner, payload, index, send, ledger)
                except asyncio.CancelledError:
                    if ledger.attempts:
                        attempts = list(ledger.attempts)
                        given_up = Result(index=index, send=send, error=_GIVEN_UP, again="free", attempts=attempts)
                        self._outbox.add(payload, given_up)
                    raise
                self._outbox.add(payload, result)
                self._batch()
                if result.again == "free" and not result.attempts:
                    await asyncio.sleep(REFUSED_SECONDS)
        finally:
            self.active -= 1

    def _note(self, index: int, send: int, n: int, at: float, provider: str, model: str, tokens: int) -> None:
        self.notes.write(index, send, n, at, tokens, provider, model)

    # --- results out ------------------------------------------------------------------------------------------------

    def _batch(self) -> None:
        if self.is_orphan:
            return
        if self._outbox.is_full or (not self.queue and self.active <= 1):
            self._flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(BATCH_SECONDS, self._flush)

    def _flush(self) -> None:
        self._stop_timer()
        if not self.is_orphan and (batch := self._outbox.next_batch()) is not None:
            self._send(self.evaluator, *batch)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def written(self, number: int) -> None:
        """Forget the batches up to this one: the journal has them."""
        for result in self._outbox.written(number):
            self.notes.told(result.index, result.send)

    # --- the end ----------------------------------------------------------------------------------------------------

    def orphan(self) -> None:
        """Finish what is in flight, and keep its results for the next evaluator."""
        self.is_orphan = True
        self.queue.clear()
        self._stop_timer()

    async def hand_over(self, calls: str) -> Rest:
        """Give a piece of what is not in the journal; see `HandOver`."""
        if calls != "leave":
            self.orphan()
            if calls == "cancel":
                self.cancel()
            if self._lanes:
                await asyncio.wait(self._lanes, timeout=CANCEL_SECONDS if calls == "cancel" else INHERIT_SECONDS)
        return self._outbox.take_piece()

    def cancel(self) -> None:
        """Cancel what is under way, and begin nothing."""
        self._stop_timer()
        self.queue.clear()
        for lane in self._lanes:
            lane.cancel()
