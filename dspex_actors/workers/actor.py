"""The http worker: runs program calls and LM calls, hundreds at a time, on one event loop.

The data plane. No message is sent per LM call: an evaluator gives chunks of examples and gets batches of results,
and all calls to one LM share one session with its connections. What one worker must know of the others (pauses,
budgets) comes from the LM's client actor.

What it takes of runs stands in `runs.work`, what of client actors in `lm.control.messages`, what of programs outside in
`lm.request`. Beside it the request "stats", for its counts.
"""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any

from dspex_actors.errors import ConfigError, DspexError
from dspex_actors.lm.backend import set_process_backend
from dspex_actors.lm.control.messages import InForce, Pause
from dspex_actors.lm.lm import LM
from dspex_actors.lm.request import Complete
from dspex_actors.lm.worker.directory import Directory
from dspex_actors.runs.notes import Notes
from dspex_actors.runs.spec import Job
from dspex_actors.runs.work import Chunk, Forget, GetJob, HandOver, Rest, Result, Results, Written
from dspex_actors.workers.backend import WorkerBackend
from dspex_actors.workers.runner import error_record, open_runner, verdict_of
from dspex_actors.workers.task import RunTask
from supervisors import NO_REPLY, Caller, Down, GenServer, Ref
from supervisors.errors import CallTimeout, SupervisorsError

#: What was in flight for an evaluator that died is kept for its successor for so long, in seconds.
ORPHAN_SECONDS = 60.0
#: Python's collector looks at young objects after so many new ones; with its 700 it finds nothing, very often.
GC_THRESHOLDS = (20_000, 20, 20)


class HttpWorker(GenServer):
    """One http worker. Arguments: its number on the node, from 1, and the settings of the embedded LM."""

    def init(self, number: int, embedded: dict[str, Any] | None = None) -> None:
        """Become the backend of every LM call in this process."""
        self._number = number
        self._data_dir = Path(self.node["data_dir"])
        self._runs: dict[str, RunTask] = {}
        #: Requests of runs as they are written down; they outlive an evaluator.
        self._notes: dict[str, Notes] = {}
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

    def handle_call(self, request: Any, caller: Caller) -> Any:
        """Answer an LM call beside everything else."""
        match request:
            case Complete():
                answering = self.spawn(self._answer(caller, request))
                # Who does not wait any more does not pay for more, either.
                self.when_given_up(caller, answering.cancel)
                return NO_REPLY
            case HandOver(run_id, calls):
                self.spawn(self._hand_over(caller, run_id, calls))
                return NO_REPLY
            case "stats":
                return {
                    "calls": self._calls + sum(task.begun for task in self._runs.values()),
                    "runs": {task.run_id: [task.active, len(task.queue)] for task in self._runs.values()},
                }
        # Whoever is of another version has no answer; the calls that are under way here go on.
        self.log.error("an http worker does not know a request", request=repr(request)[:200])
        return "error", ConfigError(f"an http worker does not know the request {request!r:.200}").to_record()

    async def _answer(self, caller: Caller, call: Complete) -> None:
        self._calls += 1
        try:
            reply = await self._directory.complete(LM.known(call.lm).request(call.messages, call.given))
        except Exception as error:
            self.reply(caller, ("error", error_record(error)))
        else:
            self.reply(caller, ("ok", reply.to_dict()))

    # --- runs -------------------------------------------------------------------------------------------------------

    def handle_cast(self, message: Any) -> None:
        """Take in work, or drop it."""
        match message:
            case Chunk():
                self._take(message)
            case Written(run_id, evaluator, batch):
                task = self._runs.get(run_id)
                if task is not None and task.evaluator == evaluator:
                    task.written(batch)
            case Forget(run_id, evaluator):
                task = self._runs.get(run_id)
                if task is None or task.evaluator == evaluator:
                    self._forget(run_id)
                    notes = self._notes.pop(run_id, None)
                    if notes is not None:
                        notes.close()
            case Pause() | InForce():
                self._directory.hear(message)
            case _:
                self.log.error("an http worker does not know a message", message=repr(message)[:200])

    def handle_info(self, message: Any) -> None:
        """Finish the calls of an evaluator that died: its successor asks for their results."""
        if isinstance(message, Down):
            for task in self._runs.values():
                if task.evaluator == message.ref and not task.is_orphan:
                    task.orphan()
                    self._loop.call_later(ORPHAN_SECONDS, self._forget_orphan, task)
            self._directory.down(message.ref)

    def _forget_orphan(self, task: RunTask) -> None:
        if self._runs.get(task.run_id) is task:
            self._forget(task.run_id)

    async def _hand_over(self, caller: Caller, run_id: str, calls: str) -> None:
        task = self._runs.get(run_id)
        rest = Rest([], [], more=False) if task is None else await task.hand_over(calls)
        self.reply(caller, rest)
        if task is not None and not rest.more and calls != "leave":
            self._forget_orphan(task)

    def _take(self, chunk: Chunk) -> None:
        task = self._runs.get(chunk.run_id)
        if task is not None and task.evaluator != chunk.evaluator:
            self._forget(chunk.run_id)
            task = None
        if task is None:
            ref = self.ref
            notes = self._notes.setdefault(chunk.run_id, Notes(self._data_dir, chunk.run_id, ref.pid, ref.born))
            task = self._runs[chunk.run_id] = RunTask(chunk.run_id, chunk.evaluator, notes, self.spawn, self._send)
            self.monitor(chunk.evaluator)
            self.spawn(self._open(task))
        task.take(chunk)

    def _send(self, evaluator: Ref, number: int, results: list[Result]) -> None:
        self.cast(evaluator, Results(str(self.name), number, results))

    async def _open(self, task: RunTask) -> None:
        try:
            while True:
                try:
                    job = await self.call(task.evaluator, GetJob(), timeout=60.0)
                    break
                except CallTimeout:
                    continue  # it is there and busy: the run's examples are here, and wait for this
            if not isinstance(job, Job):
                raise ConfigError(f"the evaluator is of another version: expected a Job, got {job!r}")
            runner = await open_runner(job)
        except SupervisorsError:
            return  # the evaluator is gone, or will be
        except DspexError as error:
            task.cannot_begin(error.to_record(), verdict_of(error)[0])
        else:
            task.begin(runner, job.options)

    def _forget(self, run_id: str) -> None:
        """Drop a run."""
        task = self._runs.pop(run_id, None)
        if task is not None:
            self._calls += task.begun
            task.cancel()
