"""Tasks, from a program outside: run functions in supervised processes of their own and wait for what they return.

A task is a process: it takes 10 to 20 ms to start, can be killed, uses a CPU of its own and cannot take anything
down with it. That is what it is for. For many small items, use `async_stream(..., reuse=True)`, which keeps
`max_concurrency` processes over the whole stream, and gives up only that each item has a fresh one.

::

    tasks = TaskSupervisor(node, node.start_supervisor(TaskSupervisorSpec(name="tasks")))
    task = tasks.async_(pow, 2, 10)
    task.await_()                                                    # 1024
    for kind, value in tasks.async_stream(range(100), slow_square, max_concurrency=4): ...

Functions travel by value where the node cannot import them. Linked (`async_`, `async_stream`): the task is stopped
when the program that started it is gone. Not linked (`async_nolink`, ...): it goes on to its end.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, NoReturn, Unpack

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
from supervisors.tasks.server import CLAIM
from supervisors.tasks.stream import OutsidePort, consume
from supervisors.tasks.stream_core import Outcome
from supervisors.terms.checks import Shutdown, check_shutdown, check_timeout
from supervisors.terms.errors import CallTimeout, NotAllowed, SupervisorsError
from supervisors.terms.handles import Handle
from supervisors.terms.ports import Connection
from supervisors.terms.ref import Ref
from supervisors.terms.spec import ChildSpec
from supervisors.wire import door_protocol as protocol
from supervisors.wire import values
from supervisors.wire.envelope import pack_sent


class Task:
    """A task that was started by `async_` or `async_nolink`: `ref` is its process. Only its starter may wait for it."""

    def __init__(self, supervisor: TaskSupervisor, ref: Ref, label: str, linked: bool) -> None:
        """Claim its result."""
        self.ref, self.label, self.linked = ref, label, linked
        self._supervisor, self._owner = supervisor, os.getpid()
        self._client, self._future = supervisor.claim(ref, linked)
        self._taken = False

    def await_(self, timeout: float | None = 5.0) -> Any:
        """Return the task's result; once.

        Args:
            timeout: seconds; None waits without end.

        Raises:
            ServerExited: it ended without one; `.reason` says why.
            CallTimeout: too late. A linked task is stopped, another one goes on; the result is dropped.
            NotAllowed: it was awaited before, or belongs to another process.
        """
        timeout = check_timeout(timeout)
        self._mine()
        outcome = self._outcome(timeout)
        self._taken = True
        if outcome is None:
            self._client.abandon(self._future)
            what = "it is stopped" if self.linked else "it goes on, and its result is dropped"
            raise CallTimeout(f"await of task {self.label} {self.ref}: no result within {timeout:g} s; {what}")
        kind, value = outcome
        return value if kind == "ok" else raise_exit(self.label, self.ref, value)

    def yield_(self, timeout: float | None = 5.0) -> Outcome | None:
        """Return ("ok", value), ("exit", reason), or None when it is not done in time; then ask again later."""
        timeout = check_timeout(timeout)
        self._mine()
        outcome = self._outcome(timeout)
        self._taken = outcome is not None
        return outcome

    def shutdown(self, shutdown: Shutdown = None) -> Outcome | None:
        """Stop the task and return when it is gone.

        Args:
            shutdown: seconds that it gets, "brutal_kill", or "infinity"; None: what it was started with.

        Returns:
            ("ok", value) or ("exit", reason) if it was done before; None if it was not.
        """
        shutdown = check_shutdown(shutdown)
        self._mine()
        outcome = self._outcome(0.0)
        self._taken = True
        if outcome is None:
            self._supervisor.shutdown_tasks([self.ref], shutdown)
            outcome = self._outcome(1.0)  # a result that was on its way
            stopped = outcome is None or (outcome[0] == "exit" and outcome[1].kind in ("shutdown", "killed", "noproc"))
            outcome = None if stopped else outcome
            self._client.abandon(self._future)
        return outcome

    def ignore(self) -> Outcome | None:
        """Give the result up and let the task go on (a linked one until this program ends); return what is there."""
        self._mine()
        outcome = self._outcome(0.0)
        self._taken = True
        return outcome

    def _outcome(self, timeout: float | None) -> Outcome | None:
        try:
            return "ok", values.open_value(self._future.result(timeout), "result")
        except FutureTimeoutError:
            return None
        except Exception as error:
            return outcome_of(error)

    def _mine(self) -> None:
        if self._taken:
            raise NotAllowed(f"task {self.label} {self.ref} was awaited before: a result is taken once")
        if os.getpid() != self._owner:
            raise NotAllowed(f"task {self.label} {self.ref} belongs to process {self._owner}: only it may wait")

    def __reduce__(self) -> NoReturn:
        """Refuse to be sent: only the starter may wait."""
        raise TypeError(f"task {self.label} {self.ref} cannot be sent: only its starter may wait for it")


class TaskSupervisor(Handle):
    """A task supervisor, for a program outside: `TaskSupervisor(node, "tasks")`. Thread-safe."""

    def async_(self, function: Callable[..., Any], *args: Any, shutdown: Shutdown = None, **kwargs: Any) -> Task:
        """Run a function in a process of its own, linked to this program; return the task to wait for.

        Args:
            function: `def` or `async def`.
            *args, **kwargs: its arguments.
            shutdown: how it is stopped; None - as the task supervisor says.

        Raises:
            MaxChildren: the supervisor runs as many as it may.
            NoProcess, SpecError, StartError: as their names say.
        """
        return self._async(function, args, kwargs, shutdown, linked=True)

    def async_nolink(self, function: Callable[..., Any], *args: Any, shutdown: Shutdown = None, **kwargs: Any) -> Task:
        """Do what `async_` does, but let the task go on to its end whatever becomes of this program."""
        return self._async(function, args, kwargs, shutdown, linked=False)

    def start_child(
        self,
        function: Callable[..., Any],
        *args: Any,
        restart: str = "temporary",
        shutdown: Shutdown = None,
        **kwargs: Any,
    ) -> Ref:
        """Run a function whose result nobody waits for; transient and permanent ones are run again."""
        label = label_of(function)
        spec = task_spec(seal_function(function), label, args, kwargs, "alone", restart=restart, shutdown=shutdown)
        return self._ask("start_child", spec)  # type: ignore[no-any-return]

    def children(self) -> list[Ref]:
        """Return the tasks that run, not those that are being restarted."""
        rows = self._ask("which_children", None)
        return [row.ref for row in rows if row.ref is not None]

    def async_stream(
        self, items: Iterable[Any], function: Callable[..., Any], *args: Any, **options: Unpack[StreamKeywords]
    ) -> Generator[Outcome]:
        """Run `function(item, *args)` for each item in a task of its own; return ("ok", value) pairs, lazily.

        An item is pulled when a result is asked for and a task may be started; nothing runs ahead of that. When the
        iteration is left early, or anything is raised out of it, the tasks that still run are killed before it ends.

        Args:
            items: any iterable; an exception that it raises ends the stream.
            function: `def` or `async def`.
            *args: further arguments, after the item.
            max_concurrency: tasks at the same time. Defaults to None: the number of CPUs here.
            ordered: results come in the order of the items; False: as they are done. Defaults to True.
            timeout: seconds for each task, from when it runs; None - no limit. Defaults to 5.0.
            on_timeout: "exit" - CallTimeout ends the stream; "kill_task" - ("exit", reason) for that item. Defaults to
                "exit".
            zip_input_on_exit: make that ("exit", (item, reason)). Defaults to False.
            reuse: keep processes for further items: an item then costs a call (about 1 ms) and not a start (10 to
                20 ms), but finds what earlier items have left in its process. Defaults to False.
            shutdown: how a task is stopped by others. Defaults to None: as the task supervisor says.

        Raises:
            SpecError: an option that is not legal; at once, not at the first result.
            ServerExited: while iterating: a task has crashed (see `async_stream_nolink`).
            MaxChildren: while iterating: the supervisor runs as many as it may.

        Source: Elixir's Task.Supervisor.async_stream.
        """
        return self._stream(items, function, args, options, linked=True)

    def async_stream_nolink(
        self, items: Iterable[Any], function: Callable[..., Any], *args: Any, **options: Unpack[StreamKeywords]
    ) -> Generator[Outcome]:
        """Do what `async_stream` does, but a task that crashes gives ("exit", reason), and the stream goes on."""
        return self._stream(items, function, args, options, linked=False)

    # --- for Task and the stream ------------------------------------------------------------------------------------

    def claim(self, ref: Ref, linked: bool, request: Any = CLAIM) -> tuple[Connection, Future[Any]]:
        """Ask a task for its result; return the connection and the future of the packed answer."""
        return self._node.submit(protocol.CLAIM, ref, pack_sent(request, "request"), linked)

    def submit_start(self, spec: ChildSpec) -> Future[Any]:
        """Start a task; return the future of its Ref."""
        return self._node.submit(protocol.SUPERVISOR, self._target, "start_child", spec)[1]

    def submit_shutdown(self, refs: list[Ref], shutdown: Shutdown) -> Future[Any]:
        """Stop tasks at the same time; the future is done when they are gone."""
        return self._node.submit(protocol.SUPERVISOR, self._target, "shutdown_tasks", (refs, shutdown))[1]

    def shutdown_tasks(self, refs: list[Ref], shutdown: Shutdown = None) -> None:
        """Stop tasks at the same time, and return when they are gone; a supervisor that is gone has none."""
        with contextlib.suppress(SupervisorsError):
            self._ask("shutdown_tasks", (refs, shutdown))

    def _ask(self, name: str, argument: Any) -> Any:
        return self._node.supervise(self._target, name, argument)

    def _async(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], shutdown: Any, linked: bool
    ) -> Task:
        label = label_of(function)
        ref = self._ask("start_child", task_spec(seal_function(function), label, args, kwargs, shutdown=shutdown))
        return Task(self, ref, label, linked)

    def _stream(
        self, items: Iterable[Any], function: Any, args: tuple[Any, ...], options: StreamKeywords, linked: bool
    ) -> Generator[Outcome]:
        checked, shutdown = stream_options(options, linked)
        return consume(stream_items(items), OutsidePort(self, function, args, shutdown, checked))
