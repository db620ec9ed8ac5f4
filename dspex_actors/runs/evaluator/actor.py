"""The evaluator: one per run. Reads the dataset, gives work to workers, and gets results into the journal.

What is decided is in `plan`; this actor moves bytes. Work goes out in chunks by cast, results come back in
batches by cast, and a result counts only when the journal has answered that it is on the disk. Nobody waits for an
evaluator; if it dies, its successor opens the run from the journal and goes on.

A row for each request goes with the results; what a worker that died had asked is in its notes (`runs.notes`). What it
takes stands in `runs.work`: `Results`, and `GetJob` once per worker and run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from dspex_actors.errors import DspexError
from dspex_actors.foundation import collector
from dspex_actors.foundation.indexset import IndexSet
from dspex_actors.foundation.telemetry.recorded import RunProgress
from dspex_actors.journal.errors import Fenced
from dspex_actors.journal.records import RunState
from dspex_actors.journal.schema import Values, attempt_values
from dspex_actors.lm.attempts import tags_text
from dspex_actors.lm.control.messages import GetOwner
from dspex_actors.names import RUNS
from dspex_actors.observe.reporting import report_from_actor, report_last
from dspex_actors.runs import notes
from dspex_actors.runs.datasets.fetching import dataset_here
from dspex_actors.runs.evaluator.accounts import make_accounts
from dspex_actors.runs.evaluator.asking import ask_runs
from dspex_actors.runs.evaluator.crew import Crew, Hand
from dspex_actors.runs.evaluator.ending import inherits, nodes_of, outcome_of, plan_of
from dspex_actors.runs.evaluator.handover import lost_at, rest_of
from dspex_actors.runs.evaluator.noting import NOTE_SECONDS, Noting
from dspex_actors.runs.evaluator.owners import give_owner
from dspex_actors.runs.evaluator.owning import owning, tell_worker
from dspex_actors.runs.evaluator.rows import Rows, lost_rows
from dspex_actors.runs.evaluator.sending import Sender
from dspex_actors.runs.evaluator.source import Source
from dspex_actors.runs.evaluator.writer import Writer
from dspex_actors.runs.messages import End, Note
from dspex_actors.runs.plan.plan import RunPlan
from dspex_actors.runs.plan.sittings import Sitting
from dspex_actors.runs.plan.stop_rule import StopRule
from dspex_actors.runs.plan.types import Lost
from dspex_actors.runs.spec import Job
from dspex_actors.runs.work import Forget, GetJob, Result, Results, Stands, StillMine, Written
from supervisors import NO_REPLY, Down, GenServer, Ref, Stop
from supervisors.cluster.membership.messages import NodeChanged, NodeDown, NodeUp

#: The window of a worker that died is kept for its successor for so many seconds.
BACK_SECONDS = 1.0
#: A run that is ended from outside brings in what has been answered for at most so many seconds.
LAST_SECONDS = 5.0
#: Sendings of one example are numbered on from here by each evaluator of the run: (epoch - 1) times this.
SENDS = 1 << 20


class Evaluator(GenServer):
    """One run. Arguments: its id, how many http workers there are, and what it would be told when it opens the run."""

    def init(self, run_id: str, workers: int, found: dict[str, Any] | None = None) -> None:
        """Begin as soon as the keeper of runs, who is waiting for this to return, can answer."""
        report_from_actor(self)
        self._run_id, self._workers = run_id, workers
        self._crew: Crew
        self._sender: Sender
        self._epoch = 0
        self._plan: RunPlan | None = None
        self._writer = Writer(run_id, self._ask, self.log)
        self._data_dir = Path(self.node["data_dir"])
        self._rows: Rows
        self._source: Source | None = None
        self._latency: float | None = None
        self._broken: str | None = None
        self._over = self._gathered = False
        collector.expect_many()
        self.spawn(self._open(found))

    async def _open(self, found: dict[str, Any] | None) -> None:
        found = found or await self._writer.write_down(("open", self._run_id))
        self._writer.opened(found["claimed"], found["epoch"], found["depth"])
        self._mine = owning(self, self._writer, self._pump)
        settings, self._tags = found["settings"], tags_text(found["labels"])
        self._job = Job(self._run_id, found["kind"], found["program"], found["metric"], found["lm"], settings)
        self._epoch = found["epoch"]
        self._crew = Crew(self, self, self._run_id, self._workers, nodes_of(settings, str(self.node["name"])))
        self._sender = Sender(self, self._run_id, self._epoch, self._crew, settings)
        self.spawn(make_accounts(self, self._run_id, settings))
        sends = SENDS * (self._epoch - 1)
        self._rows = Rows(
            settings.get("failure_score"), answered=found["answered"], first_send=sends + 1, decides=found["decides"]
        )
        try:
            dataset = await dataset_here(self, self._run_id, found["dataset"])
            self._done = IndexSet.from_bytes(found["done"])
            self._rows.progress = RunProgress(self._run_id, found["kind"], len(self._done))
            self._total = found["total"]
            rule = None if settings.get("rule") is None else StopRule(**settings["rule"])
            await self._crew.gather()
            inherited = await self._inherit() if self._epoch > 1 else []  # nobody has worked for one before
            if rule is not None:
                for index, success, error in [*found["outcomes"], *inherited]:
                    rule.observe(index, success=success, error=error)
            self._plan = plan_of(settings, rule, found["failed"], sends)
            self._source = Source(dataset, self._done)
        except DspexError as error:
            await self._end("failed", error.message)
            return
        self.spawn(self._write())
        self.spawn(self._keep_noting())
        # Work is shared out once those are in that can be had soon: who comes first would get it all.
        self._crew.introduce()
        self._gathered = True
        self._pump()

    async def _inherit(self) -> list[tuple[int, bool, bool]]:
        """Take over what workers were asking for an evaluator of this run that died: it is paid, and not asked again.

        What workers had asked that died too is written down as lost.

        Returns:
            Index, success and error of each result, once the workers' calls have ended.
        """
        inherited: list[tuple[int, bool, bool]] = []
        how = inherits(self._job.options)

        async def take(name: str, ref: Ref) -> None:
            async for payload, result in rest_of(self, ref, self._run_id, self._epoch, how):
                rows: list[Values] = []
                if result.again != "no":
                    self._rows.again(result)
                elif self._done.add(result.index):
                    rows = self._rows.settled(result, payload, 1, name)
                    inherited.append((result.index, result.success, result.error is not None))
                self._writer.add(rows, self._rows.paid(result))

        await asyncio.gather(*(take(hand.name, hand.ref) for hand in list(self._crew.hands.values())))
        self._add_lost(ended_only=True)
        return inherited

    def _add_lost(self, *, ended_only: bool) -> None:
        lost = lost_rows(self._data_dir, self._run_id, ended_only=ended_only, told=self._rows.was_told, tags=self._tags)
        self._writer.add([], [attempt_values(row) for row in lost])

    async def _ask(self, request: Any) -> Any:
        """Ask the keeper of runs; from a run that does not go on here nothing comes back."""
        try:
            return await ask_runs(self, request)
        except Fenced as error:
            if self._over:
                raise
            # Another node's evaluator has the run, and takes over what workers are at; or it was paused.
            self.log.warning("the run does not go on here", run=self._run_id, why=error.message)
            self._over = True
            self.send_after(0.0, "over")
            return await asyncio.Event().wait()

    # --- work out ---------------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Feed the plan, and send what it decides; cheap when there is nothing to do."""
        plan, source, writer = self._plan, self._source, self._writer
        if plan is None or source is None or not (self._gathered and writer.takes_more and self._mine.is_sure()):
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
            self._sender.send(part)
        if plan.finished:
            writer.add(self._rows.hopeless.close(complete=plan.stopped is None and self._broken is None))
            self._look_at_verdict()

    def _breaks_off(self, why: str) -> None:
        """Take note that the dataset cannot be read on: what was read before is done, then the run has failed."""
        self._broken = why
        if self._plan is not None:
            self._plan.source_ended()

    # --- workers ----------------------------------------------------------------------------------------------------

    def joined(self, hand: Hand) -> None:
        """Take in a worker that the crew has found."""
        if self._plan is not None:
            self._lost(self._plan.worker_joined(hand.name, capabilities=hand.capabilities))
        self._pump()

    def left(self, name: str, *, back_soon: bool, blameless: bool) -> None:
        """Take note that a worker is gone."""
        if self._plan is not None:
            self._lost(self._plan.worker_left(name, back_soon=back_soon, blameless=blameless))
            self._sender.left(self._plan, name)
            if back_soon:
                self.send_after(BACK_SECONDS, "resplit")
        # The others of its node may be just going: who died together is found out before its work goes to those.
        self.send_after(0.0, "pump")

    def rests(self, name: str, *, rests: bool) -> None:
        """Give a worker nothing more, or let it work again."""
        if self._plan is not None:
            self._plan.worker_rests(name, rests=rests)
            self._pump()

    def holds(self, name: str) -> bool:
        """Whether a worker has examples without a result."""
        return self._plan is not None and self._plan.holds(name)

    def resend(self, hand: Hand, stands: Stands) -> None:
        """Say again what a worker has not heard, and have it say again what was not heard of it."""
        self._sender.resend(hand, stands)

    def handle_info(self, message: Any) -> None:
        """Take in what the crew has to know, the death of a worker above all."""
        if message == "over":
            raise Stop("normal")
        if message == "resplit" and self._plan is not None:
            self._plan.resplit()
        if isinstance(message, Down):
            self._crew.down(message)
        elif isinstance(message, NodeUp | NodeDown | NodeChanged):
            self._crew.hear(message)
        self._pump()

    def _lost(self, lost: list[Lost]) -> None:
        for item in lost:
            assert self._plan is not None
            self._sender.decided(self._plan, item.index, "accept")
            result = Result(index=item.index, send=0, error=item.error)
            self._writer.add(self._rows.settled(result, item.payload, item.attempts, str(item.worker)))

    # --- results in -------------------------------------------------------------------------------------------------

    def handle_call(self, request: Any, caller: Any) -> Any:
        """Tell a worker what the run is."""
        match request:
            case GetJob():
                return self._job
            case GetOwner():
                self.spawn(give_owner(self, caller, request))
            case StillMine():
                self.spawn(tell_worker(self, self._mine, self._crew, caller, request))
            case _:
                self.log.error("an evaluator does not know a request", run=self._run_id, request=repr(request)[:200])
                return None  # a worker of another version says so where its examples fail
        return NO_REPLY

    def handle_cast(self, message: Any) -> None:
        """Take in a batch of results."""
        if not isinstance(message, Results):
            self.log.error("an evaluator does not know a message", run=self._run_id, message=repr(message)[:200])
            return
        hand = self._crew.hands.get(message.worker)
        if hand is None or hand.sitting.number != message.sitting:
            self._take(message.worker, message.results)  # late; it comes again, should the worker still have it
        else:
            match hand.sitting.hear(message.batch, message.taken, asyncio.get_running_loop().time()):
                case "new":
                    self._take(message.worker, message.results)
                    # Its worker keeps the batch until then: what this evaluator has and loses is not asked again.
                    self._writer.mark(partial(self._written, hand, hand.sitting, message.batch))
                case "known" if message.batch <= hand.sitting.written:
                    self._written(hand, hand.sitting, hand.sitting.written)
        self._pump()

    def _written(self, hand: Hand, sitting: Sitting, batch: int) -> None:
        sitting.written = max(sitting.written, batch)
        if self._crew.hands.get(hand.name) is hand:
            self.cast(hand.ref, Written(self._run_id, self.ref, sitting.number, batch))

    def _take(self, worker: str, results: Sequence[Result]) -> None:
        """Take in results and what they have cost, and pass on to the journal what is certain now."""
        assert self._plan is not None
        rows: list[Values] = []
        paid: list[Values] = []
        for result in results:
            rows += self._result(self._plan, worker, result)
            paid += self._rows.paid(result)  # that is paid, whatever becomes of the result
            self._look_at_verdict()
        self._writer.add(rows, paid)
        if self._latency is not None:
            self._plan.note_latency(self._latency)

    def _result(self, plan: RunPlan, worker: str, result: Result) -> list[Values]:
        """Decide on a result, and return the rows to write down now."""
        error, latency = result.error, result.latency
        if error is None and latency is not None:
            self._latency = latency if self._latency is None else 0.95 * self._latency + 0.05 * latency
        is_second = self._sender.heard(result)
        if result.failure == "BudgetExceeded" and not is_second:
            plan.put_off(result.index, result.send, self._rows.put_off(result))
            return []
        elsewhere = self._crew.lacks(worker, result)
        decision = plan.result(
            result.index,
            result.send,
            error=None if error is None else str(error.get("type")),
            success=result.success,
            free=result.again == "free" or elsewhere,
            final=error is not None and result.again == "no",
        )
        self._sender.decided(plan, result.index, decision.fate)
        if decision.fate == "accept":
            return self._rows.settled(result, decision.payload, decision.attempts, worker)
        if decision.fate == "again" and not elsewhere:
            self._rows.again(result)
        return []

    def _look_at_verdict(self) -> None:
        if self._rows.hopeless.verdict is not None and self._plan is not None:
            self._plan.stop("hopeless")

    async def _write(self) -> None:
        plan = self._plan
        assert plan is not None
        await self._writer.write(written=self._pump, finished=lambda: plan.finished)
        await self._end(*outcome_of(plan, self._broken, self._rows.hopeless.verdict))

    # --- the end ----------------------------------------------------------------------------------------------------

    async def _end(self, state: RunState, reason: str | None) -> None:
        await self._take_rest("cancel")
        self._writer.add(self._rows.hopeless.close(complete=False))
        await self._writer.write(written=lambda: None, finished=lambda: True)
        total = None if self._source is None else self._source.total
        if self._plan is not None:
            self._show_progress(self._plan)
        telling = self.spawn(report_last())  # meanwhile: the end of a run waits for nobody
        await self._writer.write_down(End(self._run_id, state, reason, total))
        self._let_go()
        self._over = True
        await telling
        self.send_after(0.0, "over")

    def _let_go(self) -> None:
        """Have nothing of the run kept elsewhere: nobody works on it any more, and the journal has what was asked."""
        self._crew.close()
        for hand in self._crew.hands.values():
            self.cast(hand.ref, Forget(self._run_id, self.ref))
        notes.clear(self._data_dir, self._run_id)

    async def _take_rest(self, calls: Literal["cancel", "leave"]) -> None:
        """Take what workers have of this run: calls that are under way are cancelled, or left to the next evaluator."""

        async def take(name: str, ref: Ref) -> None:
            async for _, result in rest_of(self, ref, self._run_id, self._epoch, calls, LAST_SECONDS):
                if result.again != "no":
                    self._writer.add([], self._rows.paid(result))  # given up, or to be tried again: it was paid
                elif self._plan is not None:
                    self._take(name, [result])

        await asyncio.gather(*(take(hand.name, hand.ref) for hand in list(self._crew.hands.values())))
        if calls == "cancel":
            # What is in no result by now: of calls that workers could not end, or that ended with their worker.
            self._add_lost(ended_only=False)
            self._writer.add([], await lost_at(self, self._crew.far, self._run_id, self._rows.was_told, self._tags))

    async def terminate(self, reason: Any) -> None:
        """Bring what is here to the journal, then what workers have; what they are at is left to a successor."""
        if self._over or not self._epoch:  # it was never opened: nothing is here
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

    def _show_progress(self, plan: RunPlan) -> None:
        total = None if self._source is None else self._source.total
        self._rows.progress.is_at(self._total if total is None else total, plan.outstanding)

    async def _keep_noting(self) -> None:
        noting = Noting(self, self._run_id)
        while not self._over:
            assert self._plan is not None
            self._show_progress(self._plan)
            self._crew.look_after()
            twice = self._sender.started_twice
            if (note := await noting.news(self._plan, self._crew, self._writer.trouble, twice)) is not None:
                self.cast(RUNS, Note(self._run_id, note))
            if noting.goes_on and self._mine.is_sure():
                self._sender.look(self._plan)
            await asyncio.sleep(NOTE_SECONDS)
