"""The evaluator: one per run. Reads the dataset, gives work to workers, and gets results into the journal.

What is decided is in `plan`; this actor moves bytes. Work goes out in chunks by cast, results come back in
batches by cast, and a result counts only when the journal has answered that it is on the disk. Nobody waits for an
evaluator; if it dies, its successor opens the run from the journal and goes on.

Casts it takes: ("results", worker, rows) with rows of (index, send, prediction, score, error, latency, usage,
asked, cost, success). Requests: "job" → what a worker needs, once per worker and run.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from dspex_actors.data.opening import from_descriptor
from dspex_actors.errors import DspexError, from_record
from dspex_actors.foundation.indexset import IndexSet
from dspex_actors.names import RUNS, worker_name
from dspex_actors.runs.evaluator.source import Source
from dspex_actors.runs.evaluator.writer import Writer
from dspex_actors.runs.plan.bills import Answer, Bills
from dspex_actors.runs.plan.hopeless import HopelessRule, is_final
from dspex_actors.runs.plan.plan import RunPlan
from dspex_actors.runs.plan.stop_rule import StopRule
from dspex_actors.runs.plan.types import Chunk, Lost, PlanSettings
from dspex_actors.runs.spec import INHERIT_SECONDS, Job
from supervisors import Down, GenServer, Ref, Stop
from supervisors.errors import CallTimeout, NoProcess, ServerExited, SupervisorsError
from supervisors.host import processes

#: A worker that is not there is looked for this often, in seconds.
LOOK_SECONDS = 0.02
#: At the start workers are waited for at most so long, in seconds.
GATHER_SECONDS = 0.5
#: The window of a worker that died is kept for its successor for so many seconds.
BACK_SECONDS = 1.0
#: The keeper of runs is asked again this often, in seconds, while it is being restarted.
ASK_SECONDS = 0.1
#: How often others are told how the run is doing, in seconds.
NOTE_SECONDS = 0.25
#: A run that is ended from outside brings in what has been answered for at most so many seconds.
LAST_SECONDS = 5.0
PLAN_FIELDS = ("max_in_flight", "failures", "max_attempts", "max_failures", "strategy")


class Evaluator(GenServer):
    """One run. Arguments: its id, and how many http workers there are."""

    def init(self, run_id: str, workers: int) -> None:
        """Begin as soon as the keeper of runs, who is waiting for this to return, can answer."""
        self._run_id = run_id
        self._worker_names = [worker_name(n) for n in range(1, workers + 1)]
        self._refs: dict[str, Ref] = {}
        self._missing: set[str] = set()
        self._plan: RunPlan | None = None
        self._writer = Writer(run_id, self._ask, self.log)
        self._bills = Bills()
        self._source: Source | None = None
        self._latency: float | None = None
        self._broken: str | None = None
        self._over = False
        self._gathered = False
        self._last_note: Any = None
        self.spawn(self._open())

    async def _open(self) -> None:
        found = await self._ask("open", self._run_id)
        settings = found["settings"]
        self._job = Job(self._run_id, found["kind"], found["program"], found["metric"], found["lm"], settings)
        self._failure_score = settings.get("failure_score")
        self._hopeless = HopelessRule(answered=found["answered"])
        try:
            dataset = from_descriptor(found["dataset"])
            self._done = IndexSet.from_bytes(found["done"])
            rule = None if settings.get("rule") is None else StopRule(**settings["rule"])
            inherited = await self._inherit()
            if rule is not None:
                for index, success, error in [*found["outcomes"], *((row[0], row[-1], False) for _, row in inherited)]:
                    rule.observe(index, success=success, error=error)
            self._plan = RunPlan(
                PlanSettings(**{name: settings[name] for name in PLAN_FIELDS if settings.get(name) is not None}),
                rule=rule,
                failed=found["failed"],
            )
            self._source = Source(dataset, self._done)
        except DspexError as error:
            await self._end("failed", error.message)
            return
        self.spawn(self._write())
        self.spawn(self._keep_noting())
        # Work is shared out once those are in that can be had soon: who comes first would get it all.
        looking = [self.spawn(self._look_for(name)) for name in self._worker_names]
        await asyncio.wait(looking, timeout=GATHER_SECONDS)
        self._gathered = True
        self._pump()

    async def _inherit(self) -> list[tuple[bytes, list[Any]]]:
        """Take over what workers were asking for an evaluator of this run that died: it is paid, and not asked again.

        Returns:
            Packed example and result of each, once the workers' calls have ended.
        """
        asked = await asyncio.gather(*(self._ask_worker(name) for name in self._worker_names))
        inherited = []
        for name, results in asked:
            for payload, row in results:
                answer = Answer(*row)
                if answer.error is not None:
                    self._bills.note(answer)
                elif self._done.add(answer.number):
                    self._row(answer, payload, 1, name)
                    inherited.append((payload, row))
        return inherited

    async def _ask_worker(self, name: str) -> tuple[str, list[Any]]:
        ref = await self.whereis(name)
        if ref is None:
            return name, []
        try:
            return name, await self.call(ref, ("inherit", self._run_id), timeout=INHERIT_SECONDS + 5.0)
        except (NoProcess, ServerExited, CallTimeout):
            return name, []

    async def _ask(self, *request: Any) -> Any:
        """Ask the keeper of runs; while it is being restarted, wait for it."""
        while True:
            try:
                kind, value = await self.call(RUNS, request, timeout=60.0)
            except (NoProcess, ServerExited, CallTimeout):
                await asyncio.sleep(ASK_SECONDS)
                continue
            if kind == "error":
                raise from_record(value)
            return value

    # --- work out ---------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Feed the plan, and send what it decides; cheap when there is nothing to do."""
        plan = self._plan
        source, writer = self._source, self._writer
        if plan is None or source is None or not self._gathered or writer.trouble is not None or writer.is_behind:
            return
        try:
            while (wanted := plan.wanted()) > 0:
                for _ in range(wanted):
                    item = source.next()
                    if item is None:
                        plan.source_ended()
                        break
                    plan.feed(*item)
        except DspexError as error:
            self._breaks_off(error.message)
        except OSError as error:
            self._breaks_off(f"the dataset cannot be read: {error.strerror or error}")
        for chunk in plan.take():
            self._send(chunk)
        if plan.finished:
            writer.add(self._hopeless.close(complete=plan.stopped is None and self._broken is None))
            if self._hopeless.verdict is not None:
                plan.stop("hopeless")

    def _breaks_off(self, why: str) -> None:
        """Take note that the dataset cannot be read on: what was read before is done, then the run has failed."""
        self._broken = why
        assert self._plan is not None
        self._plan.source_ended()

    def _send(self, chunk: Chunk) -> None:
        ref = self._refs.get(str(chunk.worker))
        if ref is not None:
            self.cast(ref, ("chunk", self._run_id, self.ref, chunk.window, chunk.items))

    # --- workers ----------------------------------------------------------------------------------------------------

    async def _look_for(self, name: str) -> None:
        """Wait until a worker is there (again) and take it in."""
        while (ref := await self.whereis(name)) is None or ref == self._refs.get(name):  # noqa: ASYNC110 - names have no events
            await asyncio.sleep(LOOK_SECONDS)
        self._refs[name] = ref
        self._missing.discard(name)
        self.monitor(ref)
        if self._plan is not None:
            self._lost(self._plan.worker_joined(name))
        self._pump()

    def handle_info(self, message: Any) -> None:
        """Take in the death of a worker."""
        if message == "over":
            raise Stop("normal")
        if message == "resplit" and self._plan is not None:
            self._plan.resplit()
            self._pump()
        if isinstance(message, Down):
            # Who died with it is found out before its work goes to one of those, which would count as another attempt.
            ended = [
                name
                for name, ref in self._refs.items()
                if name not in self._missing and self._has_ended(ref, message.ref)
            ]
            for name in ended:
                if self._plan is not None:
                    self._lost(self._plan.worker_left(name, back_soon=True))
                    self.send_after(BACK_SECONDS, "resplit")
                    self._missing.add(name)
                    self.spawn(self._look_for(name))
            self._pump()

    def _has_ended(self, ref: Ref, known: Ref | None) -> bool:
        return ref == known or (ref.host == self.ref.host and processes.has_ended(ref.pid, ref.born))

    def _lost(self, lost: list[Lost]) -> None:
        for item in lost:
            answer = Answer(item.index, 0, None, self._failure_score, item.error, None, None, 0, 0.0, False)
            self._row(answer, item.payload, item.attempts, str(item.worker))

    # --- results in -------------------------------------------------------------------------------------------------

    def handle_call(self, request: Any, caller: Any) -> Any:
        """Tell a worker what the run is."""
        assert request == "job"
        return self._job.to_list()

    def handle_cast(self, message: Any) -> None:
        """Take in a batch of results."""
        match message:
            case ("results", worker, results):
                for result in results:
                    self._result(worker, Answer(*result))
                self._pump()

    def _result(self, worker: str, answer: Answer) -> None:
        plan, error = self._plan, answer.error
        assert plan is not None
        if error is None and answer.latency is not None:
            self._latency = answer.latency if self._latency is None else 0.95 * self._latency + 0.05 * answer.latency
            plan.note_latency(self._latency)
        kind = None if error is None else str(error.get("type"))
        decision = plan.result(
            answer.number,
            answer.send,
            error=kind,
            success=answer.success,
            free=kind == "RateLimited",
            final=error is not None and is_final(error),
        )
        if decision.fate == "again":
            self._bills.note(answer)
        elif decision.fate == "accept":
            if error is not None and answer.score is None:
                answer = answer._replace(score=self._failure_score)
            self._row(answer, decision.payload, decision.attempts, worker)

    def _row(self, answer: Answer, payload: bytes, attempts: int, worker: str) -> None:
        answer = self._bills.settle(answer)
        index, _, prediction, score, error, latency, usage, asked, cost, _ = answer
        at = f"{self.node['name']}/{worker}"
        row = (index, payload, prediction, score, error, attempts, latency, usage, asked, cost, at, time.time())
        rows = self._hopeless.observe(row, error)
        if self._hopeless.verdict is not None and self._plan is not None:
            self._plan.stop("hopeless")
        self._writer.add(rows)

    async def _write(self) -> None:
        plan = self._plan
        assert plan is not None
        await self._writer.write(written=self._pump, finished=lambda: plan.finished)
        await self._finish()

    # --- the end ----------------------------------------------------------------------------------------------------

    async def _finish(self) -> None:
        plan = self._plan
        assert plan is not None
        match plan.stopped:
            case None if self._broken is not None:
                await self._end("failed", self._broken)
            case None | "successes" | "errors":
                await self._end("finished", plan.stopped)
            case "hopeless":
                await self._end("failed", f"{self._hopeless.verdict} (put that right and resume)")
            case "max_failures":
                await self._end("failed", f"more than {plan.settings.max_failures} examples failed")
            case _:
                await self._end("failed", "an example failed, and failures='stop'")

    async def _end(self, state: str, reason: str | None) -> None:
        total = None if self._source is None else self._source.total
        await self._writer.write_down("end", self._run_id, state, reason, total)
        for ref in self._refs.values():
            self.cast(ref, ("forget", self._run_id))
        self._over = True
        self.send_after(0.0, "over")

    async def terminate(self, reason: Any) -> None:
        """Tell the workers to drop the run, and bring what has come in to the journal."""
        if self._over:
            return
        try:
            async with asyncio.timeout(LAST_SECONDS):
                for name, ref in self._refs.items():
                    with contextlib.suppress(SupervisorsError):
                        for result in await self.call(ref, ("forget", self._run_id)):
                            self._result(name, Answer(*result))
                await self._writer.bring_rest()
        except (TimeoutError, DspexError):
            count = len(self._writer.left)
            self.log.warning("results that came last are asked again", run=self._run_id, count=count)

    async def _keep_noting(self) -> None:
        while not self._over:
            plan = self._plan
            assert plan is not None
            note = {
                "in_flight": plan.outstanding,
                "waiting": plan.waiting,
                "workers": len(self._refs),
                "trouble": self._writer.trouble,
            }
            if note != self._last_note:
                self._last_note = note
                self.cast(RUNS, ("note", self._run_id, note))
            await asyncio.sleep(NOTE_SECONDS)
