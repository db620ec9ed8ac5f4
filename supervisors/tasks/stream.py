"""A stream of tasks that a program outside consumes: its processes by way of the door, its events in a queue."""

from __future__ import annotations

import contextlib
import queue
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from contextvars import copy_context
from typing import Any, Protocol

from supervisors.tasks.calls import label_of, outcome_of, seal_function, task_spec
from supervisors.tasks.server import CLAIM, RUN
from supervisors.tasks.stream_core import Began, Emit, Ended, Event, Outcome, StreamOptions, StreamPump
from supervisors.terms.checks import Shutdown
from supervisors.terms.errors import MaxChildren, SupervisorsError
from supervisors.terms.ports import Connection
from supervisors.terms.reason import ExitReason
from supervisors.terms.ref import Ref
from supervisors.terms.spec import ChildSpec
from supervisors.wire import values as wire

#: How long a stream that ends waits for tasks that are just starting, in seconds.
CLOSE_SECONDS = 30.0

#: Asks a task for its result, or to run a function: of the task, and whether it ends with the claim.
Claim = Callable[[Ref, bool], tuple[Connection, Future[Any]]]


class Tasks(Protocol):
    """What a stream asks of a task supervisor outside."""

    def claim(self, ref: Ref, linked: bool, request: Any = CLAIM) -> tuple[Connection, Future[Any]]:
        """Ask a task for its result; return the connection and the future of the packed answer."""

    def submit_start(self, spec: ChildSpec) -> Future[Any]:
        """Start a task; return the future of its Ref."""

    def submit_shutdown(self, refs: list[Ref], shutdown: Shutdown) -> Future[Any]:
        """Stop tasks at the same time; the future is done when they are gone."""

    def shutdown_tasks(self, refs: list[Ref], shutdown: Shutdown = None) -> None:
        """Stop tasks at the same time, and return when they are gone."""


class OutsidePort:
    """The processes of a stream that a program outside consumes."""

    def __init__(
        self, supervisor: Tasks, function: Any, args: tuple[Any, ...], shutdown: Any, options: StreamOptions
    ) -> None:
        """Check and seal what every item needs; nothing is started."""
        # Which have answered and may not be gone yet; those long before them are.
        self._answered: deque[Ref] = deque(maxlen=4 * options.max_concurrency)
        self.options = options
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._supervisor, self._args, self._shutdown = supervisor, args, shutdown
        self._function, self._label = seal_function(function), label_of(function)

    def launch(self, number: int, item: Any) -> None:
        """Start a task for an item, and claim its result."""
        arguments = (item, *self._args)
        first = None if self.options.reuse else self._function
        spec = task_spec(first, self._label, () if first is None else arguments, {}, shutdown=self._shutdown)
        request: Any = (RUN, self._function, arguments, {}) if first is None else CLAIM
        # It is claimed in another thread, with what is carried in this one.
        frame = copy_context()
        self._start(number, spec, lambda ref, linked: frame.run(self._supervisor.claim, ref, linked, request))

    def _start(self, number: int, spec: ChildSpec, claim: Claim) -> None:
        # In the thread of the connection's reader, so that a result is claimed also while nobody asks for one.
        def began(future: Future[Any]) -> None:
            try:
                ref = future.result()
                self.events.put(Began(number, time.monotonic(), ref))
                self._claim(number, ref, claim)
            except MaxChildren as error:
                if self._answered:  # tasks that have answered are just about to make room
                    self._when_gone(lambda: self._start(number, spec, claim))
                else:
                    self.events.put(Began(number, time.monotonic(), None, error))
            except Exception as error:
                self.events.put(Began(number, time.monotonic(), None, error))

        try:
            starting = self._supervisor.submit_start(spec)
        except SupervisorsError as error:
            self.events.put(Began(number, time.monotonic(), None, error))
        else:
            starting.add_done_callback(began)

    def _when_gone(self, then: Callable[[], None]) -> None:
        refs = list(self._answered)

        def gone(_: Future[Any]) -> None:
            for ref in refs:
                with contextlib.suppress(ValueError):
                    self._answered.remove(ref)
            then()

        self._supervisor.submit_shutdown(refs, None).add_done_callback(gone)

    def again(self, number: int, item: Any, ref: Ref) -> None:
        """Give an item to a process that is idle."""
        request: Any = (RUN, self._function, (item, *self._args), {})
        self._claim(number, ref, lambda ref, linked: self._supervisor.claim(ref, linked, request))

    def _claim(self, number: int, ref: Ref, claim: Claim) -> None:
        def ended(future: Future[Any]) -> None:
            at = time.monotonic()
            try:
                outcome: Outcome = ("ok", wire.open_value(future.result(), "result"))
            except SupervisorsError as error:
                outcome = outcome_of(error)
            except Exception as error:  # a result that cannot be opened here
                outcome = ("exit", ExitReason.crash(error))
            if not self.options.reuse:
                self._answered.append(ref)
            self.events.put(Ended(number, at, outcome))

        claim(ref, self.options.linked)[1].add_done_callback(ended)

    def kill(self, refs: list[Ref]) -> None:
        """Have tasks killed, and do not wait for it."""
        with contextlib.suppress(SupervisorsError):
            self._supervisor.submit_shutdown(refs, "brutal_kill")

    def drain(self, pump: StreamPump) -> None:
        """Take in what has happened meanwhile."""
        with contextlib.suppress(queue.Empty):
            while True:
                pump.take(self.events.get_nowait())

    def close(self, pump: StreamPump) -> None:
        """Kill what still runs, also what is just starting."""
        deadline = time.monotonic() + CLOSE_SECONDS
        while pump.starting and time.monotonic() < deadline:
            with contextlib.suppress(Exception):  # what did not start has nothing to kill
                pump.take(self.events.get(timeout=1.0))
        if pump.live:
            self._supervisor.shutdown_tasks(pump.live, "brutal_kill")


def consume(items: Iterator[Any], port: OutsidePort) -> Generator[Outcome]:
    """Iterate over a stream's results; however the iteration ends, its tasks are gone then."""
    pump = StreamPump(port.options, items, port, time.monotonic)
    try:
        while (step := pump.step()) is not None:
            if isinstance(step, Emit):
                yield step.outcome
            else:
                wait = None if step.until is None else max(0.0, step.until - time.monotonic())
                with contextlib.suppress(queue.Empty):
                    pump.take(port.events.get(timeout=wait))
            port.drain(pump)
    finally:
        port.close(pump)
