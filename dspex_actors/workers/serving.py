"""Inferences of ecosystems in a worker: run one by one beside each other, their results sent back many at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, ClassVar

from dspex_actors.foundation.linger import Linger
from dspex_actors.foundation.operation import Operation, current_operation
from dspex_actors.lm.attempts import Ledger, book_outside
from dspex_actors.runs.work import Result
from dspex_actors.workers.outbox import fitting, size_of
from dspex_actors.workers.runner import Runner, run_example
from supervisors import Ref, carried, message

#: So many bytes of results go in one message, and more only where one result is larger.
MOST_BYTES = 4 << 20


@message(80)
@dataclass(frozen=True, slots=True)
class Serve:
    """Inferences to do. A cast of an ecosystem's coordinator, which watches the worker.

    Args:
        coordinator: who asks, and gets the results; the worker asks it for the `Job`.
        numbers: of the inferences, among those of this coordinator.
        payloads: for each its packed inputs.
        seconds: for each how long it may take.
        operations: for each what the caller's context carries; empty: nothing.
    """

    VERSION: ClassVar[int] = 1

    coordinator: Ref
    numbers: list[int]
    payloads: list[bytes]
    seconds: list[float]
    operations: list[bytes]


@message(81)
@dataclass(frozen=True, slots=True)
class Served:
    """Inferences that are done. A cast to the coordinator.

    Args:
        worker: who did them.
        results: `index` is the inference's number.
    """

    VERSION: ClassVar[int] = 1

    worker: Ref
    results: list[Result]


@message(82)
@dataclass(frozen=True, slots=True)
class GiveUp:
    """Nobody waits for these inferences any more. A cast of their coordinator."""

    VERSION: ClassVar[int] = 1

    coordinator: Ref
    numbers: list[int]


@message(243)
@dataclass(frozen=True, slots=True)
class Lacks:
    """Which of these inferences are not here? Asked by their coordinator where it hears nothing: a cast may be lost.

    The reply is a list of numbers. What was done before and sent comes before it.
    """

    VERSION: ClassVar[int] = 1

    coordinator: Ref
    numbers: list[int]


class Inferences:
    """What a worker does for one coordinator.

    Args:
        spawn: runs a coroutine; its crash is the worker's.
        send: sends results to the coordinator.
    """

    def __init__(
        self,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[Any]],
        send: Callable[[list[Result]], None],
    ) -> None:
        """Begin without anything to do."""
        #: Inferences begun.
        self.begun = 0
        self._spawn, self._send = spawn, send
        self._loop = asyncio.get_running_loop()
        self._opening: asyncio.Future[Runner] = self._loop.create_future()
        self._runner: Runner = _Opening(self._opening)
        self._tasks: dict[int, asyncio.Task[Any]] = {}
        self._done: list[Result] = []
        self._linger = Linger()

    @property
    def active(self) -> int:
        """How many are under way."""
        return len(self._tasks)

    def take(self, work: Serve) -> None:
        """Begin inferences."""
        rows = zip(work.numbers, work.payloads, work.seconds, work.operations, strict=True)
        for number, payload, seconds, operation in rows:
            self.begun += 1
            task = self._spawn(self._run(number, payload, self._loop.time() + seconds, operation))
            self._tasks[number] = task
            # Not in the coroutine: one that is given up before it has begun runs none of it.
            task.add_done_callback(lambda _, number=number: self._tasks.pop(number))  # type: ignore[misc]

    def begin(self, runner: Runner) -> None:
        """Do what waits, with the program."""
        self._runner = runner
        self._opening.set_result(runner)

    def cannot_begin(self, error: Exception) -> None:
        """Answer every inference with an error: the program cannot be opened here."""
        self._opening.set_exception(error)
        self._opening.exception()  # it is told to each that comes

    def lacks(self, numbers: list[int]) -> list[int]:
        """Return those of these inferences that are neither under way nor about to be sent."""
        here = self._tasks.keys() | {result.index for result in self._done}
        return [number for number in numbers if number not in here]

    def give_up(self, numbers: list[int]) -> None:
        """End inferences that nobody waits for."""
        for number in numbers:
            task = self._tasks.get(number)
            if task is not None:
                task.cancel()

    def cancel(self) -> None:
        """End all of them."""
        self.give_up(list(self._tasks))

    async def _run(self, number: int, payload: bytes, end: float, operation: bytes) -> None:
        carried.set(operation or None)
        ledger = Ledger(number, seconds=max(0.0, end - self._loop.time()))
        parent = current_operation()
        # Without an operation around it nobody has asked for a record.
        here = Operation("inference", None, parent, None, parent is not None and parent.is_recorded)
        try:
            result = await run_example(self._runner, payload, ledger, here=here)
        finally:
            for attempt in ledger.attempts:
                book_outside(attempt)
        self._done.append(fitting(payload, result))
        if len(self._tasks) == 1:
            self._flush()  # nothing else can end in this turn of the loop
        elif len(self._done) == 1:
            wait = self._linger.wait(self._loop.time(), len(self._tasks) - 1)
            if wait:
                self._loop.call_later(wait, self._flush)
            else:
                self._loop.call_soon(self._flush)  # with what else ends in this turn of the loop

    def _flush(self) -> None:
        self._linger.went(self._loop.time())
        batch: list[Result] = []
        size = 0
        for result in self._done:
            large = size_of(b"", result)
            if batch and size + large > MOST_BYTES:
                self._send(batch)
                batch, size = [], 0
            batch.append(result)
            size += large
        self._done = []
        if batch:
            self._send(batch)


class _Opening:
    """A runner that is not there yet, or never will be."""

    def __init__(self, opening: asyncio.Future[Runner]) -> None:
        self._opening = opening

    async def attempt(self, example: Any) -> Any:
        """Do it once the runner is there; raise the error that kept it from opening."""
        runner = await asyncio.shield(self._opening)
        return await runner.attempt(example)
