"""The http worker: runs program calls and LM calls, hundreds at a time, on one event loop.

The data plane. No message is sent per LM call: an evaluator gives chunks of examples and gets batches of results,
and all calls to one LM share one session with its connections. What one worker must know of the others (pauses,
budgets) comes from the LM's client actor.

Casts it takes:
    ("chunk", run_id, evaluator, window, items)  examples to do, and how many at once from now on
    ("forget", run_id)                           the run is over or paused
    ("pause", lm identity, seconds)              the provider told another worker to wait
Requests:
    ("lm", lm, messages, params)   → ("ok", reply) or ("error", record)
    ("forget", run_id)             → the results that have not been sent
    ("inherit", run_id)            → what was in flight when the run's evaluator died, once it has ended
    "stats"                        → counts
"""

from __future__ import annotations

import asyncio
import gc
from collections import deque
from typing import TYPE_CHECKING, Any

from dspex_actors.errors import DspexError
from dspex_actors.lm.backend import set_process_backend
from dspex_actors.lm.lm import LM
from dspex_actors.lm.worker.directory import Directory
from dspex_actors.runs.spec import INHERIT_SECONDS, Job
from dspex_actors.workers.backend import WorkerBackend
from dspex_actors.workers.runner import Runner, error_record, make_runner, run_example
from supervisors import NO_REPLY, Down, GenServer, Ref
from supervisors.errors import CallTimeout, SupervisorsError

if TYPE_CHECKING:
    from supervisors import Caller

#: A batch of results waits at most so many seconds, or until it has so many results.
BATCH_SECONDS, BATCH_RESULTS = 0.05, 128

#: What was in flight for an evaluator that died is kept for its successor for so long, in seconds.
ORPHAN_SECONDS = 60.0
#: Python's collector looks at young objects after so many new ones; with its 700 it finds nothing, very often.
GC_THRESHOLDS = (20_000, 20, 20)


class _Run:
    """A run's work in this worker."""

    def __init__(self, run_id: str, evaluator: Ref) -> None:
        self.run_id = run_id
        self.evaluator = evaluator
        self.window = 0
        self.active = 0
        self.queue: deque[Any] = deque()
        self.lanes: set[asyncio.Task[None]] = set()
        self.runner: Runner | None = None
        self.failure: dict[str, Any] | None = None
        #: Packed example and result of what has not been sent.
        self.results: list[tuple[bytes, list[Any]]] = []
        #: Its evaluator has died; what is in flight is finished and kept for the next one.
        self.orphan = False
        self.timer: asyncio.TimerHandle | None = None


class HttpWorker(GenServer):
    """One http worker. Arguments: its number on the node, from 1, and the settings of the embedded LM."""

    def init(self, number: int, embedded: dict[str, Any] | None = None) -> None:
        """Become the backend of every LM call in this process."""
        self._number = number
        self._runs: dict[str, _Run] = {}
        self._loop = asyncio.get_running_loop()
        self._directory = Directory(self, embedded or {})
        self._calls = 0
        # Hundreds of calls in flight make many objects that live for a second; what is here now stays for ever.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        set_process_backend(WorkerBackend(self._directory, self._loop))

    async def terminate(self, reason: Any) -> None:
        """Close the connections."""
        await self._directory.aclose()

    # --- single LM calls --------------------------------------------------------------------------------------------

    def handle_call(self, request: Any, caller: Any) -> Any:
        """Answer an LM call beside everything else."""
        match request:
            case ("lm", lm, messages, params):
                self.spawn(self._answer(caller, lm, messages, params))
                return NO_REPLY
            case ("forget", run_id):
                return self._forget(run_id)
            case ("inherit", run_id):
                self.spawn(self._bequeath(caller, run_id))
                return NO_REPLY
            case "stats":
                return {
                    "calls": self._calls,
                    "runs": {run.run_id: [run.active, len(run.queue)] for run in self._runs.values()},
                }
        raise ValueError(f"an http worker does not know {request!r}")

    async def _answer(self, caller: Any, lm: Any, messages: Any, params: Any) -> None:
        self._calls += 1
        try:
            reply = await self._directory.complete(LM.from_dict(lm).request(messages, params))
        except Exception as error:
            self.reply(caller, ("error", error_record(error)))
        else:
            self.reply(caller, ("ok", reply.to_dict()))

    # --- runs -------------------------------------------------------------------------------------------------------

    def handle_cast(self, message: Any) -> None:
        """Take in work, or drop it."""
        match message:
            case ("chunk", run_id, evaluator, window, items):
                self._take(run_id, evaluator, window, items)
            case ("forget", run_id):
                self._forget(run_id)
            case ("pause", identity, seconds):
                self._directory.pause(identity, seconds)

    def handle_info(self, message: Any) -> None:
        """Finish the calls of an evaluator that died: its successor asks for their results."""
        if isinstance(message, Down):
            for run in self._runs.values():
                if run.evaluator == message.ref and not run.orphan:
                    run.orphan = True
                    run.queue.clear()
                    self._loop.call_later(ORPHAN_SECONDS, self._forget_orphan, run)
            self._directory.down(message.ref)

    def _forget_orphan(self, run: _Run) -> None:
        if self._runs.get(run.run_id) is run:
            self._forget(run.run_id)

    async def _bequeath(self, caller: Caller, run_id: str) -> None:
        """Answer with packed example and result of what was in flight here, once it has ended."""
        run = self._runs.get(run_id)
        if run is None:
            self.reply(caller, [])
            return
        run.orphan = True
        run.queue.clear()
        if run.lanes:
            await asyncio.wait(run.lanes, timeout=INHERIT_SECONDS)
        self.reply(caller, [(payload, row) for payload, row in run.results])
        run.results = []
        self._forget_orphan(run)

    def _take(self, run_id: str, evaluator: Ref, window: int, items: Any) -> None:
        run = self._runs.get(run_id)
        if run is not None and run.evaluator != evaluator:
            self._forget(run_id)
            run = None
        if run is None:
            run = self._runs[run_id] = _Run(run_id, evaluator)
            self.monitor(evaluator)
            self.spawn(self._open(run))
        run.window = window
        run.queue.extend(items)
        self._fill(run)

    async def _open(self, run: _Run) -> None:
        try:
            while True:
                try:
                    job = Job(*await self.call(run.evaluator, "job", timeout=60.0))
                    break
                except CallTimeout:
                    continue  # it is there and busy: the run's examples are here, and wait for this
            run.runner = make_runner(job)
        except SupervisorsError:
            return  # the evaluator is gone, or will be
        except DspexError as error:
            run.failure = error.to_record()
        self._fill(run)

    def _fill(self, run: _Run) -> None:
        """Have as many lanes as the window allows; a lane takes one example after the other."""
        if run.failure is not None:
            while run.queue:
                index, send, payload = run.queue.popleft()
                run.results.append((payload, [index, send, None, None, run.failure, 0.0, None, 0, None, False]))
            self._batch(run)
        if run.runner is None:
            return
        for _ in range(min(run.window - run.active, len(run.queue))):
            run.active += 1
            lane = self.spawn(self._lane(run, run.runner))
            run.lanes.add(lane)
            lane.add_done_callback(run.lanes.discard)

    async def _lane(self, run: _Run, runner: Runner) -> None:
        try:
            while run.queue and run.active <= run.window:
                index, send, payload = run.queue.popleft()
                self._calls += 1
                # Awaited first: `run.results` may be another list by then.
                result = await run_example(runner, payload, index, send)
                run.results.append((payload, result))
                self._batch(run)
        finally:
            run.active -= 1

    def _batch(self, run: _Run) -> None:
        if run.orphan:
            return
        if len(run.results) >= BATCH_RESULTS or (not run.queue and run.active <= 1):
            self._send_results(run)
        elif run.timer is None:
            run.timer = self._loop.call_later(BATCH_SECONDS, self._send_results, run)

    def _send_results(self, run: _Run) -> None:
        if run.timer is not None:
            run.timer.cancel()
            run.timer = None
        if run.results and not run.orphan:
            results, run.results = [row for _, row in run.results], []
            self.cast(run.evaluator, ("results", self.name, results))

    def _forget(self, run_id: str) -> list[Any]:
        """Drop a run; return its results that have not been sent."""
        run = self._runs.pop(run_id, None)
        if run is None:
            return []
        if run.timer is not None:
            run.timer.cancel()
        run.queue.clear()
        for lane in run.lanes:
            lane.cancel()
        results, run.results = [row for _, row in run.results], []
        return results
