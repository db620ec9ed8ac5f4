"""Durable workflows: what is brought to the node's journal, and what is there already."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from dspex_actors.client.system import System, current_system
from dspex_actors.errors import ConfigError, DspexError, RunInterrupted, from_record
from dspex_actors.foundation.codec import CodecError, pack, unpack
from dspex_actors.journal.records import RunSpec, RunState, StepRow
from dspex_actors.journal.sameness import WORKFLOW
from dspex_actors.names import RUNS
from dspex_actors.programs.module import Module
from dspex_actors.runs.identity.parts import WAY, data_identity, lm_identity, options_identity, steps_identity
from dspex_actors.runs.keeper.workflows import this_process
from dspex_actors.settings import settings
from dspex_actors.workflow.core import Row, calls, leaves
from dspex_actors.workflow.engine import Save, State
from dspex_actors.workflow.records import RESTORED, StepRun
from supervisors.client.launch import node_runs
from supervisors.errors import CallTimeout, NodeDown, NoProcess, ServerExited, SupervisorsError

#: A node that fell is back within so many seconds, or the workflow is interrupted; it is asked this often.
COME_BACK_SECONDS, PAUSE_SECONDS = 4.0, 0.05
#: A step gives at most so many bytes: they go to the journal in one message.
MAX_BYTES = 64 << 20

#: The ids of the runs that this process carries out, each as often as it is open.
_open: Counter[str] = Counter()
_lock = threading.Lock()


class Book:
    """The run of a workflow in a node's journal; made by `opened`.

    Args:
        system: the connection to the node.
        run_id: of the run.
        epoch: of its opening.
    """

    def __init__(self, system: System, run_id: str, epoch: int) -> None:
        """Use `opened` instead."""
        self._system, self.run_id, self._epoch = system, run_id, epoch

    def restore(self, state: State) -> None:
        """Give a run what earlier ones of its id have done.

        Raises:
            ConfigError: a value cannot be read here.
        """
        for row in self._system.journal.steps(self.run_id):
            try:
                state.updates[row.step] = unpack(row.data, objects="load")
            except CodecError as error:
                raise ConfigError(
                    f"what step {row.step!r} of run {self.run_id} gave cannot be read: {error}"
                ) from error
            state.runs[row.step] = StepRun(row.step, row.duration, row.attempts, RESTORED, row.error)

    def keep(self, saved: Save) -> None:
        """Write down that a step is done: it is on the disk when this returns.

        Raises:
            ConfigError: what it gave cannot be written.
            RunInterrupted: the node is gone, or the run does not go on here.
        """
        run = saved.run
        data = _packed(run.name, saved.update)
        row = StepRow(run.name, run.state, run.attempts, run.duration, time.time(), run.error, data)
        try:
            self._ask("step", self.run_id, self._epoch, tuple(row))
        except RunInterrupted:
            raise
        except ConfigError as error:  # it says what to do
            raise RunInterrupted(f"the workflow does not go on here: {error.message}", run_id=self.run_id) from None
        except DspexError as error:
            raise RunInterrupted(
                f"the workflow does not go on here: {error.message}; resume it with run_id={self.run_id!r}",
                run_id=self.run_id,
            ) from None

    def end(self, state: RunState, reason: str | None) -> None:
        """Say that this process is through with it; where nobody hears of it, it counts as interrupted."""
        with contextlib.suppress(DspexError):
            self._ask("end", self.run_id, self._epoch, state, reason)

    def _ask(self, *request: Any) -> Any:
        return ask(self._system, self.run_id, *request)


def ask(system: System, run_id: str, *request: Any) -> Any:
    """Ask the keeper of runs; one that fell is waited for: what is written twice is there once.

    Raises:
        RunInterrupted: the node is gone.
        DspexError: what it answers.
    """
    asked = time.monotonic()
    while True:
        try:
            kind, value = system.node.call(RUNS, (WORKFLOW, *request), 60.0)
        except (NoProcess, ServerExited, CallTimeout, NodeDown) as error:
            if time.monotonic() - asked < COME_BACK_SECONDS and node_runs(system.data_dir):
                time.sleep(PAUSE_SECONDS)
                continue
            why = str(error)
        except SupervisorsError as error:
            why = str(error)
        else:
            if kind == "error":
                raise from_record(value)
            return value
        raise RunInterrupted(
            f"the node does not answer ({why}); the steps that are done are safe: connect again, and resume with "
            f"run_id={run_id!r}",
            run_id=run_id,
        )


@contextmanager
def opened(tree: Row, data: dict[str, Any], run_id: str) -> Iterator[Book]:
    """Open the run of a workflow: a new one, or the one of this id, wherever its journal is.

    Raises:
        ConfigError: nothing is connected; the data cannot be told; the id is that of another workflow, or of one that
            is being carried out.
        RunInterrupted: the node is gone.
    """
    system = current_system()
    spec = asdict(_spec(tree, data, run_id, system))
    with counted(run_id) as is_only_one, system.holding(run_id) as at:
        yield Book(at, run_id, ask(at, run_id, "open", spec, this_process(), is_only_one))


@contextmanager
def counted(run_id: str) -> Iterator[bool]:
    """Have a run count as open in this process; say whether it was not.

    A run that this process gave up while its node was away is still written down as this process's.
    """
    with _lock:
        _open[run_id] += 1
        is_only_one = _open[run_id] == 1
    try:
        yield is_only_one
    finally:
        with _lock:
            _open[run_id] -= 1
            if not _open[run_id]:
                del _open[run_id]


def _spec(tree: Row, data: dict[str, Any], run_id: str, system: System) -> RunSpec:
    _packed("the data", data)
    found = calls(tree)
    parts = {"program": steps_identity(found), "dataset": data_identity(data)}
    told = {name: one.parts for name, one in parts.items()}
    beside: dict[str, Any] = {"lm_digest": None, "options_digest": None}
    if any(_asks_settings(one) for pair in found.values() for one in pair):
        lm, options = lm_identity(settings.lm or system.lm), options_identity({"adapter": settings.adapter})
        beside = {"lm_digest": lm.digest, "options_digest": options.digest}
        told |= {"LM": lm.parts, "settings": options.parts}
    return RunSpec(
        run_id=run_id,
        kind=WORKFLOW,
        program_digest=parts["program"].digest,
        dataset={"kind": "data"},
        dataset_digest=parts["dataset"].digest,
        total=sum(1 for _ in leaves(tree)),
        identity={"way": {"version": WAY}, **told},
        **beside,
    )


def _asks_settings(function: Any) -> bool:
    """Whether a step is a program that asks the LM of the settings."""
    return isinstance(function, Module) and any(predictor.lm is None for predictor in function.predictors())


def _packed(step: str, update: dict[str, Any]) -> bytes:
    what = step if step == "the data" else f"what step {step!r} gave"
    for key, value in update.items():
        try:
            pack(value)
        except CodecError as error:
            raise ConfigError(
                f"{what} cannot be written down: {key!r} holds something that does not outlive this process "
                f"({error.message}); give plain data, or open it in the step that needs it"
            ) from None
    found = pack(update)
    if len(found) > MAX_BYTES:
        raise ConfigError(f"{what} cannot be written down: got {len(found):,} bytes, expected at most {MAX_BYTES:,}")
    return found
