"""Tasks, from inside a GenServer: the same as supervisors/tasks/outside.py, to be awaited.

`async_` links: a task that crashes ends this server for the same reason, unless `self.trap_exit` is set (then
("EXIT", ref, reason) comes to handle_info), and it ends with this server, however that ends. `async_nolink` does not.
"""
# ruff: noqa: ASYNC109 - `timeout` is the name of the contract

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any, Unpack

from supervisors.tasks.calls import (
    StreamKeywords,
    label_of,
    outcome_of,
    raise_exit,
    seal_function,
    stream_items,
    stream_options,
    task_spec,
)
from supervisors.tasks.server import CLAIM, RUN, callers
from supervisors.tasks.stream import CLOSE_SECONDS
from supervisors.tasks.stream_core import Began, Emit, Ended, Event, Outcome, StreamOptions, StreamPump
from supervisors.terms.checks import Shutdown, check_shutdown, check_timeout
from supervisors.terms.errors import CallTimeout, MaxChildren, NotAllowed, SupervisorsError
from supervisors.terms.handles import AsyncHandle
from supervisors.terms.ports import Inside, supervise
from supervisors.terms.reason import ExitReason
from supervisors.terms.ref import Ref
from supervisors.terms.spec import ChildSpec


class AsyncTask:
    """A task that a server has started: `ref` is its process. Only that server may wait for it."""

    def __init__(self, supervisor: AsyncTaskSupervisor, ref: Ref, label: str, linked: bool) -> None:
        """Claim its result."""
        self.ref, self.label, self.linked = ref, label, linked
        self._supervisor = supervisor
        self._claim = supervisor.server.spawn(supervisor.claim(ref, CLAIM))
        self._taken = False

    async def await_(self, timeout: float | None = 5.0) -> Any:
        """Return the task's result; once. As `Task.await_`."""
        timeout = check_timeout(timeout)
        outcome = await self._outcome(timeout)
        self._taken = True
        if outcome is None:
            if self.linked:
                await self._stop(None)
            what = "it is stopped" if self.linked else "it goes on, and its result is dropped"
            raise CallTimeout(f"await of task {self.label} {self.ref}: no result within {timeout:g} s; {what}")
        kind, value = outcome
        return value if kind == "ok" else raise_exit(self.label, self.ref, value)

    async def yield_(self, timeout: float | None = 5.0) -> Outcome | None:
        """Return ("ok", value), ("exit", reason), or None when it is not done in time; then ask again later."""
        timeout = check_timeout(timeout)
        outcome = await self._outcome(timeout)
        self._taken = outcome is not None
        return outcome

    async def shutdown(self, shutdown: Shutdown = None) -> Outcome | None:
        """Stop the task and return when it is gone. As `Task.shutdown`."""
        shutdown = check_shutdown(shutdown)
        outcome = await self._outcome(0.0)
        self._taken = True
        if outcome is None:
            await self._stop(shutdown)
            with contextlib.suppress(TimeoutError):
                outcome = await asyncio.wait_for(asyncio.shield(self._claim), 1.0)
            if outcome is not None and outcome[0] == "exit" and outcome[1].kind in ("shutdown", "killed", "noproc"):
                outcome = None
        return outcome

    async def ignore(self) -> Outcome | None:
        """Give the result up and let the task go on, its crash no longer ours; return what is there already."""
        outcome = await self._outcome(0.0)
        self._taken = True
        self._supervisor.server.unlink(self.ref)
        return outcome

    async def _stop(self, shutdown: Shutdown) -> None:
        self._supervisor.server.unlink(self.ref)  # its end is wanted
        await self._supervisor.shutdown_tasks([self.ref], shutdown)

    async def _outcome(self, timeout: float | None) -> Outcome | None:
        if self._taken:
            raise NotAllowed(f"task {self.label} {self.ref} was awaited before: a result is taken once")
        done, _ = await asyncio.wait([self._claim], timeout=timeout)
        return self._claim.result() if done else None


class AsyncTaskSupervisor(AsyncHandle):
    """A task supervisor, inside a GenServer: `AsyncTaskSupervisor(self, "tasks")`."""

    @property
    def server(self) -> Inside:
        """The server that this is for."""
        return self._server

    async def async_(
        self, function: Callable[..., Any], *args: Any, shutdown: Shutdown = None, **kwargs: Any
    ) -> AsyncTask:
        """Run a function in a process of its own, linked to this server. As `TaskSupervisor.async_`."""
        return await self._async(function, args, kwargs, shutdown, linked=True)

    async def async_nolink(
        self, function: Callable[..., Any], *args: Any, shutdown: Shutdown = None, **kwargs: Any
    ) -> AsyncTask:
        """Do what `async_` does without the link."""
        return await self._async(function, args, kwargs, shutdown, linked=False)

    async def start_child(
        self,
        function: Callable[..., Any],
        *args: Any,
        restart: str = "temporary",
        shutdown: Shutdown = None,
        **kwargs: Any,
    ) -> Ref:
        """Run a function whose result nobody waits for; transient and permanent ones are run again."""
        rest = (args, kwargs, "alone", None, self._callers())
        spec = task_spec(seal_function(function), label_of(function), *rest, restart=restart, shutdown=shutdown)
        return await self.ask("start_child", spec)  # type: ignore[no-any-return]

    async def children(self) -> list[Ref]:
        """Return the tasks that run, not those that are being restarted."""
        rows = await self.ask("which_children", None)
        return [row.ref for row in rows if row.ref is not None]

    def async_stream(
        self, items: Iterable[Any], function: Callable[..., Any], *args: Any, **options: Unpack[StreamKeywords]
    ) -> AsyncGenerator[Outcome]:
        """Run `function(item, *args)` for each item in a task; iterate by `async for`.

        Options, results and errors are those of `TaskSupervisor.async_stream`. To leave it early close it
        (`contextlib.aclosing`): the tasks that still run are then gone when the block ends. They also end with this
        server.
        """
        return self._stream(items, function, args, options, linked=True)

    def async_stream_nolink(
        self, items: Iterable[Any], function: Callable[..., Any], *args: Any, **options: Unpack[StreamKeywords]
    ) -> AsyncGenerator[Outcome]:
        """Do what `async_stream` does, but a task that crashes gives ("exit", reason), and the stream goes on."""
        return self._stream(items, function, args, options, linked=False)

    # --- for the task and the stream --------------------------------------------------------------------------------

    async def ask(self, name: str, argument: Any) -> Any:
        """Ask the task supervisor."""
        return await supervise(self._server, self._target, name, argument)

    async def claim(self, ref: Ref, request: Any) -> Outcome:
        """Wait for what becomes of a task."""
        try:
            return "ok", await self.server.call(ref, request, timeout=None)
        except SupervisorsError as error:
            return outcome_of(error)
        except Exception as error:  # a result that cannot be opened here
            return "exit", ExitReason.crash(error)

    async def shutdown_tasks(self, refs: list[Ref], shutdown: Shutdown = None) -> None:
        """Stop tasks at the same time, and return when they are gone; a supervisor that is gone has none."""
        with contextlib.suppress(SupervisorsError):
            await self.ask("shutdown_tasks", (refs, shutdown))

    def spec(self, function: bytes | None, label: str, args: tuple[Any, ...], shutdown: Shutdown) -> ChildSpec:
        """Return the spec of a task of a stream; it ends with this server."""
        rest: tuple[Any, ...] = (args, {}, "claimed", self.server.ref, self._callers())
        return task_spec(function, label, *rest, shutdown=shutdown)

    def _callers(self) -> tuple[Ref, ...]:
        return (self.server.ref, *callers())

    async def _async(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], shutdown: Any, linked: bool
    ) -> AsyncTask:
        label = label_of(function)
        # Linked from here only: a link that the task made could arrive after it was taken back. That the task ends
        # with this server does not wait for the link.
        rest = (args, kwargs, "claimed", self.server.ref if linked else None, self._callers())
        ref = await self.ask("start_child", task_spec(seal_function(function), label, *rest, shutdown=shutdown))
        if linked:
            self.server.link(ref)
        return AsyncTask(self, ref, label, linked)

    def _stream(
        self, items: Iterable[Any], function: Any, args: tuple[Any, ...], options: StreamKeywords, linked: bool
    ) -> AsyncGenerator[Outcome]:
        checked, shutdown = stream_options(options, linked)
        return _consume(stream_items(items), _InsidePort(self, function, args, shutdown, checked))


class _InsidePort:
    """The processes of a stream that a server consumes."""

    def __init__(
        self, tasks: AsyncTaskSupervisor, function: Any, args: tuple[Any, ...], shutdown: Any, options: StreamOptions
    ) -> None:
        self.options = options
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        # Which have answered and may not be gone yet; those long before them are.
        self._answered: deque[Ref] = deque(maxlen=4 * options.max_concurrency)
        self._tasks, self._args, self._shutdown = tasks, args, shutdown
        self._function, self._label = seal_function(function), label_of(function)

    def launch(self, number: int, item: Any) -> None:
        self._tasks.server.spawn(self._launch(number, (item, *self._args)))

    async def _launch(self, number: int, arguments: tuple[Any, ...]) -> None:
        first = None if self.options.reuse else self._function
        try:
            spec = self._tasks.spec(first, self._label, () if first is None else arguments, self._shutdown)
            ref = await self._start(spec)
        except Exception as error:
            self.events.put_nowait(Began(number, time.monotonic(), None, error))
            return
        self.events.put_nowait(Began(number, time.monotonic(), ref))
        await self._claim(number, ref, (RUN, self._function, arguments, {}) if first is None else CLAIM)

    async def _start(self, spec: ChildSpec) -> Ref:
        while True:
            try:
                return await self._tasks.ask("start_child", spec)  # type: ignore[no-any-return]
            except MaxChildren:
                gone = list(self._answered)
                if not gone:
                    raise
            # Tasks that have answered are just about to make room.
            await self._tasks.shutdown_tasks(gone)
            for ref in gone:
                with contextlib.suppress(ValueError):
                    self._answered.remove(ref)

    def again(self, number: int, item: Any, ref: Ref) -> None:
        self._tasks.server.spawn(self._claim(number, ref, (RUN, self._function, (item, *self._args), {})))

    async def _claim(self, number: int, ref: Ref, request: Any) -> None:
        outcome = await self._tasks.claim(ref, request)
        if not self.options.reuse:
            self._answered.append(ref)
        self.events.put_nowait(Ended(number, time.monotonic(), outcome))

    def kill(self, refs: list[Ref]) -> None:
        self._tasks.server.spawn(self._tasks.shutdown_tasks(refs, "brutal_kill"))

    def drain(self, pump: StreamPump) -> None:
        while not self.events.empty():
            pump.take(self.events.get_nowait())

    async def close(self, pump: StreamPump) -> None:
        deadline = time.monotonic() + CLOSE_SECONDS
        while pump.starting and time.monotonic() < deadline:
            with contextlib.suppress(Exception):  # what did not start has nothing to kill
                pump.take(await asyncio.wait_for(self.events.get(), 1.0))
        if pump.live:
            await self._tasks.shutdown_tasks(pump.live, "brutal_kill")


async def _consume(items: Any, port: _InsidePort) -> AsyncGenerator[Outcome]:
    pump = StreamPump(port.options, items, port, time.monotonic)
    try:
        while (step := pump.step()) is not None:
            if isinstance(step, Emit):
                yield step.outcome
            else:
                wait = None if step.until is None else max(0.0, step.until - time.monotonic())
                with contextlib.suppress(TimeoutError):
                    pump.take(await asyncio.wait_for(port.events.get(), wait))
            port.drain(pump)
    finally:
        await port.close(pump)
