"""`Workflow`: steps over one mapping, in a row and side by side.

::

    answer = dspex.Workflow([
        ("retrieve", find),                                          # a function of the data
        dspex.Step("draft", dspex.Predict("question, context -> draft"), retries=2, timeout=30.0, fallback=simple),
        dspex.Branches({"check": check, "translate": translate}),    # at the same time
    ])
    answer.run({"question": "..."}).data["draft"]
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any, NamedTuple

from dspex_actors.errors import ConfigError, RunInterrupted, WorkflowError
from dspex_actors.foundation.bridge import in_thread
from dspex_actors.foundation.operation import Operation, current_operation, operation
from dspex_actors.foundation.secrets import scrub
from dspex_actors.journal.index import new_run_id
from dspex_actors.journal.records import RunState
from dspex_actors.journal.sameness import WORKFLOW
from dspex_actors.names import check_run_id
from dspex_actors.workflow.core import Nested, calls, check_data, check_name, check_seconds, normalised
from dspex_actors.workflow.drivers import adrive, drive, is_async
from dspex_actors.workflow.durable import Book, opened
from dspex_actors.workflow.engine import Failed, Save, State, walk
from dspex_actors.workflow.records import CANCELLED, WorkflowResult


class Workflow(Nested):
    """Steps, done one after the other, each with the data as they are by then.

    A step takes a dict and returns a mapping, which is merged into the data, or None. It is given a dict of its own; a
    branch, and a step with a timeout, a deep copy, so that what goes on after it was given up changes nothing. So is
    each step of a durable run: only what a step returns is there after a restart.

    Args:
        steps: a list of (name, what), `Step` and `Branches`; what is a function (sync or async), a program, a list of
            steps or a Workflow.
        name: for events and errors.

    Raises:
        ConfigError: a step is none; a name is not legal, or there twice; steps stand in themselves.
    """

    def __init__(self, steps: Any, *, name: str = "workflow") -> None:
        """Check the steps."""
        self.name = check_name(name)
        self._tree = normalised(steps)
        self.given = tuple(steps.given if isinstance(steps, Nested) else steps)

    @property
    def steps(self) -> list[str]:
        """The paths of the steps, in their order."""
        return list(calls(self._tree))

    def run(
        self,
        data: Any = None,
        correlation_id: str | None = None,
        durable: bool = False,
        run_id: str | None = None,
        *,
        deadline: float | None = None,
    ) -> WorkflowResult:
        """Do the steps and wait for the last one.

        A durable run is in the node's journal (`dspex runs`): each step is written down when it is done, and the same
        call with the same `run_id` goes on after the last one that was, in whatever process. A step that was under way
        is done again. One that is finished is answered from the journal.

        Args:
            data: a mapping to begin with; None: an empty one.
            correlation_id: of its operation; None: that of the open one, else of a durable run its id, or a new one.
            durable: write the steps down; what they give has to be plain data, or else picklable.
            run_id: of a durable run: a new id, or one to go on with; None: a new one.
            deadline: seconds for all of it; None: as long as it takes.

        Raises:
            WorkflowError: a step failed for good: `.step`, `.data` so far, `.steps`, `.__cause__`.
            ConfigError: an argument is not legal; the id is that of another workflow, of other data, or of a run that
                is being carried out; an async step, and an event loop runs here (`arun`).
            RunInterrupted: a durable run cannot go on here (`.run_id`): the node is gone, or the run was paused.
        """
        state, given, run_id = self._prepare(data, durable, run_id, deadline)
        self._check_loop()
        with self._operation(correlation_id, run_id):
            if run_id is None:
                try:
                    return _result(given, drive(walk(self._tree, given, state), _nowhere), state, None)
                except Failed as failed:
                    raise self._verdict(failed, state, None).error from failed.cause
            with opened(self._tree, given, run_id) as book:
                try:
                    book.restore(state)
                    result = _result(given, drive(walk(self._tree, given, state), book.keep), state, book)
                except BaseException as error:
                    verdict = self._verdict(error, state, book)
                    book.end(verdict.state, verdict.reason)
                    raise verdict.error from verdict.error.__cause__
                book.end("finished", None)
                return result

    async def arun(
        self,
        data: Any = None,
        correlation_id: str | None = None,
        durable: bool = False,
        run_id: str | None = None,
        *,
        deadline: float | None = None,
    ) -> WorkflowResult:
        """Do the steps, from an event loop: sync ones in threads; as `run`.

        When its task is cancelled the steps under way are cancelled; a sync one goes on in its thread, unheard.
        """
        state, given, run_id = self._prepare(data, durable, run_id, deadline)
        with self._operation(correlation_id, run_id):
            if run_id is None:
                try:
                    return _result(given, await adrive(walk(self._tree, given, state), _nowhere), state, None)
                except Failed as failed:
                    raise self._verdict(failed, state, None).error from failed.cause
            return await self._arun_durably(given, state, run_id)

    async def _arun_durably(self, given: dict[str, Any], state: State, run_id: str) -> WorkflowResult:
        stack = contextlib.ExitStack()
        opening = asyncio.ensure_future(in_thread(lambda: stack.enter_context(opened(self._tree, given, run_id))))
        try:
            await asyncio.shield(opening)
        except asyncio.CancelledError:
            book = await opening  # it is this process's by then
            await in_thread(lambda: book.end("paused", "interrupted"))
            await in_thread(stack.close)
            raise
        book = opening.result()
        try:
            await in_thread(lambda: book.restore(state))
            result = _result(given, await adrive(walk(self._tree, given, state), book.keep), state, book)
            await in_thread(lambda: book.end("finished", None))
            return result
        except BaseException as error:
            verdict = self._verdict(error, state, book)
            await in_thread(lambda: book.end(verdict.state, verdict.reason))
            raise verdict.error from verdict.error.__cause__
        finally:
            await in_thread(stack.close)

    def _prepare(
        self, data: Any, durable: Any, run_id: str | None, deadline: float | None
    ) -> tuple[State, dict[str, Any], str | None]:
        given = check_data({} if data is None else data, "the data of a workflow are")
        if not isinstance(durable, bool):
            raise ConfigError(f"durable is invalid: got {durable!r:.60}, expected True or False")
        if run_id is not None and not durable:
            raise ConfigError("run_id is for a durable run: give durable=True with it")
        if durable:
            run_id = new_run_id(WORKFLOW) if run_id is None else check_run_id(run_id)
        seconds = check_seconds("deadline", deadline)
        return State(self.name, None if seconds is None else time.monotonic() + seconds, durable), given, run_id

    def _operation(self, correlation_id: str | None, run_id: str | None) -> Operation:
        if correlation_id is None and current_operation() is None:
            correlation_id = run_id
        return operation(self.name, correlation_id, steps=self.steps[:100])

    def _check_loop(self) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        for path, pair in calls(self._tree).items():
            if any(map(is_async, pair)):
                raise ConfigError(
                    f"step {path!r} is async, and an event loop runs here: use `await workflow.arun(...)`"
                )

    def _verdict(self, error: BaseException, state: State, book: Book | None) -> _Verdict:
        """Return what a run that did not go well is from now on, and what the caller gets."""
        if not isinstance(error, Failed):
            return _Verdict(error, "paused", "interrupted")
        cause = error.cause
        if isinstance(cause, RunInterrupted) and book is not None:
            return _Verdict(cause, "paused", cause.message)
        # It goes to the journal, and on the screen.
        text = scrub(f"step {error.path!r} of {self.name!r} failed: {type(cause).__name__}: {cause}")
        given_up = [run.name for run in state.runs.values() if run.state == CANCELLED]
        if given_up:
            text += f" (cancelled: {', '.join(given_up)})"
        steps, run_id = list(state.runs.values()), None if book is None else book.run_id
        made = WorkflowError(text, step=error.path, data=error.data, steps=steps, run_id=run_id)
        made.__cause__ = cause
        return _Verdict(made, "failed", text[:2000])


class _Verdict(NamedTuple):
    error: BaseException
    state: RunState
    reason: str


def _result(given: dict[str, Any], update: dict[str, Any], state: State, book: Book | None) -> WorkflowResult:
    return WorkflowResult({**given, **update}, list(state.runs.values()), None if book is None else book.run_id)


def _nowhere(saved: Save) -> None:
    """Write nothing down."""
