"""A program's connection to a dspex node: runs are started, followed, resumed and ended through it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from dspex_actors.client.ecosystems import Ecosystems
from dspex_actors.client.elsewhere import have_done
from dspex_actors.client.following import Following
from dspex_actors.client.full import check_full
from dspex_actors.client.inputs import check_has_lm, code_of, dataset_inputs, plain_numbers, with_inputs
from dspex_actors.client.looking import ENDED, POLL_FIRST, POLL_LAST
from dspex_actors.client.money import check_prices, why_paused
from dspex_actors.client.optimisations import Optimisations
from dspex_actors.client.own_books import Reporting
from dspex_actors.client.own_node import forget_if_unused, own_node
from dspex_actors.client.parts import NodeParts
from dspex_actors.client.progress import RunProgress
from dspex_actors.client.result import EvaluationResult
from dspex_actors.client.spools import drop_others, kept_if_well, place
from dspex_actors.data.opening import from_descriptor, open_dataset
from dspex_actors.dspy.program import as_lm
from dspex_actors.errors import ConfigError, DspexError, RunFailed, RunInterrupted, from_record
from dspex_actors.foundation.codec import gathering_classes
from dspex_actors.foundation.home import default_data_dir
from dspex_actors.journal.errors import NotHere
from dspex_actors.journal.index import find_run, folder_of, list_runs, new_run_id
from dspex_actors.journal.opening import open_reader
from dspex_actors.journal.reader import JournalReader
from dspex_actors.journal.records import RunSpec
from dspex_actors.lm.backend import set_process_backend
from dspex_actors.lm.base import BaseLM
from dspex_actors.lm.lm import LM
from dspex_actors.lm.node_backend import NodeBackend
from dspex_actors.names import RUNS, check_run_id
from dspex_actors.protection.access import Outside, set_access
from dspex_actors.runs.budget import check_budget
from dspex_actors.runs.identity import before
from dspex_actors.runs.identity.parts import dataset_parts, metric_name, run_identity
from dspex_actors.runs.snapshot import pack_surroundings
from dspex_actors.settings import settings as program_settings
from supervisors import Node
from supervisors.errors import SupervisorsError

_current: list[System] = []


class System(NodeParts, Ecosystems, Optimisations):
    """A connection to a node. Made by `connect`; a context manager."""

    def __init__(self, node: Node, lm: Any, own: bool) -> None:
        """Use `connect` instead."""
        check_full(node.info["role"], node.info["name"])
        self.node = node
        self.lm = lm
        self._own = own
        self._backend = NodeBackend(node)
        self._reporting: Reporting | None = None
        self._closed = False

    def __repr__(self) -> str:
        """Show its folder, its LM, and whether it is open."""
        node = "a node of its own" if self._own else "the host's node"
        return f"<System {self.data_dir} ({node}), lm={self.lm!r}{', closed' if self._closed else ''}>"

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
            set_access(Outside(_current[-1].node) if _current else None)
            if program_settings.lm is self.lm and self.lm is not None:
                program_settings.assign(lm=_current[-1].lm if _current else None)
        folder = self.data_dir
        self.close_parts()
        if self._reporting is not None:
            self._reporting.close()
        self.node.close()
        if self._own and folder.parent.name == "embedded":
            forget_if_unused(folder)

    @property
    def journal(self) -> JournalReader:
        """The node's journal, for reading."""
        return open_reader(self.data_dir)

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
        labels: Mapping[str, str] | None = None,
        parent_id: str | None = None,
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
            labels: names and texts to find it by; its tags.
            parent_id: the optimisation that it is a step of.
            packed: what those of the settings were made of that are packed (name → value): they are compared by it.

        Raises:
            ConfigError: something is not usable, or the id belongs to a run of another program, dataset, metric or LM,
                or of other settings; it names what differs.
            RunInterrupted: the node is gone.
        """
        self._check_open()
        lm = as_lm(lm or program_settings.around("lm") or self.lm or program_settings.lm)
        check_has_lm(program, lm)
        check_prices(self.node, program, lm, settings or {})
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
                labels=dict(labels or {}),
                parent_id=parent_id,
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
        # A new run that has a view of others' examples has no copies.
        row = self.journal.get_run(run_id) if spooled is not None or known is not None else None
        if dataset.needs_spool and row is not None:
            drop_others(self.data_dir, row)
        return run_id

    def wait_run(
        self,
        run_id: str,
        on_progress: Callable[[dict[str, Any]], None] | None = None,
        display_progress: bool = False,
        label: str = "evaluating",
    ) -> EvaluationResult:
        """Wait for a run to end and return its result.

        Where the node of this connection dies and another one of its cluster has the run, it is followed there.

        Args:
            run_id: the run.
            on_progress: called with the run's summary each time it is looked at; what it raises pauses the run.
            display_progress: show a bar on standard error, if that is a terminal.
            label: what the bar says.

        Raises:
            RunFailed: it ended without a result.
            RunInterrupted: it was paused, or the node went away; what was answered is in the journal. The other nodes
                of the cluster are named.
        """
        poll = POLL_FIRST
        progress = RunProgress(label) if display_progress else None
        following = Following(run_id, self._ask, self.data_dir, self.journal)
        with progress or contextlib.nullcontext(), contextlib.closing(following):
            while True:
                found = following.look()
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
                if summary["state"] in ENDED:
                    return self._ended(run_id, following.results())
                following.wait(poll)
                poll = min(POLL_LAST, poll * 1.3)

    def _ended(self, run_id: str, journal: JournalReader | None = None) -> EvaluationResult:
        journal = journal or self.journal
        result = EvaluationResult.of(journal, run_id, trusted=True)
        if result.state == "finished":
            return result
        row = journal.get_run(run_id)
        reason = (row.reason if row is not None else None) or result.state
        if result.state == "paused" and row is not None:
            raise why_paused(row)
        raise RunFailed(f"run {run_id} {result.state}: {reason}", run_id=run_id)

    def resume(
        self,
        run_id: str,
        *,
        display_progress: bool = True,
        on_progress: Callable[[dict[str, Any]], None] | None = None,
        force_resume: bool = False,
        budget: float | None = None,
    ) -> EvaluationResult:
        """Continue a paused run of this node or of an earlier one; only what has no result is asked again.

        Args:
            run_id: the run.
            display_progress: a bar on standard error, if that is a terminal.
            on_progress: called with the run's summary as it goes.
            force_resume: continue it also where it was cancelled, and with its dataset as that is now.
            budget: US dollars that it may cost, what it has cost included; `math.inf`: no limit. None: as before.

        Raises:
            ConfigError: no journal has this run, or it was cancelled, or has cost as much as the budget.
            RunFailed, RunInterrupted: as `wait_run`.
        """
        self._check_open()
        if self.journal.get_run(run_id) is None:
            find_run(run_id, default_data_dir())  # refuses what is nowhere
        with self.holding(run_id) as at:
            money = () if budget is None else (check_budget(budget).get("budget"),)
            return at._resume_here(run_id, display_progress, on_progress, *money, force=force_resume)

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

    def _resume_here(self, run_id: str, shows: bool, on_progress: Any, *money: Any, force: bool) -> EvaluationResult:
        if force:
            self._take_dataset_as_it_is(run_id)
        have_done(self, "resume", run_id, force, *money)
        try:
            return self.wait_run(run_id, on_progress, shows)
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
        """Pause a run: what is in flight is given up, what was answered stays. One of another node is paused there.

        Raises:
            NotHere: it is that of a node which does not answer.
        """
        try:
            have_done(self, "pause", run_id, reason)
        except NotHere:
            raise
        except DspexError:
            pass  # it has just ended, or its node is gone

    def cancel(self, run_id: str, reason: str = "cancelled") -> None:
        """End a run for good: it goes on only where that is forced. One of another node is cancelled there."""
        have_done(self, "cancel", run_id, reason)

    def delete(self, run_id: str) -> None:
        """Remove a run, its results and the copy of its examples from the journal, and all its copies on other nodes.

        Nodes that are away delete theirs when they are back.

        Raises:
            ConfigError: it is running, or there is no such run, or nobody can tell whether it goes on elsewhere.
        """
        self._order(run_id, "delete", run_id)


def use(system: System) -> System:
    """Make a connection the current one: its LM that of programs without one, its node the place where LM calls go."""
    set_process_backend(system._backend)
    set_access(Outside(system.node))
    system._reporting = Reporting(system.node)
    system.events.begin(system._reporting.events)
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
