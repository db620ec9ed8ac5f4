"""The http worker: runs program calls and LM calls, hundreds at a time, on one event loop.

The data plane. No message is sent per LM call: an evaluator gives chunks of examples and gets batches of results,
and all calls to one LM share one session with its connections. What one worker must know of the others (pauses,
budgets) comes from the LM's client actor.

What it takes of runs stands in `runs.work`, what of client actors in `lm.control.messages`, what of programs outside in
`lm.request`. Beside it the requests "stats", "in flight" and "cache", for its
counts, and "clear cache".
"""

from __future__ import annotations

import asyncio
import functools
from pathlib import Path
from typing import Any

from dspex_actors.errors import ConfigError, DspexError
from dspex_actors.foundation import collector
from dspex_actors.foundation.following import ConfigChanged, follow
from dspex_actors.lm.attempts import own_money_with
from dspex_actors.lm.backend import set_process_backend
from dspex_actors.lm.batches.messages import BatchNews, InBatch
from dspex_actors.lm.control.circuit_messages import CircuitIs
from dspex_actors.lm.control.messages import InForce, Owned, Pause
from dspex_actors.lm.control.spending_messages import GiveBack
from dspex_actors.lm.keys import missing_told
from dspex_actors.lm.lm import LM
from dspex_actors.lm.request import Complete, HoldStream, NextPieces, OpenStream, Unusable
from dspex_actors.lm.told import Serving, is_told
from dspex_actors.lm.told_cache import as_told
from dspex_actors.lm.worker.directory import Directory
from dspex_actors.lm.worker.media import MEDIA, MEDIA_HOSTS
from dspex_actors.lm.worker.own_money import OwnMoney
from dspex_actors.lm.worker.spending import Wallet, end_run, unpriced
from dspex_actors.observe.reporting import report_from_actor, report_last
from dspex_actors.protection.access import Inside, set_access
from dspex_actors.runs.keeper.lacking import note_lacking
from dspex_actors.runs.notes import Notes, clear, left_behind
from dspex_actors.runs.work import (
    Chunk,
    Drop,
    Forget,
    GetAsked,
    HandOver,
    Rest,
    Result,
    Results,
    SendAgain,
    Standing,
    Stands,
    StillMine,
    WhatFor,
    Written,
)
from dspex_actors.workers.backend import WorkerBackend
from dspex_actors.workers.jobs import Jobs
from dspex_actors.workers.limits import BUDGETS, Limits
from dspex_actors.workers.payments import Payments
from dspex_actors.workers.runner import error_record, open_runner, verdict_of
from dspex_actors.workers.serving import GiveUp, Inferences, Lacks, Serve, Served
from dspex_actors.workers.streams import Streams
from dspex_actors.workers.task import RunTask
from supervisors import NO_REPLY, Caller, Down, GenServer, Ref
from supervisors.errors import CallTimeout, SupervisorsError

#: What was in flight for an evaluator that died is kept for its successor for so long, in seconds.
ORPHAN_SECONDS = 60.0
#: An evaluator that does not say whether it still counts on this worker is asked again after so many seconds.
MINE_SECONDS = 5.0


class HttpWorker(GenServer):
    """One http worker. Arguments: its number on the node, from 1; settings of the embedded LM; how many there are."""

    #: What keeps what is asked outside of runs.
    BOOKS = Payments
    #: Whether its node shows what is counted and measured.
    MEASURES = True

    def init(self, number: int, embedded: dict[str, Any] | None = None, workers: int = 1) -> None:
        """Become the backend of every LM call in this process."""
        self._number, self._workers = number, workers
        #: What it is called in the cluster.
        self._called = f"{self.node['name']}/{self.name}"
        self._data_dir = Path(self.node["data_dir"])
        self._runs: dict[str, RunTask] = {}
        self._jobs = Jobs(self, self._data_dir)
        if number == 1:
            self._jobs.clear()
        #: Coordinator of an ecosystem → what is done for it.
        self._serving: dict[Ref, Inferences] = {}
        #: Requests of runs as they are written down; they outlive an evaluator.
        self._notes: dict[str, Notes] = {}
        self._loop = asyncio.get_running_loop()
        self._directory = Directory(self, embedded or {}, workers)
        self._calls = 0
        self._payments = self.BOOKS(self)
        self._directory.cache.note = self._payments.cached
        self._wallet = Wallet(self)
        own_money_with(OwnMoney(self._wallet, self._loop))
        collector.expect_many()
        set_process_backend(WorkerBackend(self._directory, self._loop))
        set_access(Inside(self))
        missing_told[:] = [functools.partial(note_lacking, self.node)]
        self._events = report_from_actor(self, measures=self.MEASURES)
        self._limits = Limits(self, self._wallet)
        follow(self, MEDIA_HOSTS, BUDGETS)
        self._streams = Streams(self, self._directory, self._events)

    async def terminate(self, reason: Any) -> None:
        """Tell what was measured last, and close the connections."""
        await report_last()
        await self._payments.tell_last()
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
            case OpenStream() | HoldStream() | NextPieces():
                return self._streams.handle(request, caller)
            case HandOver():
                self.spawn(self._hand_over(caller, request))
                return NO_REPLY
            case Lacks(coordinator, numbers):
                serving = self._serving.get(coordinator)
                return numbers if serving is None else serving.lacks(numbers)
            case "in flight":
                return self._directory.in_flight()
            case "cache":
                return self._directory.cache.stats()
            case "clear cache":
                return self._directory.cache.clear()
            case ("unpriced", asked):
                return unpriced(asked)
            case Standing(run_id, evaluator, sitting):
                found = self._runs.get(run_id)
                return Stands(knows=False) if found is None or found.evaluator != evaluator else found.stands(sitting)
            case GetAsked(run_id):
                return [list(line) for line in left_behind(self._data_dir, run_id, ended_only=False)]
            case WhatFor(run_id):
                return None if (task := self._runs.get(run_id)) is None else task.waits_for
            case "stats":
                return {
                    "workers": self._workers,
                    "calls": self._calls + self._begun + self._streams.count,
                    "runs": {task.run_id: [task.active, len(task.queue)] for task in self._runs.values()},
                }
        # Whoever is of another version has no answer; the calls that are under way here go on.
        self.log.error("an http worker does not know a request", request=repr(request)[:200])
        return "error", ConfigError(f"an http worker does not know the request {request!r:.200}").to_record()

    @property
    def _begun(self) -> int:
        """Examples and inferences that were begun and are not forgotten."""
        return sum(task.begun for task in self._runs.values()) + sum(each.begun for each in self._serving.values())

    async def _answer(self, caller: Caller, call: Complete) -> None:
        self._calls += 1
        try:
            request = LM.known(call.lm).request(call.messages, call.given, call.user, call.tags)
            with Serving(request.lm.deployment.model) as serving, as_told(call.cache):
                reply = await self._directory.complete(request)
                serving.asked = reply.asked
            answer: tuple[str, Any] = ("ok", reply.to_dict())
        except Exception as error:
            answer = ("error", error_record(error))
        if is_told():
            await self._events.introduced()
        self.reply(caller, answer)

    # --- runs -------------------------------------------------------------------------------------------------------

    def handle_cast(self, message: Any) -> None:
        """Take in work, or drop it."""
        match message:
            case Chunk():
                self._take(message)
            case Written(run_id, evaluator, sitting, batch):
                task = self._runs.get(run_id)
                if task is not None and task.evaluator == evaluator and task.sitting == sitting:
                    task.written(batch)
            case SendAgain(run_id, evaluator, sitting, batch):
                task = self._runs.get(run_id)
                if task is not None and task.evaluator == evaluator and task.sitting == sitting:
                    task.send_again(batch)
            case Drop(run_id, evaluator, index, send):
                task = self._runs.get(run_id)
                if task is not None and task.evaluator == evaluator:
                    task.drop(index, send)
            case Forget(run_id, evaluator):
                task = self._runs.get(run_id)
                if task is None or task.evaluator == evaluator:
                    self._forget(run_id)
                    end_run(run_id)
                    notes = self._notes.pop(run_id, None)
                    if notes is not None:
                        notes.close()
                    if (evaluator.host, evaluator.door) != (self.ref.host, self.ref.door):
                        self._jobs.forget(run_id)
                        clear(self._data_dir, run_id)  # its evaluator has what stands there, and clears its own node's
            case Serve():
                self._serve(message)
            case GiveUp(coordinator, numbers):
                if coordinator in self._serving:
                    self._serving[coordinator].give_up(numbers)
            case GiveBack():
                self._wallet.give_back(message)
            case Pause() | InForce() | Owned() | CircuitIs() | InBatch() | BatchNews():
                self._directory.hear(message)
            case Unusable(call):
                with as_told(call.cache):
                    self._directory.cache.forget(LM.known(call.lm).request(call.messages, call.given))
            case _:
                self.log.error("an http worker does not know a message", message=repr(message)[:200])

    def handle_info(self, message: Any) -> None:
        """Finish the calls of an evaluator that died: its successor asks for their results. Take a setting over."""
        if isinstance(message, ConfigChanged) and message.path == MEDIA_HOSTS:
            MEDIA.allow(message.value)
        elif isinstance(message, ConfigChanged):
            self._limits.hear(message.path, message.value)
        elif isinstance(message, Down):
            for task in self._runs.values():
                if task.evaluator == message.ref:
                    self._orphan(task)
            if message.ref is not None:
                self._serve_no_more(message.ref)
            self._directory.down(message.ref)

    def _orphan(self, task: RunTask) -> None:
        if not task.is_orphan:
            task.orphan()
            self._loop.call_later(ORPHAN_SECONDS, self._forget_orphan, task, task.orphaned)

    def _forget_orphan(self, task: RunTask, orphaned: int) -> None:
        """Drop a run whose evaluator has not come back since it was lost for this time."""
        if self._runs.get(task.run_id) is task and task.is_orphan and task.orphaned == orphaned:
            self._forget(task.run_id)

    async def _hand_over(self, caller: Caller, asked: HandOver) -> None:
        task = self._runs.get(asked.run_id)
        if task is None or asked.epoch < task.epoch:  # what is here is another evaluator's, which has followed that one
            self.reply(caller, Rest([], [], more=False))
            return
        if asked.calls == "wait":  # what is under way may wait for an owner of limits that the evaluator before knew
            self._coordinated(asked.run_id, caller.ref)
        rest = await task.hand_over(asked.calls)
        self.reply(caller, rest)
        if not rest.more and asked.calls != "leave":
            self._forget_orphan(task, task.orphaned)

    def _take(self, chunk: Chunk) -> None:
        task = self._runs.get(chunk.run_id)
        if task is not None and task.evaluator != chunk.evaluator:
            if chunk.epoch < task.epoch:
                return  # of an evaluator that another one has followed
            self._forget(chunk.run_id)
            task = None
        if task is None:
            ref, evaluator = self.ref, chunk.evaluator
            notes = self._notes.setdefault(chunk.run_id, Notes(self._data_dir, chunk.run_id, ref.pid, ref.born))
            task = RunTask(chunk.run_id, evaluator, chunk.epoch, notes, self.spawn, self._send, self._is_mine)
            self._runs[chunk.run_id] = task
            self._coordinated(chunk.run_id, evaluator)
            self.monitor(chunk.evaluator)
            self.spawn(self._open(task))
        elif task.is_orphan and chunk.sitting > task.sitting:
            self.monitor(chunk.evaluator)  # it is back: its end is to be seen once more
        task.take(chunk)

    def _coordinated(self, run_id: str, evaluator: Ref) -> None:
        """Take note of who coordinates a run, where that is another node."""
        if (evaluator.host, evaluator.door) != (self.ref.host, self.ref.door):
            self._directory.coordinators[run_id] = evaluator
        else:
            self._directory.coordinators.pop(run_id, None)

    def _send(self, task: RunTask, number: int, results: list[Result]) -> None:
        self.cast(task.evaluator, Results(self._called, task.sitting, number, task.taken, results))

    async def _is_mine(self, task: RunTask) -> bool:
        """Return whether a run's evaluator still counts on what is here; one that has ended does not."""
        while True:
            sitting, answer = task.sitting, False
            try:
                answer = await self.call(task.evaluator, StillMine(task.run_id, self._called, sitting), MINE_SECONDS)
            except CallTimeout:
                continue  # until it answers, or has ended
            except SupervisorsError:
                pass
            if task.sitting == sitting:
                break
        if answer is not True:
            self._orphan(task)
        return answer is True

    async def _open(self, task: RunTask) -> None:
        try:
            job = await self._jobs.of_run(task.run_id, task.evaluator)
            runner = await open_runner(job)
        except SupervisorsError:
            # The evaluator is gone, or cannot be reached: should it be back it finds nothing here, and says all again.
            if self._runs.get(task.run_id) is task:
                self._forget(task.run_id)
        except DspexError as error:
            task.cannot_begin(error.to_record(), verdict_of(error)[0])
        else:
            task.begin(runner, job.options, is_far=task.run_id in self._directory.coordinators)

    # --- ecosystems -------------------------------------------------------------------------------------------------

    def _serve(self, work: Serve) -> None:
        coordinator = work.coordinator
        serving = self._serving.get(coordinator)
        if serving is None:
            serving = Inferences(self.spawn, lambda results: self.cast(coordinator, Served(self.ref, results)))
            self._serving[coordinator] = serving
            self.monitor(coordinator)
            self.spawn(self._open_program(coordinator, serving))
        serving.take(work)

    async def _open_program(self, coordinator: Ref, serving: Inferences) -> None:
        try:
            serving.begin(await open_runner(await self._jobs.ask(coordinator)))
        except SupervisorsError:
            if self._serving.get(coordinator) is serving:  # it is gone, or cannot be reached; as with runs
                self._serve_no_more(coordinator)
        except DspexError as error:
            serving.cannot_begin(error)

    def _serve_no_more(self, coordinator: Ref) -> None:
        serving = self._serving.pop(coordinator, None)
        if serving is not None:
            self._calls += serving.begun
            serving.cancel()

    def _forget(self, run_id: str) -> None:
        """Drop a run."""
        task = self._runs.pop(run_id, None)
        self._directory.coordinators.pop(run_id, None)
        if task is not None:
            self._calls += task.begun
            task.cancel()
