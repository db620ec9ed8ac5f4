"""The keeper of runs: the only writer of the node's journal, and who starts and resumes evaluators.

Requests (all plain data):
    ("create", spec fields, force)      → run row; starts its evaluator unless the run is finished
    ("resume", run_id, force)           → run row; with a further item: the run's new budget
    ("dataset", run_id, descriptor, digest, parts) → None; the run goes on with what its dataset is now
    ("delete", run_id)                  → None
    ("cancel"|"pause", run_id, reason)  → run row
    ("open", run_id)                    → what its evaluator needs to begin or go on
    ("progress", run_id)                → summary, note
    ("wait", run_ids, seconds)          → those that have ended, as soon as one has; none when the time is up
    ("list", limit)                     → summaries
    ("journal",)                        → place (file, server), state (well, away), why and since when it is away
    ("workflow", ...)                   → as `workflows` says
and of evaluators what stands in `runs.messages`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any

from dspex_actors.errors import ConfigError, DspexError
from dspex_actors.foundation import collector
from dspex_actors.journal.budget import check_more, set_budget
from dspex_actors.journal.copies import check_order
from dspex_actors.journal.errors import Fenced, JournalError
from dspex_actors.journal.opening import open_journal
from dspex_actors.journal.records import RunRow, RunSpec
from dspex_actors.journal.rows import unpacked_rows
from dspex_actors.journal.sameness import HELD, check_goes_on, is_nodes_own
from dspex_actors.journal.store import Appended, Batch
from dspex_actors.journal.summary import run_summary
from dspex_actors.names import check_run_id
from dspex_actors.observe.reporting import report_from_actor
from dspex_actors.runs import notes
from dspex_actors.runs.datasets.keeping import Keeping
from dspex_actors.runs.datasets.messages import DropCopy, GetCopy, GetPiece, KeepCopy
from dspex_actors.runs.keeper import workflows
from dspex_actors.runs.keeper.batches import end_batches
from dspex_actors.runs.keeper.evaluators import AWAY_SECONDS, Evaluators
from dspex_actors.runs.keeper.opened import opened
from dspex_actors.runs.keeper.takeover import TakeOver
from dspex_actors.runs.keeper.telling import tell_cluster
from dspex_actors.runs.keeper.waiting import Waiting
from dspex_actors.runs.messages import Add, End, Note, Paid
from dspex_actors.runs.standby.answering import answer_coordinator, answer_reader
from dspex_actors.runs.standby.leading import Leading
from dspex_actors.runs.standby.messages import DropRun, OfCoordinator, OfReader
from supervisors import NO_REPLY, Down, ExitReason, GenServer
from supervisors.cluster.leases.handle import LeaseEnded
from supervisors.cluster.membership.messages import NodeChanged, NodeDown, NodeUp

#: Requests that take their time, or during which an evaluator brings its last results: others are answered meanwhile.
BESIDE = ("cancel", "pause", "delete", "journal")
#: A run whose program and metric take more bytes than this is opened by its evaluator: what starts a process is small.
MOST_TOLD = 64 << 10


class Runs(GenServer):
    """Keeps the journal and the runs of one node. Arguments: its http workers, and how many nodes have a run."""

    async def init(self, workers: int, replicas: int | None = None) -> None:
        """Open the journal; go on with what was running, or mark it as paused after a new start of the node."""
        report_from_actor(self)
        collector.expect_many()
        node = self.node
        data_dir = Path(node["data_dir"])
        self._journal = open_journal(data_dir)
        self._notes: dict[str, dict[str, Any]] = {}
        self._looks_at_workflows = False
        self._waiting = Waiting(self, self._is_under_way)
        self._takeover = TakeOver(self, self._journal, self._go_on)
        self._takeover.begin()
        self._datasets = Keeping(self, self._journal, lambda row: self._leading.copies_of(row) or self._takeover.others)
        self._datasets.begin()
        self._leading = Leading(self, self._journal, self._go_on, replicas, self._datasets.begin)
        self._leading.afterwards.deleted = self._deleted
        self._evaluators = Evaluators(self, self._journal, workers, self._leading.has, self._halt)
        marker = data_dir / "run" / "runs.daemon"
        same_daemon = marker.exists() and marker.read_text() == node["uid"]
        marker.write_text(node["uid"])
        # Where this process, or the whole node under the same daemon, fell and is back, its runs go on by themselves.
        goes_on = same_daemon or self._takeover.is_shared
        self._begins_with = "revive" if goes_on else "pause"
        if goes_on or not self._pause("the node was stopped or killed"):
            self.send_after(0.0, self._begins_with)
        self.spawn(tell_cluster(self, workers, lambda: self._evaluators.count, look=self._leading.attend))

    async def terminate(self, reason: ExitReason) -> None:
        """Close the journal; where the node is stopped, runs that are under way are paused first.

        After a crash they go on: this server comes back, and their evaluators have been waiting for it.
        """
        if reason.kind != "error":
            await self._leading.stop("the node was stopped")
            self._pause("the node was stopped")
        self._journal.close()

    def _pause(self, why: str) -> bool:
        """Pause what was running; return whether the journal, a server that may be away, could write that down."""
        try:
            self._journal.pause_interrupted(why)
        except JournalError as error:
            self.log.error("the journal cannot be used", why=error.message)
            return False
        return True

    async def handle_call(self, request: Any, caller: Any) -> Any:
        """Answer one request; an error of ours travels as its record."""
        if isinstance(request, tuple) and request[0] == "wait" and len(request) == 3:
            return self._wait(caller, *request[1:])
        if self._leading.is_on or (isinstance(request, tuple) and request[0] in BESIDE):
            # Beside everything else; copies take their time, too.
            self.spawn(self._reply_later(request, caller))
            return NO_REPLY
        if isinstance(request, GetCopy | GetPiece):
            self.spawn(self._datasets.give(request, caller))
            return NO_REPLY
        return await self._reply_to(request)

    def _wait(self, caller: Any, run_ids: Any, seconds: Any) -> Any:
        try:
            self._waiting.ask(caller, run_ids, seconds)
        except DspexError as error:
            return "error", error.to_record()
        return NO_REPLY

    def _is_under_way(self, run_id: str) -> bool:
        row = self._journal.follow_run(run_id)
        return row is not None and row.state == "running"

    async def _reply_later(self, request: Any, caller: Any) -> None:
        self.reply(caller, await self._reply_to(request))

    async def _reply_to(self, request: Any) -> Any:
        try:
            answer = await self._answer(request)
            if self._leading.is_on:
                await self._leading.settled(request)
            return "ok", answer
        except DspexError as error:
            return "error", error.to_record()
        except Exception as error:
            # A request that cannot be done is its sender's trouble; the keeper of the other runs stays.
            self.log.exception("a request failed")
            what = f"{type(error).__name__}: {error}"
            return "error", DspexError(f"the keeper of runs failed: {what}; see `dspex logs`").to_record()

    async def _answer(self, request: Any) -> Any:
        self._leading.guard(request)
        await self._leading.lead(request)
        match request:
            case _ if isinstance(request, OfCoordinator):
                return answer_coordinator(self._journal, request)
            case _ if isinstance(request, OfReader):
                return answer_reader(self._journal, request)
            case DropRun(run_id, created_at):
                return await self._leading.afterwards.drop(run_id, created_at)
            case Add(run_id, epoch, opening, number, packed, after):
                check_order(self._journal, run_id, Batch(opening, after))
                return (await self._append(run_id, epoch, Batch(opening, number), packed)).new
            case Paid(worker, batch, rows):
                return self._journal.pay(worker.uid, batch, rows, time.time())
            case ("owner",):
                return self._journal.owner
            case ("journal",):
                why, since = await asyncio.to_thread(self._journal.trouble) or (None, None)
                place = "server" if self._journal.is_far else "file"
                return {"place": place, "state": "well" if why is None else "away", "why": why, "since": since}
            case ("progress", run_id):
                return self._progress(run_id)
            case ("open", run_id):
                return opened(self._journal, run_id) | {"depth": self._leading.depth_of(run_id)}
            case ("create", spec, force):
                check_run_id(spec.get("run_id"))
                workflows.check_part(self._journal, spec)
                row = self._journal.create_run(RunSpec(**spec), force=force)
                return await self._go_on(await self._leading.take(row, force=False))
            case ("resume", run_id, force, *budget):
                row = self._row(run_id)
                workflows.refuse_resume(row.spec.kind, run_id)
                check_goes_on(row, force=force)
                if budget and row.state != "finished":
                    check_more(row, budget[0])
                row = await self._leading.take(row, force=force)
                return await self._go_on(set_budget(self._journal, run_id, budget[0]) if budget else row)
            case ("dataset", run_id, descriptor, digest, parts):
                self._row(run_id)
                return self._journal.set_dataset(run_id, descriptor, digest, parts)
            case End(run_id, state, reason, total):
                if total is not None:
                    self._journal.set_total(run_id, total)
                row = self._journal.set_state(run_id, state, reason)
                if row.state == "finished":
                    # Nothing is asked any more, and the examples are in the journal.
                    self._datasets.drop(row)
                    self._end_batches(row)
                self._notes.pop(run_id, None)
                self._waiting.changed(run_id)
                return None
            case (("cancel" | "pause") as verb, run_id, reason):
                return await self._halt(run_id, "cancelled" if verb == "cancel" else "paused", reason)
            case ("delete", run_id):
                return await workflows.delete_with_parts(self._journal, run_id, self._halt, self._delete)
            case ("workflow", "give up", run_id, reason):
                return await self._halt(run_id, "failed", reason)
            case ("workflow", *rest):
                reply = workflows.answer(self._journal, tuple(rest), self._datasets.drop)
                if rest[0] == "end" and rest[3] != "running" and self._leading.is_on:
                    for part in workflows.under_way(self._journal, self._row(rest[1])):  # nobody follows it any more
                        await self._halt(part, "paused", f"its optimisation is {rest[3]}")
                self._look_at_workflows()
                return reply
            case ("list", limit):
                return [run_summary(row) for row in self._journal.list_runs(limit=limit)]
        raise ConfigError(f"runs do not know the request {request!r}")

    def handle_cast(self, message: Any) -> None:
        """Keep an evaluator's note."""
        match message:
            case Note(run_id, note):
                self._notes[run_id] = note
            case KeepCopy() | DropCopy():
                self._datasets.hear(message)
            case _:
                self.log.error("the keeper of runs does not know a message", message=repr(message)[:200])

    async def handle_info(self, message: Any) -> None:
        """Revive what was running; clear away evaluators that have ended; all again later where the journal is away."""
        try:
            await self._take(message)
        except JournalError as error:
            self.log.error("the journal cannot be used", why=error.message)
            self.send_after(AWAY_SECONDS, message)

    async def _append(self, run_id: str, epoch: int, batch: Batch, packed: bytes) -> Appended:
        results, attempts = unpacked_rows(packed)
        if self._journal.is_far:  # meanwhile others are answered
            return await asyncio.to_thread(self._journal.append, run_id, epoch, batch, results, attempts)
        appended = self._journal.append(run_id, epoch, batch, results, attempts)
        self._leading.wrote(run_id, appended, batch, packed)
        return appended

    async def _take(self, message: Any) -> None:
        match message:
            case "pause":
                self._journal.pause_interrupted("the node was stopped or killed")
            case "revive":
                self._look_at_workflows()
                rows = self._journal.list_runs(state="running")
                self._takeover.revive([row for row in rows if self._leading.has(row)])
                for row in reversed(rows):
                    if row.spec.kind in HELD or not self._leading.has(row):
                        continue  # its program goes on with it, or another node, or who gets its lease
                    with contextlib.suppress(ConfigError):  # it is written down why
                        await self._evaluators.start(row.run_id)
            case NodeUp() | NodeDown() | NodeChanged() if self._journal.is_far:
                self._takeover.hear(message)
            case NodeUp() | NodeDown() | NodeChanged() | LeaseEnded():
                self._leading.hear(message)
            case "workflows":
                goes_on = workflows.pause_forsaken(self._journal)
                self._looks_at_workflows = False
                if goes_on:
                    self._look_at_workflows()
            case ("ended", run_id, reason):
                self._evaluators.ended(run_id, reason)
            case Down(ref=ref, reason=reason):
                self._evaluators.down(ref, reason)

    def _look_at_workflows(self) -> None:
        if not self._looks_at_workflows:
            self._looks_at_workflows = True
            self.send_after(workflows.LOOK_SECONDS, "workflows")

    # --- runs -------------------------------------------------------------------------------------------------------

    def _opened_first(self, row: RunRow) -> dict[str, Any] | None:
        """Open a run for its first evaluator, which need not ask then; None: it does that itself."""
        if len(row.spec.program) + len(row.spec.metric) > MOST_TOLD:
            return None
        try:
            return opened(self._journal, row.run_id) | {"depth": 1}
        except (JournalError, Fenced):
            return None  # it is away just now, and its evaluator waits for it; or hears that the run was just paused

    def _row(self, run_id: str) -> RunRow:
        row = self._journal.get_run(run_id)
        if row is None:
            raise ConfigError(f"no run {run_id!r} here: `dspex runs` lists them")
        return row

    async def _go_on(self, row: RunRow) -> dict[str, Any]:
        if is_nodes_own(row.spec):
            self._takeover.revive([row])
        elif row.epoch == 0 and row.state == "running" and not self._leading.is_on:  # it was just put in
            await self._evaluators.start(row.run_id, self._opened_first(row))
        elif row.state != "finished":
            row = self._journal.set_state(row.run_id, "running")
            await self._evaluators.start(row.run_id)
        return run_summary(row)

    async def _halt(self, run_id: str, state: Any, reason: str) -> dict[str, Any]:
        halted = workflows.halt(self._journal, self._row(run_id), state, reason)
        self._waiting.changed(*(row.run_id for row in halted))
        await asyncio.gather(*(self._end_evaluator(row) for row in halted))
        return run_summary(self._row(run_id))

    async def _end_evaluator(self, row: RunRow) -> None:
        await self._evaluators.end(row.run_id)
        if row.state == "cancelled":
            self._end_batches(row)

    async def _delete(self, run_id: str) -> None:
        row = self._row(run_id)
        if row.state == "running":
            raise ConfigError(f"run {run_id} is running: pause or cancel it first")
        await self._evaluators.clear_away(run_id)  # its evaluator may still be bringing its last results
        row = self._row(run_id)
        if row.state == "running":
            raise ConfigError(f"run {run_id} was resumed meanwhile: pause or cancel it first")
        await self._leading.delete(row)
        self._end_batches(row)
        self._deleted(row)

    def _deleted(self, row: RunRow) -> None:
        self._datasets.drop(row)
        notes.clear(self._journal.path.parent, row.run_id)
        self._notes.pop(row.run_id, None)
        self._waiting.changed(row.run_id)

    def _end_batches(self, row: RunRow) -> None:
        if row.spec.settings.get("batch") is not None:
            self.spawn(end_batches(self, row, self._journal))

    def _progress(self, run_id: str) -> dict[str, Any]:
        row = self._journal.follow_run(run_id) or self._row(run_id)
        return {"summary": run_summary(row), "note": self._notes.get(run_id) or {}}
