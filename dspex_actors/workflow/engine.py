"""How a workflow runs: written once, as a generator that gives out what is to be done and takes in what came of it.

What carries it out (`drivers`), sync or async, is told four things: call this, do these at the same time, do that
within a time, write this down.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dspex_actors.errors import DspexError
from dspex_actors.foundation.error_context import add_context
from dspex_actors.foundation.operation import Operation, current_operation
from dspex_actors.foundation.secrets import scrub
from dspex_actors.programs.walk import copied
from dspex_actors.workflow import tell
from dspex_actors.workflow.core import Conflict, Fork, Group, Leaf, Node, Row, Step, check_data, merged
from dspex_actors.workflow.records import CANCELLED, COMPLETED, FAILED, FALLBACK, StepRun, label_of


class Call(NamedTuple):
    """Call a step's function with the data, within so many seconds; None: as long as it takes."""

    function: Any
    data: dict[str, Any]
    limit: float | None


class Sub(NamedTuple):
    """Carry out another generator, within so many seconds."""

    steps: Steps
    limit: float | None


class Together(NamedTuple):
    """Carry out generators at the same time; as soon as one fails the others are cancelled.

    What comes back is for each what it returned, or its exception; None: it was cancelled.
    """

    branches: list[Steps]


class Save(NamedTuple):
    """Write down that a step is done."""

    run: StepRun
    update: dict[str, Any]


Effect = Call | Sub | Together | Save
Steps = Generator[Effect, Any, dict[str, Any]]


class Failed(Exception):
    """A step failed for good.

    Args:
        path: of the step.
        cause: its error.
        data: what there was when it began.
        is_final: nothing is tried again, and nothing done instead.
    """

    def __init__(self, path: str, cause: Exception, data: dict[str, Any], is_final: bool = False) -> None:
        """Keep it."""
        super().__init__(path)
        self.path, self.cause, self.data, self.is_final = path, cause, data, is_final
        self.cancelled: list[str] = []


@dataclass
class State:
    """A run of a workflow.

    Args:
        workflow: its name.
        deadline: when it is to be over, by `time.monotonic`; None: never.
        is_durable: each finished step is written down.
    """

    workflow: str
    deadline: float | None = None
    is_durable: bool = False
    #: What became of each step, in the order in which they ended.
    runs: dict[str, StepRun] = field(default_factory=dict)
    #: What each finished step gave.
    updates: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: How often each step was tried.
    attempts: dict[str, int] = field(default_factory=dict)

    def left(self, timeout: float | None) -> float | None:
        """Return how long a try may take, in seconds."""
        if self.deadline is None:
            return timeout
        left = max(0.0, self.deadline - time.monotonic())
        return left if timeout is None else min(timeout, left)

    @property
    def is_over(self) -> bool:
        """Whether the time of the run is used up."""
        return self.deadline is not None and time.monotonic() >= self.deadline


def walk(node: Node, data: dict[str, Any], state: State) -> Steps:
    """Carry out a part of a workflow; return what it gives."""
    match node:
        case Leaf(path, step):
            return (yield from _leaf(path, step, data, state))
        case Row(items):
            given: dict[str, Any] = {}
            for item in items:
                given |= yield from walk(item, {**data, **given}, state)
            return given
        case Fork():
            return (yield from _fork(node, data, state))
        case Group(path, step, inner):
            if step.is_plain:
                return (yield from walk(inner, data, state))
            return (yield from _group(path, step, inner, data, state))


def _leaf(path: str, step: Step, data: dict[str, Any], state: State) -> Steps:
    if path in state.updates:
        return state.updates[path]
    op = Operation(path, {"workflow": state.workflow}, parent=current_operation(), kind="step")
    run: StepRun | None = None
    update: dict[str, Any] = {}
    error: BaseException | None = None
    try:
        with op:
            tell.step_started(op, state.workflow, path)
            try:
                update, run = yield from _tried(
                    path, step, lambda limit: _call(step.fn, data, limit, state), data, state, op
                )
            except BaseException as raised:
                error = raised.cause if isinstance(raised, Failed) else raised
                add_context(error, op)
                raise
    finally:
        if run is None:
            run = _ended(op, path, state, FAILED if isinstance(error, Exception) else CANCELLED, error)
        state.runs[path] = run
        tell.step_ended(op, state.workflow, run)
    # It counts as done before it is written down: one that is given up meanwhile is not done, and paid, again.
    state.updates[path] = update
    if state.is_durable:
        yield from _saved(run, update, data)
    return update


def _saved(run: StepRun, update: dict[str, Any], data: dict[str, Any]) -> Generator[Effect, Any, None]:
    try:
        yield Save(run, update)
    except Exception as error:
        raise Failed(run.name, error, {**data, **update}, is_final=True) from error


def _call(function: Any, data: dict[str, Any], limit: float | None, state: State) -> Steps:
    # A function that is given up goes on in its thread: what it changes is its own. What a durable step changes in
    # place is not written down: the steps after it are not to see it either, as they would not after a restart.
    is_apart = limit is not None or state.is_durable
    given = copied(dict(data), {}) if is_apart else dict(data)
    return (yield Call(function, given, limit))  # type: ignore[no-any-return]


def _tried(path: str, step: Step, attempt: Any, data: dict[str, Any], state: State, op: Operation) -> Any:
    """Try it as often as it may be tried, then its fallback; return what it gives and what became of it."""
    attempts = 0
    while True:
        attempts = state.attempts[path] = attempts + 1
        try:
            given = _checked(path, (yield from attempt(state.left(step.timeout))), data)
            return given, _ended(op, path, state, COMPLETED, None)
        except Failed as failed:
            if failed.is_final:
                raise
            error: Exception = failed
        except Exception as raised:
            error = _said(raised, step.timeout, state)
        if state.is_over:
            raise _failed(path, error, data, is_final=True)
        if attempts <= step.retries:
            op.breadcrumb(f"try {attempts} failed", error=_shown(error))
            continue
        break
    if step.fallback is None:
        raise _failed(path, error, data)
    op.breadcrumb("its fallback is tried", error=_shown(error))
    try:
        given = _checked(path, (yield from _call(step.fallback, data, state.left(step.timeout), state)), data)
    except Failed:
        raise
    except Exception as raised:
        second = _said(raised, step.timeout, state)
        second.__context__ = error
        raise _failed(path, second, data, is_final=state.is_over) from second
    tell.fallback_used(op, state.workflow, path, label_of(step.fallback), _cause(error))
    return given, _ended(op, path, state, FALLBACK, error)


def _group(path: str, step: Step, inner: Node, data: dict[str, Any], state: State) -> Steps:
    """Carry out steps that are tried again as one: from where they failed."""
    if path in state.updates:
        return state.updates[path]  # its fallback did it
    op = Operation(path, {"workflow": state.workflow}, parent=current_operation())

    def attempt(limit: float | None) -> Steps:
        # What went well of an earlier try is not done again: `state.updates` has it.
        if limit is None:
            return (yield from walk(inner, data, state))
        return (yield Sub(walk(inner, copied(data, {}), state), limit))  # type: ignore[no-any-return]

    with op:
        update, run = yield from _tried(path, step, attempt, data, state, op)
    if run.state == FALLBACK:
        state.runs[path], state.updates[path] = run, update
        if state.is_durable:
            yield from _saved(run, update, data)
    return update  # type: ignore[no-any-return]


def _fork(fork: Fork, data: dict[str, Any], state: State) -> Steps:
    branches = [walk(node, copied(data, {}), state) for node in fork.branches.values()]
    outcomes = dict(zip(fork.branches, (yield Together(branches)), strict=True))
    given: dict[str, dict[str, Any]] = {name: one for name, one in outcomes.items() if isinstance(one, dict)}
    errors = [one for one in outcomes.values() if isinstance(one, BaseException)]
    if errors:
        first = errors[0]
        if isinstance(first, Failed):
            first.data = {**merged(given, "first"), **first.data}
            first.cancelled += [name for name, one in outcomes.items() if one is None]
        raise first
    for name, one in outcomes.items():
        if one is None:
            raise Failed(name, RuntimeError("the branch was cancelled from inside"), data, is_final=True)
    try:
        return merged(given, fork.on_conflict)
    except Conflict as conflict:
        names = ", ".join(fork.branches)
        raise Failed(names, conflict, {**data, **merged(given, "first")}, is_final=True) from None


def _checked(path: str, given: Any, data: dict[str, Any]) -> dict[str, Any]:
    """Return what a step gave as a dict; what is no mapping is a mistake that trying again does not mend."""
    if given is None:
        return {}
    try:
        return check_data(given, f"what step {path!r} returned is")
    except DspexError as error:
        raise Failed(path, error, data, is_final=True) from None


def _said(error: Exception, timeout: float | None, state: State) -> Exception:
    """Return an error; one that our own limit made says so."""
    if type(error) is TimeoutError and not error.args:
        if state.is_over:
            return TimeoutError("the deadline of the run is over")
        if timeout is not None:
            return TimeoutError(f"it took longer than {timeout:g} s")
    return error


def _failed(path: str, error: Exception, data: dict[str, Any], is_final: bool = False) -> Failed:
    if isinstance(error, Failed):
        error.is_final = error.is_final or is_final
        return error
    return Failed(path, error, data, is_final)


def _ended(op: Operation, path: str, state: State, what: str, error: BaseException | None) -> StepRun:
    return StepRun(path, op.duration, state.attempts.get(path, 1), what, None if error is None else _shown(error))


def _cause(error: BaseException) -> BaseException:
    return error.cause if isinstance(error, Failed) else error


def _shown(error: BaseException) -> str:
    error = _cause(error)
    text = str(error)
    return scrub(f"{type(error).__name__}: {text}")[:2000] if text else type(error).__name__
