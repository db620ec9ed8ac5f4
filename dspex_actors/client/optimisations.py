"""What a connection does about optimisations: begin with one, which then lives in the node, and follow it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from dspex_actors.client.elsewhere import Carried, have_done
from dspex_actors.client.inputs import check_has_lm, code_of
from dspex_actors.client.looking import ENDED, POLL_LAST
from dspex_actors.client.money import check_prices
from dspex_actors.dspy.student import DSPyStudent, as_student, asked, default_lm, examples_of, handed_back, is_theirs
from dspex_actors.errors import BudgetExceeded, ConfigError, RunFailed, RunInterrupted, from_record
from dspex_actors.journal.reader import JournalReader
from dspex_actors.journal.records import RunRow, StepRow
from dspex_actors.journal.sameness import IN_NODE, OPTIMISE, WORKFLOW
from dspex_actors.names import OPTIMISATIONS
from dspex_actors.optimisation.above import LIMITS, PLAN, find
from dspex_actors.optimisation.coordinator import branch, coordinator_spec
from dspex_actors.optimisation.messages import Begin
from dspex_actors.programs.module import Module
from dspex_actors.runs.budget import BUDGET
from dspex_actors.runs.optimisations import (
    FIGURES,
    Found,
    OptimizationStatus,
    best_of,
    figures_in,
    found_in,
    program_of,
    status_of,
)
from dspex_actors.runs.snapshot import pack_surroundings
from dspex_actors.settings import check_tags
from dspex_actors.settings import settings as program_settings
from supervisors import Node
from supervisors.errors import CallTimeout, NodeDown, NoProcess, ServerExited
from supervisors.first_use import ensure_outside

#: To begin, a node opens the code of an optimisation; it has so long, in seconds.
BEGIN_SECONDS = 120.0
#: A part of the node that fell is back within so many seconds.
COME_BACK_SECONDS = 10.0


class _Connection(Protocol):
    """What is needed of a `System`."""

    node: Node
    lm: Any

    @property
    def journal(self) -> JournalReader: ...
    @property
    def data_dir(self) -> Path: ...
    def _check_open(self) -> None: ...
    def _ask(self, *request: Any, timeout: float = 60.0) -> Any: ...
    def _order(self, run_id: str, *request: Any) -> Any: ...


class OptimizationHandle:
    """An optimisation of a node; made by `system.start_optimization` and `system.optimization`.

    It is the node's: whoever began with it may leave.

    Attributes:
        run_id: its id.
    """

    def __init__(self, system: _Connection, run_id: str, student: Any = None) -> None:
        """Use `system.start_optimization` instead."""
        self._system, self.run_id, self._student = system, run_id, student
        #: When the run was made whose steps were read, and these: each has a program, and none changes.
        self._read: tuple[float, list[StepRow]] = (0.0, [])
        #: What was fetched from the node where it has ended, this connection's being gone.
        self._fetched: JournalReader | None = None

    @property
    def _journal(self) -> JournalReader:
        return self._fetched or self._system.journal

    def __repr__(self) -> str:
        """Show its id."""
        return f"<OptimizationHandle {self.run_id}>"

    def status(self) -> OptimizationStatus:
        """Return how it stands: state, best score so far, candidates, cost, how long it may still take.

        Raises:
            ConfigError: it was deleted.
        """
        row = self._row()
        found, result = found_in(self._steps(row))
        return status_of(row, found, self._journal.parts_of(self.run_id), time.time(), result)

    def candidates(self) -> list[Found]:
        """Return its candidates so far, in the order in which they were told."""
        return found_in(self._steps(self._row()))[0]

    def best(self) -> Any:
        """Return the best program so far; None: there is no candidate yet.

        Of those that were scored on all examples it is the best one; without any, the best of the others. With the
        student of `start_optimization` it is of the same class; else it is opened as it was sent.
        """
        found, result = found_in(self._steps(self._row()))
        one = result or best_of(found)
        return None if one is None else self._program(one, found)

    def wait(self, timeout: float | None = None) -> Any:
        """Wait for its end, and return the best program, as `compile` does.

        Where this connection's node dies, and others have its journal too, or a copy of it, one of them goes on with
        it: that is waited for.

        Args:
            timeout: seconds; None: as long as it takes. It goes on after one.

        Raises:
            TimeoutError: it is still under way.
            RunFailed: it failed, or was cancelled.
            BudgetExceeded: its budget is used up; `resume` with a larger one goes on.
            RunInterrupted: it was paused, or the node went away; `resume` goes on.
            JournalError: the journal has refused to be read for minutes, and the node lives.
        """
        with contextlib.closing(Carried(self._system, self.run_id)) as carried:
            state, reason = self._wait(carried, timeout)
            if (there := carried.fetched()) is not None:
                self._fetched, self._read = there, (0.0, [])
        return self._ended(state, reason)

    def _wait(self, carried: Carried, timeout: float | None) -> tuple[str, str | None]:
        """Return the state in which it has ended, and why."""
        until = None if timeout is None else time.monotonic() + timeout
        poll = 0.02
        while True:
            standing = carried.standing()
            if standing is None:
                raise ConfigError(f"no optimisation {self.run_id!r} here: system.optimizations() lists them")
            state, reason = standing
            if state in ENDED:
                return state, reason
            if until is not None and time.monotonic() > until:
                raise TimeoutError(f"optimisation {self.run_id} is still under way after {timeout:g} seconds")
            carried.check()
            time.sleep(poll)
            poll = min(POLL_LAST, poll * 1.3)

    def pause(self, reason: str = "paused") -> None:
        """Pause it: what is in flight is given up, what was answered stays. `resume` goes on.

        Raises:
            NotHere: it is carried out by a node which does not answer.
        """
        self._row()
        have_done(self._system, "pause", self.run_id, reason)

    def resume(self, *, budget: Any = None) -> OptimizationHandle:
        """Go on with it, where it was left off; one that is under way, or finished, stays as it is.

        Args:
            budget: what it may cost from now on, what it has cost included; None: as before.

        Raises:
            ConfigError: it was cancelled; it is under way, and a budget is given; or it is that of a program, which
                goes on with it.
        """
        row = self._row(code=True)
        if row.state == "finished":
            return self
        if not row.spec.program:
            raise ConfigError(
                f"optimisation {self.run_id} is not the node's: the program that began with it goes on with "
                f"compile(..., run_id={self.run_id!r})"
            )
        if budget is not None:
            limits = _limits(budget)
            if row.state == "running":
                raise ConfigError(
                    f"optimisation {self.run_id} is under way with the budget that it has: pause it first, then "
                    "resume(budget=...)"
                )
            self._system._order(self.run_id, WORKFLOW, "limits", self.run_id, limits)
        begin(self._system, self.run_id)
        return self

    def cancel(self, reason: str = "cancelled") -> None:
        """End it for good: it goes on only under another id.

        Raises:
            NotHere: it is carried out by a node which does not answer.
        """
        self._row()
        have_done(self._system, "cancel", self.run_id, reason)

    def _row(self, *, code: bool = False) -> RunRow:
        return row_of(self._journal, self.run_id, code=code)

    def _steps(self, row: RunRow) -> list[StepRow]:
        """Return what it has written down; only what is new is read."""
        made, known = self._read
        known = known if made == row.created_at else []
        known = [*known, *self._journal.steps(self.run_id, len(known))]
        self._read = (row.created_at, known)
        return known

    def _ended(self, state: str, reason: str | None) -> Any:
        if state == "finished":
            return self.best()
        if state == "paused":
            going_on = f"go on with system.optimization({self.run_id!r}).resume()"
            if (reason or "").startswith(BUDGET):
                status = self.status()
                raise BudgetExceeded(
                    f"optimisation {self.run_id} is paused, its budget is used up ({reason}); .best() is the best so "
                    f"far; {going_on[:-1]}budget=...)",
                    run_id=self.run_id,
                    spent=status.cost,
                    budget=status.budget,
                )
            raise RunInterrupted(f"optimisation {self.run_id} is paused ({reason}); {going_on}", run_id=self.run_id)
        raise RunFailed(f"optimisation {self.run_id} {state}: {reason}", run_id=self.run_id)

    def _program(self, one: Found, found: list[Found]) -> Any:
        program = program_of(one, found)
        return program if self._student is None else _as(self._student, program)


class Optimisations:
    """The part of `System` that begins with optimisations and finds them."""

    def start_optimization(
        self: _Connection,
        optimizer: Any,
        student: Any,
        trainset: Any,
        *,
        valset: Any = None,
        budget: Any = None,
        run_id: str | None = None,
        lm: Any = None,
        max_in_flight: int | None = None,
        unknown_price: str = "refuse",
        tags: Mapping[str, str] | None = None,
        force_resume: bool = False,
        **options: Any,
    ) -> OptimizationHandle:
        """Have the node optimise a program, and return at once; whoever asked may leave.

        Under an id that is there already the same optimisation goes on: one that is under way is followed.

        Args:
            optimizer: a `dspex.COPRO(...)` or another one.
            student: the program; it stays as it is. One of DSPy's too: what comes of it is one of DSPy's.
            trainset: Examples with their inputs marked, or a path to JSONL or CSV.
            valset: what candidates are scored on, for optimisers that take one; None: the trainset.
            budget: US dollars, or a mapping with some of `usd`, `calls` and `seconds`; None: no limit.
            run_id: its id; None makes a new one.
            lm: for predictors that have none of their own; None: as for `evaluate`.
            max_in_flight: examples at once, of each of its runs.
            unknown_price: with a limit of dollars, "refuse" LMs whose price is not known, or "warn".
            tags: what it is for: name → text.
            force_resume: go on under this id also where it was another one: "I know".
            **options: further arguments of the optimiser's `compile`, as `teacher`.

        Raises:
            ConfigError: something is not usable, or the id belongs to another optimisation; before anything is paid.
            RunInterrupted: the node is gone.
        """
        self._check_open()
        original, student = student, as_student(student)
        trainset, valset = examples_of(trainset), examples_of(valset)
        lm = asked(lm or program_settings.around("lm") or self.lm or program_settings.lm)
        if lm is None and student is not original:
            lm = default_lm()
        plan = find(PLAN)(optimizer, student, trainset, valset, budget, run_id, lm, options, unknown_price)
        check_has_lm(student, lm)
        check_prices(self.node, student, lm, plan.settings, plan.lms)
        tagged = {**program_settings.tags, **check_tags(tags or {}), "optimisation": plan.spec.run_id}
        settings = {
            **plan.settings,
            **pack_surroundings(lm),
            **({} if max_in_flight is None else {"max_in_flight": max_in_flight}),
            IN_NODE: True,
        }
        code = code_of({**plan.given, "lm": lm}, "optimiser")
        spec = {**asdict(plan.spec), "program": code, "settings": settings, "labels": tagged}
        found = plan.spec.run_id
        self._order(found, WORKFLOW, "enlist", spec, force_resume)
        if row_of(self.journal, found).state != "finished":
            begin(self, found)
        return OptimizationHandle(self, found, original)

    def optimization(self: _Connection, run_id: str, student: Any = None) -> OptimizationHandle:
        """Return the handle of an optimisation of this node.

        Args:
            run_id: its id.
            student: the program that is optimised: what comes of it is of its class.

        Raises:
            ConfigError: there is none.
        """
        row_of(self.journal, run_id)
        return OptimizationHandle(self, run_id, student)

    def optimizations(self: _Connection, limit: int = 1000) -> list[OptimizationStatus]:
        """Return how the optimisations of this node stand, the newest first."""
        journal, now = self.journal, time.time()
        return [status_at(journal, row, now) for row in journal.list_runs(kind=OPTIMISE, limit=limit, code=False)]


def row_of(journal: JournalReader, run_id: str, *, code: bool = False) -> RunRow:
    """Return the run of an optimisation; with its program, optimiser and examples only if they are asked for.

    Raises:
        ConfigError: there is none, or it is another kind of run.
    """
    row = journal.get_run(run_id, code=code)
    if row is None:
        raise ConfigError(f"no optimisation {run_id!r} here: `dspex optimizations` lists them")
    if row.spec.kind != OPTIMISE:
        raise ConfigError(f"run {run_id} is no optimisation but of kind {row.spec.kind}: see `dspex runs show`")
    return row


def status_at(journal: JournalReader, row: RunRow, now: float | None = None) -> OptimizationStatus:
    """Return how an optimisation stands, by its journal."""
    found, result = figures_in(journal.steps(row.run_id, most=FIGURES))
    return status_of(row, found, journal.parts_of(row.run_id), now, result)


def begin(system: _Connection, run_id: str) -> None:
    """Have the node's coordinator begin, or go on, with an optimisation that its journal has.

    One that is under way at another node of the journal stays there: it can be followed from here.

    Raises:
        ConfigError: it cannot: says why.
        RunInterrupted: the node is gone.
    """
    until = time.monotonic() + COME_BACK_SECONDS
    while True:
        try:
            row = row_of(system.journal, run_id)
            if row.state == "running" and row.owner not in ("", system._ask("owner")):
                return
            ensure_outside(system.node, branch(), coordinator_spec())
            kind, value = system.node.call(OPTIMISATIONS, Begin(run_id), BEGIN_SECONDS)
        except (NoProcess, ServerExited) as error:
            if time.monotonic() > until:
                raise RunInterrupted(f"the node does not answer ({error}): try again", run_id=run_id) from None
            time.sleep(0.05)
            continue
        except (CallTimeout, NodeDown) as error:
            raise RunInterrupted(f"the node does not answer ({error}): try again", run_id=run_id) from None
        if kind == "error":
            raise from_record(value)
        return


def _limits(budget: Any) -> dict[str, Any]:
    limits = find(LIMITS).of(budget)
    return {"budget": limits.usd, "max_calls": limits.calls, "max_seconds": limits.seconds}


def _as(student: Any, program: Any) -> Any:
    """Return a program as a copy of the student, whose class this process knows; as it is where they do not fit."""
    if is_theirs(student) and isinstance(program, DSPyStudent):
        return handed_back(program, student)
    if not isinstance(student, Module) or not isinstance(program, Module):
        return program
    copy = student.deepcopy()
    ours, theirs = dict(copy.named_predictors()), dict(program.named_predictors())
    if type(student) is type(program) or list(ours) != list(theirs):
        return program
    for name, predictor in ours.items():
        vars(predictor).update(vars(theirs[name]))
    copy._compiled = program._compiled
    return copy
