"""The evaluator: one per run. Reads the dataset, gives work to workers, and gets results into the journal.

What is decided is in `plan`; this actor moves bytes. Work goes out in chunks by cast, results come back in
batches by cast, and a result counts only when the journal has answered that it is on the disk. Nobody waits for an
evaluator; if it dies, its successor opens the run from the journal and goes on.

A row for each request goes with the results; what a worker that died had asked is in its notes (`runs.notes`). What it
takes stands in `runs.work`: `Results`, and `GetJob` once per worker and run.
"""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any, Literal

from dspex_actors.data.opening import from_descriptor
from dspex_actors.errors import DspexError, from_record
from dspex_actors.foundation.indexset import IndexSet
from dspex_actors.journal.records import RunState
from dspex_actors.journal.schema import Values, values_of_attempt
from dspex_actors.names import RUNS, worker_name
from dspex_actors.runs import notes
from dspex_actors.runs.evaluator.handover import rest_of
from dspex_actors.runs.evaluator.rows import Rows, lost_rows
from dspex_actors.runs.evaluator.source import Source
from dspex_actors.runs.evaluator.writer import Writer
from dspex_actors.runs.messages import End, Note
from dspex_actors.runs.plan.plan import RunPlan
from dspex_actors.runs.plan.stop_rule import StopRule
from dspex_actors.runs.plan.types import Chunk as Part
from dspex_actors.runs.plan.types import Lost, PlanSettings
from dspex_actors.runs.spec import Job
from dspex_actors.runs.work import Chunk, Forget, GetJob, Result, Results, Written
from supervisors import Down, GenServer, Ref, Stop
from supervisors.errors import CallTimeout, NoProcess, ServerExited
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
#: Sendings of one example are numbered on from here by each evaluator of the run: (epoch - 1) times this.
SENDS = 1 << 20
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
        self._data_dir = Path(self.node["data_dir"])
        self._rows: Rows
        self._source: Source | None = None
        self._latency: float | None = None
        self._broken: str | None = None
        self._over = False
        self._gathered = False
        self._last_note: Any = None
        self.spawn(self._open())

    async def _open(self) -> None:
        found = await self._ask(("open", self._run_id))
        settings = found["settings"]
        self._job = Job(self._run_id, found["kind"], found["program"], found["metric"], found["lm"], settings)
        name = str(self.node["name"])
        sends = SENDS * (found["epoch"] - 1)
        self._rows = Rows(name, settings.get("failure_score"), answered=found["answered"], first_send=sends + 1)
        try:
            dataset = from_descriptor(found["dataset"])
            self._done = IndexSet.from_bytes(found["done"])
            rule = None if settings.get("rule") is None else StopRule(**settings["rule"])
            inherited = await self._inherit()
            if rule is not None:
                for index, success, error in [*found["outcomes"], *inherited]:
                    rule.observe(index, success=success, error=error)
            self._plan = RunPlan(
                PlanSettings(**{name: settings[name] for name in PLAN_FIELDS if settings.get(name) is not None}),
                rule=rule,
                failed=found["failed"],
                sends=sends,
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

    async def _inherit(self) -> list[tuple[int, bool, bool]]:
        """Take over what workers were asking for an evaluator of this run that died: it is paid, and not asked again.

        What workers had asked that died too is written down as lost.

        Returns:
            Index, success and error of each result, once the workers' calls have ended.
        """
        inherited: list[tuple[int, bool, bool]] = []

        async def take(name: str) -> None:
            ref = await self.whereis(name)
            if ref is None:
                return
            async for payload, result in rest_of(self, ref, self._run_id, "wait"):
                rows: list[Values] = []
                if result.again != "no":
                    self._rows.again(result)
                elif self._done.add(result.index):
                    rows = self._rows.settled(result, payload, 1, name)
                    inherited.append((result.index, result.success, result.error is not None))
                self._writer.add(rows, self._rows.paid(result))

        await asyncio.gather(*(take(name) for name in self._worker_names))
        self._add_lost(ended_only=True)
        return inherited

    def _add_lost(self, *, ended_only: bool) -> None:
        lost = lost_rows(self._data_dir, self._run_id, ended_only=ended_only, told=self._rows.was_told)
        self._writer.add([], [values_of_attempt(row) for row in lost])

    async def _ask(self, request: Any) -> Any:
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
        for part in plan.take():
            self._send(part)
        if plan.finished:
            writer.add(self._rows.hopeless.close(complete=plan.stopped is None and self._broken is None))
            self._look_at_verdict()

    def _breaks_off(self, why: str) -> None:
        """Take note that the dataset cannot be read on: what was read before is done, then the run has failed."""
        self._broken = why
        assert self._plan is not None
        self._plan.source_ended()

    def _send(self, part: Part) -> None:
        ref = self._refs.get(str(part.worker))
        if ref is not None:
            indices, sends, payloads = ([item[place] for item in part.items] for place in range(3))
            self.cast(ref, Chunk(self._run_id, self.ref, part.window, indices, sends, payloads))  # type: ignore[arg-type]

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
            result = Result(index=item.index, send=0, error=item.error)
            self._writer.add(self._rows.settled(result, item.payload, item.attempts, str(item.worker)))

    # --- results in -------------------------------------------------------------------------------------------------

    def handle_call(self, request: Any, caller: Any) -> Any:
        """Tell a worker what the run is."""
        if isinstance(request, GetJob):
            return self._job
        self.log.error("an evaluator does not know a request", run=self._run_id, request=repr(request)[:200])
        return None  # a worker of another version says so where its examples fail

    def handle_cast(self, message: Any) -> None:
        """Take in a batch of results."""
        if not isinstance(message, Results):
            self.log.error("an evaluator does not know a message", run=self._run_id, message=repr(message)[:200])
            return
        for result in message.results:
            self._result(message.worker, result)
        # Its worker keeps the batch until then: what this evaluator has and loses is not asked again.
        self._writer.mark(partial(self._written, message.worker, self._refs.get(message.worker), message.batch))
        self._pump()

    def _written(self, worker: str, ref: Ref | None, batch: int) -> None:
        if ref is not None and ref == self._refs.get(worker):
            self.cast(ref, Written(self._run_id, self.ref, batch))

    def _result(self, worker: str, result: Result) -> None:
        plan, error = self._plan, result.error
        assert plan is not None
        if error is None and result.latency is not None:
            self._latency = result.latency if self._latency is None else 0.95 * self._latency + 0.05 * result.latency
            plan.note_latency(self._latency)
        decision = plan.result(
            result.index,
            result.send,
            error=None if error is None else str(error.get("type")),
            success=result.success,
            free=result.again == "free",
            final=error is not None and result.again == "no",
        )
        rows: list[Values] = []
        if decision.fate == "again":
            self._rows.again(result)
        elif decision.fate == "accept":
            rows = self._rows.settled(result, decision.payload, decision.attempts, worker)
        self._writer.add(rows, self._rows.paid(result))  # that is paid, whatever becomes of the result
        self._look_at_verdict()

    def _look_at_verdict(self) -> None:
        if self._rows.hopeless.verdict is not None and self._plan is not None:
            self._plan.stop("hopeless")

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
                await self._end("failed", f"{self._rows.hopeless.verdict} (put that right and resume)")
            case "max_failures":
                await self._end("failed", f"more than {plan.settings.max_failures} examples failed")
            case _:
                await self._end("failed", "an example failed, and failures='stop'")

    async def _end(self, state: RunState, reason: str | None) -> None:
        await self._take_rest("cancel")
        self._writer.add(self._rows.hopeless.close(complete=False))
        await self._writer.write(written=lambda: None, finished=lambda: True)
        total = None if self._source is None else self._source.total
        await self._writer.write_down(End(self._run_id, state, reason, total))
        self._let_go()
        self._over = True
        self.send_after(0.0, "over")

    def _let_go(self) -> None:
        """Have nothing of the run kept elsewhere: nobody works on it any more, and the journal has what was asked."""
        for ref in self._refs.values():
            self.cast(ref, Forget(self._run_id, self.ref))
        notes.clear(self._data_dir, self._run_id)

    async def _take_rest(self, calls: Literal["cancel", "leave"]) -> None:
        """Take what workers have of this run: calls that are under way are cancelled, or left to the next evaluator."""

        async def take(name: str, ref: Ref) -> None:
            async for _, result in rest_of(self, ref, self._run_id, calls, LAST_SECONDS):
                if result.again != "no":
                    self._writer.add([], self._rows.paid(result))  # given up, or to be tried again: it was paid
                elif self._plan is not None:
                    self._result(name, result)

        await asyncio.gather(*(take(name, ref) for name, ref in self._refs.items() if name not in self._missing))
        if calls == "cancel":
            # What is in no result by now: of calls that workers could not end, or that ended with their worker.
            self._add_lost(ended_only=False)

    async def terminate(self, reason: Any) -> None:
        """Bring what is here to the journal, then what workers have; what they are at is left to a successor."""
        if self._over:
            return
        try:
            async with asyncio.timeout(LAST_SECONDS):
                await self._writer.bring_rest()
                goes_on = (await self._ask(("progress", self._run_id)))["summary"]["state"] == "running"
                await self._take_rest("leave" if goes_on else "cancel")
                await self._writer.bring_rest()
                if not goes_on:
                    self._let_go()
        except (TimeoutError, DspexError):
            self.log.warning("what came last is asked again", run=self._run_id, rows=self._writer.left)

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
                self.cast(RUNS, Note(self._run_id, note))
            await asyncio.sleep(NOTE_SECONDS)
