"""The keeper of runs: the only writer of the node's journal, and who starts and resumes evaluators.

Requests (all plain data):
    ("create", spec fields, force)      → run row; starts its evaluator unless the run is finished
    ("resume", run_id, force)           → run row
    ("dataset", run_id, descriptor, digest, parts) → None; the run goes on with what its dataset is now
    ("delete", run_id)                  → None
    ("cancel"|"pause", run_id, reason)  → run row
    ("open", run_id)                    → what its evaluator needs to begin or go on
    ("progress", run_id)                → summary, note
    ("list", limit)                     → summaries
and of evaluators what stands in `runs.messages`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dspex_actors.errors import ConfigError, DspexError
from dspex_actors.journal.index import JOURNAL_FILE, SPOOL_FOLDER
from dspex_actors.journal.records import RunRow, RunSpec
from dspex_actors.journal.sameness import check_goes_on
from dspex_actors.journal.summary import run_summary
from dspex_actors.journal.writer import Journal
from dspex_actors.names import EVALUATORS, check_run_id, run_name
from dspex_actors.runs import notes
from dspex_actors.runs.evaluator.actor import Evaluator
from dspex_actors.runs.messages import Add, End, Note
from supervisors import NO_REPLY, ChildSpec, Down, ExitReason, GenServer
from supervisors.errors import (
    AlreadyPresent,
    AlreadyStarted,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    NoProcess,
    ServerExited,
    SupervisorsError,
)
from supervisors.host import processes

#: An evaluator that has ended is cleared away at this interval, in seconds, so many times at most.
CLEAR_SECONDS, CLEAR_TRIES = 0.05, 200
#: A run whose evaluator has died more often than this within this many seconds is given up.
MAX_FALLS, FALL_SECONDS = 8, 60.0
#: While its branch of the tree is being restarted an evaluator cannot be started: how often to try, and how long apart.
START_TRIES, START_SECONDS = 100, 0.05


class Runs(GenServer):
    """Keeps the journal and the runs of one node. Argument: how many http workers the node has."""

    async def init(self, workers: int) -> None:
        """Open the journal; go on with what was running, or mark it as paused after a new start of the node."""
        self._workers = workers
        node = self.node
        data_dir = Path(node["data_dir"])
        self._journal = Journal(data_dir / JOURNAL_FILE)
        self._notes: dict[str, dict[str, Any]] = {}
        self._watched: dict[Any, str] = {}
        self._falls: dict[str, list[float]] = {}
        marker = data_dir / "run" / "runs.daemon"
        same_daemon = marker.exists() and marker.read_text() == node["uid"]
        marker.write_text(node["uid"])
        if same_daemon:
            # This process, or the whole node under the same daemon, fell and is back: its runs go on by themselves.
            self.send_after(0.0, "revive")
        else:
            self._journal.pause_interrupted("the node was stopped or killed")

    def terminate(self, reason: ExitReason) -> None:
        """Close the journal; where the node is stopped, runs that are under way are paused first.

        After a crash they go on: this server comes back, and their evaluators have been waiting for it.
        """
        if reason.kind != "error":
            self._journal.pause_interrupted("the node was stopped")
        self._journal.close()

    async def handle_call(self, request: Any, caller: Any) -> Any:
        """Answer one request; an error of ours travels as its record."""
        if isinstance(request, tuple) and request[0] in ("cancel", "pause", "delete"):
            # Beside everything else: the evaluator that is being ended brings its last results here.
            self.spawn(self._reply_later(request, caller))
            return NO_REPLY
        return await self._reply_to(request)

    async def _reply_later(self, request: Any, caller: Any) -> None:
        self.reply(caller, await self._reply_to(request))

    async def _reply_to(self, request: Any) -> Any:
        try:
            return "ok", await self._answer(request)
        except DspexError as error:
            return "error", error.to_record()
        except Exception as error:
            # A request that cannot be done is its sender's trouble; the keeper of the other runs stays.
            self.log.exception("a request failed")
            what = f"{type(error).__name__}: {error}"
            return "error", DspexError(f"the keeper of runs failed: {what}; see `dspex logs`").to_record()

    async def _answer(self, request: Any) -> Any:
        match request:
            case Add(run_id, results, attempts):
                return self._journal.add_values(run_id, results, attempts)
            case ("progress", run_id):
                return self._progress(run_id)
            case ("open", run_id):
                return self._open(run_id)
            case ("create", spec, force):
                check_run_id(spec.get("run_id"))
                return await self._go_on(self._journal.create_run(RunSpec(**spec), force=force))
            case ("resume", run_id, force):
                row = self._row(run_id)
                check_goes_on(row, force=force)
                return await self._go_on(row)
            case ("dataset", run_id, descriptor, digest, parts):
                self._row(run_id)
                return self._journal.set_dataset(run_id, descriptor, digest, parts)
            case End(run_id, state, reason, total):
                if total is not None:
                    self._journal.set_total(run_id, total)
                self._drop_spool(self._journal.set_state(run_id, state, reason))
                self._notes.pop(run_id, None)
                return None
            case (("cancel" | "pause") as verb, run_id, reason):
                return await self._halt(run_id, "cancelled" if verb == "cancel" else "paused", reason)
            case ("delete", run_id):
                return await self._delete(run_id)
            case ("list", limit):
                return [run_summary(row) for row in self._journal.list_runs(limit=limit)]
        raise ConfigError(f"runs do not know the request {request!r}")

    def handle_cast(self, message: Any) -> None:
        """Keep an evaluator's note."""
        match message:
            case Note(run_id, note):
                self._notes[run_id] = note
            case _:
                self.log.error("the keeper of runs does not know a message", message=repr(message)[:200])

    async def handle_info(self, message: Any) -> None:
        """Revive what was running; clear away evaluators that have ended."""
        match message:
            case "revive":
                if await self.whereis(EVALUATORS) is None:
                    self.send_after(0.02, "revive")  # started after this server
                    return
                for row in reversed(self._journal.list_runs(state="running")):
                    with contextlib.suppress(ConfigError):  # it is written down why
                        await self._start(row.run_id)
            case Down(ref=ref, reason=reason):
                run_id = self._watched.pop(ref, None)
                if run_id is not None:
                    self.spawn(self._after_end(run_id, reason))

    # --- runs -------------------------------------------------------------------------------------------------------

    def _row(self, run_id: str) -> RunRow:
        row = self._journal.get_run(run_id)
        if row is None:
            raise ConfigError(f"no run {run_id!r} here: `dspex runs` lists them")
        return row

    def _drop_spool(self, row: RunRow) -> None:
        """Remove the copy of a finished run's examples: nothing is asked any more, and they are in the journal."""
        if row.state == "finished":
            self._remove_spool(row)

    def _remove_spool(self, row: RunRow) -> None:
        dataset = row.spec.dataset
        if dataset.get("kind") == "spool":
            path = Path(dataset["path"])
            if path.parent.name == SPOOL_FOLDER and path.parent.parent == self._journal.path.parent:
                with contextlib.suppress(OSError):
                    path.unlink()

    async def _go_on(self, row: RunRow) -> dict[str, Any]:
        if row.state != "finished":
            row = self._journal.set_state(row.run_id, "running")
            await self._start(row.run_id)
        return run_summary(row)

    async def _start(self, run_id: str) -> None:
        spec = ChildSpec(
            run_name(run_id),
            Evaluator,
            args=(run_id, self._workers),
            restart="transient",
            name=run_name(run_id),
            shutdown=10.0,
        )
        for _ in range(START_TRIES):
            try:
                ref = await self.start_child(EVALUATORS, spec)
            except AlreadyStarted as error:
                ref = error.ref
            except (AlreadyPresent, NoProcess, ServerExited):
                # Ended and not cleared away yet, or its supervisor is at it, or that is being restarted itself.
                if not await self._clear(run_id):
                    await asyncio.sleep(START_SECONDS)
                continue
            except SupervisorsError as error:
                self._journal.set_state(run_id, "failed", f"its evaluator did not start: {error}")
                raise ConfigError(f"the run {run_id} cannot start: {_last_line(error)}") from None
            if ref is not None and processes.has_ended(ref.pid, ref.born):
                await asyncio.sleep(START_SECONDS)  # its supervisor does not know yet
                continue
            if ref is not None:
                self._watched[ref] = run_id
                self.monitor(ref)
            return
        self._journal.set_state(run_id, "failed", "its evaluator did not start; see `dspex logs`")
        raise ConfigError(f"the run {run_id} cannot start: see `dspex logs`")

    async def _clear(self, run_id: str) -> bool:
        """Forget an ended evaluator's child spec; return whether that is possible now."""
        try:
            await self.delete_child(EVALUATORS, run_name(run_id))
        except ChildNotFound:
            return True
        except (NoProcess, ServerExited, ChildRestarting, ChildRunning):
            return False
        return True

    async def _clear_away(self, run_id: str) -> None:
        """Forget an ended evaluator's child spec, as soon as its supervisor has noticed the end too."""
        for _ in range(CLEAR_TRIES):
            if await self._clear(run_id):
                return
            await asyncio.sleep(CLEAR_SECONDS)
            row = self._journal.get_run(run_id)
            if row is not None and row.state == "running":
                return  # resumed meanwhile: it has an evaluator again

    async def _after_end(self, run_id: str, reason: Any) -> None:
        """Clear away an evaluator that has ended for good; one that died comes back, its supervisor dead or not."""
        row = self._journal.get_run(run_id)
        if row is None or row.state != "running":
            self._falls.pop(run_id, None)
            await self._clear_away(run_id)
            return
        now = time.monotonic()
        falls = self._falls[run_id] = [
            *(at for at in self._falls.get(run_id, ()) if now - at < FALL_SECONDS),
            now,
        ]
        if len(falls) > MAX_FALLS:
            why = f"its evaluator died {len(falls)} times within {FALL_SECONDS:g} s, last of: {reason}"
            self._falls.pop(run_id)
            await self._halt(run_id, "failed", why)
            await self._clear(run_id)
            return
        with contextlib.suppress(ConfigError):  # it is written down why
            await self._start(run_id)

    async def _halt(self, run_id: str, state: Any, reason: str) -> dict[str, Any]:
        self._row(run_id)
        row = self._journal.set_state(run_id, state, reason)
        with contextlib.suppress(ChildNotFound, NoProcess, ServerExited):
            await self.terminate_child(EVALUATORS, run_name(run_id))
        return run_summary(self._row(row.run_id))

    async def _delete(self, run_id: str) -> None:
        row = self._row(run_id)
        if row.state == "running":
            raise ConfigError(f"run {run_id} is running: pause or cancel it first")
        await self._clear_away(run_id)  # its evaluator may still be bringing its last results
        row = self._row(run_id)
        if row.state == "running":
            raise ConfigError(f"run {run_id} was resumed meanwhile: pause or cancel it first")
        self._journal.delete_run(run_id)
        self._remove_spool(row)
        notes.clear(self._journal.path.parent, run_id)
        self._notes.pop(run_id, None)

    def _open(self, run_id: str) -> dict[str, Any]:
        row = self._journal.next_epoch(run_id)
        outcomes = []
        if row.spec.settings.get("rule"):
            # A stop rule looks at every result in order, those of before a restart too.
            outcomes = [
                (one.index, one.error is None and bool(one.score), one.error is not None)
                for one in self._journal.iter_results(run_id)
            ]
        spec = row.spec
        return asdict(spec) | {
            # Runs of before the descriptor had it are compared too.
            "dataset": {"digest": spec.dataset_digest, **spec.dataset},
            "outcomes": outcomes,
            "done": self._journal.done_indices(run_id).to_bytes(),
            "failed": row.failed,
            "answered": row.succeeded > 0,
            "epoch": row.epoch,
        }

    def _progress(self, run_id: str) -> dict[str, Any]:
        return {"summary": run_summary(self._row(run_id)), "note": self._notes.get(run_id) or {}}


def _last_line(error: SupervisorsError) -> str:
    detail = error.reason.detail if error.reason is not None else None
    return str(detail["message"]) if isinstance(detail, dict) and detail.get("message") else str(error)
