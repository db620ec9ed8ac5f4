"""A run's work in one worker: lanes that take one example after the other, and results on their way."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from dspex_actors.foundation.ownership import Ownership
from dspex_actors.lm.attempts import Ledger, RunBudget
from dspex_actors.runs.budget import run_budget
from dspex_actors.runs.notes import Notes
from dspex_actors.runs.sample import recorded
from dspex_actors.runs.spec import EXAMPLE_SECONDS, INHERIT_SECONDS
from dspex_actors.runs.work import Chunk, Rest, Result, Stands
from dspex_actors.workers.outbox import Outbox
from dspex_actors.workers.runner import Runner, run_example
from supervisors import Ref

#: A batch of results waits at most so many seconds.
BATCH_SECONDS = 0.05
#: A lane whose example had to wait for a limit longer than it may, and asked nobody, takes the next one so much later.
REFUSED_SECONDS = 1.0
#: Calls that are cancelled have ended after so many seconds, or are left.
CANCEL_SECONDS = 2.0

_UNBEGUN = {"type": "GivenBack", "message": "the worker gets nothing more, and had not begun with the example"}
_ANSWERED = {"type": "Cancelled", "message": "the example was started twice, and has its result"}
_GIVEN_UP = {"type": "Cancelled", "message": "the run was ended while the example was under way"}


class RunTask:
    """A run's work in this worker.

    Args:
        run_id: the run.
        evaluator: who asks, and gets the results.
        epoch: of the evaluator.
        notes: where requests are written down.
        spawn: runs a coroutine; its crash is the worker's.
        send: sends a batch (this task, the batch's number, its results) to the evaluator.
        confirm: asks the evaluator whether what is here is still this worker's.
    """

    def __init__(
        self,
        run_id: str,
        evaluator: Ref,
        epoch: int,
        notes: Notes,
        spawn: Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]],
        send: Callable[[RunTask, int, list[Result]], None],
        confirm: Callable[[RunTask], Awaitable[bool]],
    ) -> None:
        """Begin without anything to do."""
        self.run_id = run_id
        self.evaluator, self.epoch = evaluator, epoch
        #: The sitting with the evaluator, and the last chunk that was taken in of it.
        self.sitting = self.taken = 0
        self.notes = notes
        #: Examples begun.
        self.begun = 0
        #: Its evaluator has died; what is in flight is finished and kept for the next one.
        self.is_orphan = False
        #: How often that was so: an evaluator that could not be reached may be back in another sitting.
        self.orphaned = 0
        self.active = 0
        self.queue: deque[tuple[int, int, bytes]] = deque()
        self._window = 0
        self._outbox = Outbox()
        self._lanes: set[asyncio.Task[Any]] = set()
        #: What is under way, each with its lane; and what of it is to be given up while its lane goes on.
        self._ledgers: dict[Ledger, asyncio.Task[Any]] = {}
        self._dropped: set[Ledger] = set()
        self._runner: Runner | None = None
        self._seconds: float | None = None
        self._budget: RunBudget | None = None
        self._in_batches: tuple[float, float] | None = None
        self._recorded: Callable[[int], bool] = recorded(run_id, {})
        self._failure: tuple[dict[str, Any], str | None] | None = None
        self._spawn = spawn
        self._send = send
        self._timer: asyncio.TimerHandle | None = None
        self._mine = Ownership(spawn, lambda: confirm(self), lost=self._is_anothers)

    def take(self, chunk: Chunk) -> None:
        """Take in examples, and how many may be under way from now on; only the chunk that is next."""
        if chunk.sitting > self.sitting:
            self._sit(chunk.sitting)
        if chunk.sitting < self.sitting or chunk.number != self.taken + 1:
            return  # it came twice, or one before it was lost
        self.taken = chunk.number
        self._window = chunk.window
        self.queue.extend(zip(chunk.indices, chunk.sends, chunk.payloads, strict=True))
        if not self._window:
            self._give_back()
        self._fill()

    def _sit(self, sitting: int) -> None:
        """Begin another sitting: what was not begun is with others now, and no batch was heard in it."""
        had_another, self.sitting = bool(self.sitting), sitting
        self.taken, self.is_orphan = 0, False
        if had_another:
            self.queue.clear()
            self._outbox.begin_anew()
            self.send_again(1)
            self._batch()

    def _give_back(self) -> None:
        """Give back what is not begun: this worker gets nothing more for the present."""
        while self.queue:
            index, send, payload = self.queue.popleft()
            self._outbox.add(payload, Result(index=index, send=send, error=_UNBEGUN, again="free"))
            if self._outbox.is_full:
                self._flush()
        self._batch()

    def stands(self, sitting: int) -> Stands:
        """Tell how far a sitting is."""
        return Stands(sitting == self.sitting and not self.is_orphan, self.taken, self._outbox.sent)

    def send_again(self, number: int) -> None:
        """Send the batches again, from this one on."""
        for batch in self._outbox.sent_from(number):
            self._send(self, *batch)

    def begin(self, runner: Runner, options: dict[str, Any], *, is_far: bool = False) -> None:
        """Do what waits, with the run's code; `is_far`: another node coordinates it."""
        self._runner = runner
        self._mine.watch()
        self._seconds = options.get("deadline", EXAMPLE_SECONDS)
        self._budget = run_budget(self.run_id, options, is_far=is_far)
        self._in_batches = None if (batch := options.get("batch")) is None else (batch["poll"], batch["gather"])
        self._recorded = recorded(self.run_id, options)
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
        lane = asyncio.current_task()
        assert lane is not None
        try:
            while self.queue and self.active <= self._window:
                if not self._mine.is_sure():
                    await self._mine.settled()
                    continue
                index, send, payload = self.queue.popleft()
                self.begun += 1
                ledger = Ledger(
                    index, send, seconds=self._seconds, note=self.notes.write, budget=self._budget, run=self.run_id,
                    batch=self._in_batches, mine=self._mine,
                )  # fmt: skip
                self._ledgers[ledger] = lane
                try:
                    result = await run_example(runner, payload, ledger, self.run_id, self._recorded(index))
                except asyncio.CancelledError:
                    if ledger in self._dropped and not lane.uncancel():
                        result = _answered(index, send, ledger)
                    elif ledger.attempts:
                        attempts = list(ledger.attempts)
                        given_up = Result(index=index, send=send, error=_GIVEN_UP, again="free", attempts=attempts)
                        self._outbox.add(payload, given_up)
                        raise
                    else:
                        raise
                else:
                    if ledger in self._dropped:
                        lane.uncancel()  # its program took no notice
                finally:
                    del self._ledgers[ledger]
                    self._dropped.discard(ledger)
                self._outbox.add(payload, result)
                self._batch()
                was_refused = result.again == "free" and result.error is not _ANSWERED and not result.attempts
                if was_refused and ledger.refused is None:
                    await asyncio.sleep(REFUSED_SECONDS)
        finally:
            self.active -= 1

    def drop(self, index: int, send: int) -> None:
        """Give up one sending, begun or not; what was asked for it is told."""
        for ledger, lane in self._ledgers.items():
            if (ledger.index, ledger.send) == (index, send) and ledger not in self._dropped:
                self._dropped.add(ledger)
                lane.cancel()
                return
        for place, (index_, send_, payload) in enumerate(self.queue):
            if (index_, send_) == (index, send):
                del self.queue[place]
                self._outbox.add(payload, _answered(index, send, None))
                self._batch()
                return

    @property
    def waits_for(self) -> str | None:
        """What examples wait for, if any does; None: nothing that is known."""
        return next((ledger.waits_for for ledger in self._ledgers if ledger.waits_for is not None), None)

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
            self._send(self, *batch)

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
        if not self.is_orphan:
            self.is_orphan = True
            self.orphaned += 1
        self.queue.clear()
        self._stop_timer()

    def _is_anothers(self) -> None:
        """Leave what is under way to those who have it by now; what is done is kept."""
        for lane in self._lanes:
            lane.cancel()

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
        self._mine.close()
        self._stop_timer()
        self.queue.clear()
        for lane in self._lanes:
            lane.cancel()


def _answered(index: int, send: int, ledger: Ledger | None) -> Result:
    """Return what is told of a sending that was given up for the other one."""
    attempts = [] if ledger is None else list(ledger.attempts)
    return Result(index=index, send=send, error=_ANSWERED, again="free", attempts=attempts)
