"""A program's connection to a dspex node: runs are started, followed, resumed and ended through it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from dspex_actors.client.inputs import check_has_lm, code_of, dataset_inputs, plain_numbers, with_inputs
from dspex_actors.client.own_node import forget_if_unused, own_node
from dspex_actors.client.progress import RunProgress
from dspex_actors.client.result import EvaluationResult
from dspex_actors.client.spools import drop_others, kept_if_well, place
from dspex_actors.data.opening import from_descriptor, open_dataset
from dspex_actors.errors import ConfigError, DspexError, RunFailed, RunInterrupted, from_record
from dspex_actors.foundation.codec import gathering_classes
from dspex_actors.foundation.home import default_data_dir
from dspex_actors.journal.index import JOURNAL_FILE, find_run, folder_of, list_runs, new_run_id
from dspex_actors.journal.reader import JournalReader
from dspex_actors.journal.records import RunSpec
from dspex_actors.journal.summary import run_summary
from dspex_actors.lm.backend import set_process_backend
from dspex_actors.lm.base import BaseLM
from dspex_actors.lm.lm import LM
from dspex_actors.lm.node_backend import NodeBackend
from dspex_actors.names import RUNS, check_run_id, run_command
from dspex_actors.runs.identity import before
from dspex_actors.runs.identity.parts import dataset_parts, metric_name, run_identity
from dspex_actors.runs.snapshot import pack_surroundings
from dspex_actors.settings import settings as program_settings
from supervisors import Node
from supervisors.client.launch import node_runs
from supervisors.errors import CallTimeout, NodeDown, NoProcess, ServerExited, SupervisorsError

#: A run's progress is asked for at first often, then less often, in seconds.
POLL_FIRST, POLL_LAST = 0.01, 0.25
#: How long a node that fell is waited for before a run counts as interrupted, in seconds; and one that is there and
#: does not answer.
COME_BACK_SECONDS, PATIENCE_SECONDS = 4.0, 60.0
_ENDED = ("finished", "failed", "cancelled", "paused")

_current: list[System] = []


class System:
    """A connection to a node. Made by `connect`; a context manager."""

    def __init__(self, node: Node, lm: Any, own: bool) -> None:
        """Use `connect` instead."""
        self.node = node
        self.lm = lm
        self._own = own
        self._backend = NodeBackend(node)
        self._closed = False

    # --- the connection ---------------------------------------------------------------------------------------------

    def __enter__(self) -> System:
        """Return the system."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Disconnect; a node of this program's own is stopped. A run that is under way there is paused."""
        if self._closed:
            return
        self._closed = True
        if self in _current:
            _current.remove(self)
            set_process_backend(_current[-1]._backend if _current else None)
            if program_settings.lm is self.lm and self.lm is not None:
                program_settings.assign(lm=_current[-1].lm if _current else None)
        folder = self.data_dir
        self.node.close()
        if self._own and folder.parent.name == "embedded":
            forget_if_unused(folder)

    @property
    def data_dir(self) -> Path:
        """The node's data folder."""
        return Path(self.node.info["data_dir"])

    @property
    def journal(self) -> JournalReader:
        """The node's journal, for reading."""
        return JournalReader(self.data_dir / JOURNAL_FILE)

    def _check_open(self) -> None:
        if self._closed:
            raise ConfigError("this connection is closed: make another one with dspex.connect(...)")

    def _ask(self, *request: Any, timeout: float = 60.0) -> Any:
        self._check_open()
        kind, value = self.node.call(RUNS, request, timeout)
        if kind == "error":
            raise from_record(value)
        return value

    def _order(self, run_id: str, *request: Any) -> Any:
        """Ask for something that changes a run; a node that is gone is one of our errors."""
        try:
            return self._ask(*request)
        except SupervisorsError as error:
            raise RunInterrupted(
                f"the node does not answer ({error}): connect again, and continue with run_id={run_id!r}", run_id=run_id
            ) from None

    # --- runs -------------------------------------------------------------------------------------------------------

    def runs(self, limit: int = 1000) -> list[dict[str, Any]]:
        """Return the runs of all journals under DSPEX_HOME and of this node, newest first, as summaries."""
        return list_runs(default_data_dir(), self.data_dir, limit=limit)

    def start_run(
        self,
        kind: str,
        program: Any,
        devset: Any,
        metric: Any,
        *,
        lm: BaseLM | None = None,
        settings: dict[str, Any] | None = None,
        run_id: str | None = None,
        limit: int | None = None,
        on_bad_line: str = "stop",
        force_resume: bool = False,
        packed: Mapping[str, Any] | None = None,
    ) -> str:
        """Start a run, or continue the one with this id; return its id at once.

        A run is what it was started with: program, metric and dataset, the LM's model and parameters, the settings that
        change an answer. Under an id that is there already only the same goes on. Where it runs, with which key, how
        fast, and what is done about failures may be others each time.

        Args:
            kind: evaluate or bootstrap.
            program: a Module, or any callable program.
            devset: list, iterator, or path to JSONL or CSV (gzip too).
            metric: `metric(example, prediction, trace=None)`.
            lm: for predictors that have none of their own. None: the one of a `with context(lm=...)` around the call,
                else this connection's (also when another connection was made later), else the one that `configure` set.
            settings: of the kind.
            run_id: to continue an earlier run; None makes a new one.
            limit: only the first so many examples.
            on_bad_line: stop or skip.
            force_resume: continue it also where it was another run, or was cancelled.
            packed: what those of the settings were made of that are packed (name → value): they are compared by it.

        Raises:
            ConfigError: something is not usable, or the id belongs to a run of another program, dataset, metric or LM,
                or of other settings; it names what differs.
            RunInterrupted: the node is gone.
        """
        self._check_open()
        lm = lm or program_settings.around("lm") or self.lm or program_settings.lm
        check_has_lm(program, lm)
        run_id = new_run_id(kind) if run_id is None else check_run_id(run_id)
        settings = plain_numbers(settings or {})
        dataset = open_dataset(
            with_inputs(devset, program),
            input_names=dataset_inputs(devset, program),
            limit=limit,
            on_bad_line=on_bad_line,  # type: ignore[arg-type]  # refused there
        )
        with gathering_classes() as classes:
            descriptor, digest, total, spooled = place(dataset, self.data_dir, run_id)
        with kept_if_well(spooled):
            around = pack_surroundings(lm, classes)
            spec = RunSpec(
                run_id=run_id,
                kind=kind,
                program=code_of(program, "program"),
                dataset=descriptor,
                dataset_digest=digest,
                metric=code_of(metric, "metric"),
                metric_name=metric_name(metric),
                lm=lm.to_dict() if isinstance(lm, LM) else None,
                settings={**settings, **around},
                total=total,
            )
            known = self.journal.get_run(run_id)
            if known is not None and known.spec.identity is None:
                told = before.run_identity(program, metric)
            else:
                options = {**settings, "adapter": program_settings.adapter, **(packed or {})}
                told = run_identity(program, metric, lm, options)
                told["identity"]["dataset"] = dataset_parts(descriptor, total)
            spec = replace(spec, **told)
        try:
            self._order(run_id, "create", asdict(spec), force_resume)
        except RunInterrupted:
            raise  # nobody knows whether the run is there: one that is needs its examples
        except DspexError:
            if spooled is not None:
                spooled.unlink(missing_ok=True)
            raise
        row = self.journal.get_run(run_id)
        if spooled is not None and row is not None:
            drop_others(spooled, row)
        return run_id

    def wait_run(
        self,
        run_id: str,
        on_progress: Callable[[dict[str, Any]], None] | None = None,
        display_progress: bool = False,
        label: str = "evaluating",
    ) -> EvaluationResult:
        """Wait for a run to end and return its result.

        Args:
            run_id: the run.
            on_progress: called with the run's summary each time it is looked at; what it raises pauses the run.
            display_progress: show a bar on standard error, if that is a terminal.
            label: what the bar says.

        Raises:
            RunFailed: it ended without a result.
            RunInterrupted: it was paused, or the node went away; what was answered is in the journal.
        """
        poll = POLL_FIRST
        progress = RunProgress(label) if display_progress else None
        with progress or contextlib.nullcontext():
            while True:
                found = self._look(run_id)
                summary = found["summary"]
                try:
                    if progress is not None:
                        progress.update(summary, found["note"])
                    if on_progress is not None:
                        on_progress(summary | {"note": found["note"]})
                except Exception as error:
                    # Nobody waits for it any more: it must not go on spending.
                    self.pause(run_id, f"whoever followed it failed with {type(error).__name__}: {error}")
                    raise
                if summary["state"] in _ENDED:
                    break
                time.sleep(poll)
                poll = min(POLL_LAST, poll * 1.3)
        return self._ended(run_id)

    def _look(self, run_id: str) -> dict[str, Any]:
        asked = time.monotonic()
        while True:
            try:
                return self._ask("progress", run_id, timeout=COME_BACK_SECONDS)  # type: ignore[no-any-return]
            except (NoProcess, ServerExited, CallTimeout, NodeDown) as error:
                # One that is there and only slow is no reason to give a run up.
                patience = PATIENCE_SECONDS if isinstance(error, CallTimeout) else COME_BACK_SECONDS
                if time.monotonic() - asked > patience or not node_runs(self.data_dir):
                    row = self.journal.get_run(run_id)
                    if row is not None and row.state in _ENDED and row.state != "paused":
                        # It ended just before its node went: another program's, which had no more to wait for.
                        return {"summary": run_summary(row), "note": {}}
                    raise RunInterrupted(
                        f"the node went away; what was answered is safe. Resume with `{run_command('resume', run_id)}` "
                        f"or system.resume({run_id!r})",
                        run_id=run_id,
                    ) from None
                time.sleep(0.05)

    def _ended(self, run_id: str) -> EvaluationResult:
        result = EvaluationResult.of(self.journal, run_id, trusted=True)
        if result.state == "finished":
            return result
        row = self.journal.get_run(run_id)
        reason = (row.reason if row is not None else None) or result.state
        if result.state == "paused":
            raise RunInterrupted(
                f"run {run_id} is paused ({reason}); resume with `{run_command('resume', run_id)}` "
                f"or system.resume({run_id!r})",
                run_id=run_id,
            )
        raise RunFailed(f"run {run_id} {result.state}: {reason}", run_id=run_id)

    def resume(
        self,
        run_id: str,
        *,
        display_progress: bool = True,
        on_progress: Callable[[dict[str, Any]], None] | None = None,
        force_resume: bool = False,
    ) -> EvaluationResult:
        """Continue a paused run of this node or of an earlier one; only what has no result is asked again.

        Args:
            run_id: the run.
            display_progress: a bar on standard error, if that is a terminal.
            on_progress: called with the run's summary as it goes.
            force_resume: continue it also where it was cancelled, and with its dataset as that is now.

        Raises:
            ConfigError: no journal has this run, or it was cancelled.
            RunFailed, RunInterrupted: as `wait_run`.
        """
        self._check_open()
        if self.journal.get_run(run_id) is None:
            find_run(run_id, default_data_dir())  # refuses what is nowhere
        with self.holding(run_id) as at:
            return at._resume_here(run_id, display_progress, on_progress, force=force_resume)

    @contextlib.contextmanager
    def holding(self, run_id: str | None) -> Iterator[System]:
        """Give a connection to the node that has a run: this one, or one over the folder of an earlier one.

        An answer that is paid for is looked for wherever it may be.

        Args:
            run_id: the run; None for a new one, which belongs here.
        """
        self._check_open()
        folder = None
        if run_id is not None and self.journal.get_run(run_id) is None:
            folder = folder_of(run_id, default_data_dir())
        if folder is None:
            yield self
            return
        with own_node(folder) as node:
            yield System(node, self.lm, own=True)

    def _resume_here(self, run_id: str, display_progress: bool, on_progress: Any, *, force: bool) -> EvaluationResult:
        if force:
            self._take_dataset_as_it_is(run_id)
        self._order(run_id, "resume", run_id, force)
        try:
            return self.wait_run(run_id, on_progress, display_progress)
        except KeyboardInterrupt:
            self.pause(run_id)
            raise

    def _take_dataset_as_it_is(self, run_id: str) -> None:
        row = self.journal.get_run(run_id)
        if row is None or row.state == "finished":
            return
        dataset = from_descriptor(row.spec.dataset, check=False)
        digest = dataset.digest
        if digest != row.spec.dataset_digest:
            descriptor = dataset.descriptor
            parts = dataset_parts(descriptor, dataset.count())
            self._order(run_id, "dataset", run_id, descriptor, digest, parts)

    def pause(self, run_id: str, reason: str = "interrupted") -> None:
        """Pause a run: what is in flight is given up, what was answered stays."""
        with contextlib.suppress(SupervisorsError, DspexError):
            self._ask("pause", run_id, reason)

    def cancel(self, run_id: str, reason: str = "cancelled") -> None:
        """End a run for good: it goes on only where that is forced."""
        self._order(run_id, "cancel", run_id, reason)

    def delete(self, run_id: str) -> None:
        """Remove a run, its results and the copy of its examples from the journal.

        Raises:
            ConfigError: it is running, or there is no such run.
        """
        self._order(run_id, "delete", run_id)


def use(system: System) -> System:
    """Make a connection the current one: its LM that of programs without one, its node the place where LM calls go."""
    set_process_backend(system._backend)
    if system.lm is not None:
        program_settings.assign(lm=system.lm)
    _current.append(system)
    return system


def current_system() -> System:
    """Return the connection made last.

    Raises:
        ConfigError: there is none.
    """
    if not _current:
        raise ConfigError("no node is connected: call dspex.connect(lm=...) first")
    return _current[-1]
