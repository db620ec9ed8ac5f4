"""Node: start or attach to a host's node, and make calls into its tree from any thread of any program."""
# ruff: noqa: ASYNC109 - `timeout` is the name of the contract

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from supervisors.application.application import Application, ApplicationInfo
from supervisors.application.handle import ensure_all_started, start_application, stop_application, which_applications
from supervisors.client.door_client import SLACK_SECONDS, DoorClient
from supervisors.client.launch import connect, default_data_dir, launch, read_node_file, stop_process
from supervisors.client.monitor import Monitor
from supervisors.client.own_node import OwnNode
from supervisors.client.requests import Request
from supervisors.groups.handle import GroupsHandle
from supervisors.host.node_config import NodeConfig
from supervisors.partition.handle import PartitionSupervisor
from supervisors.pool.handle import Pool
from supervisors.pool.spec import PoolSpec
from supervisors.registry.handle import RegistryHandle
from supervisors.tasks.outside import TaskSupervisor
from supervisors.terms.checks import check_timeout
from supervisors.terms.errors import CallTimeout, NodeDown, SpecError, SupervisorsError
from supervisors.terms.reason import ExitReason, exit_reason
from supervisors.terms.ref import Ref
from supervisors.terms.spec import ChildSpec, SupervisorSpec
from supervisors.terms.via import Via
from supervisors.terms.views import ChildCounts, ChildInfo, ProcessStats, Report
from supervisors.wire import pickles as sealing
from supervisors.wire import values as wire

__all__ = ["Monitor", "Node", "default_data_dir", "launch", "read_node_file", "stop_process"]


class Node:
    """A node, as a program outside sees it. Thread-safe; many calls in flight at once.

    `Node.start()` starts one of its own, in a fresh interpreter, which is gone when this program ends, however it
    ends. `Node.attach()` joins the host's daemon. Both are context managers; `close` ends an own node and only
    disconnects from the daemon's.
    """

    def __init__(self, data_dir: Path, client: DoorClient, own: OwnNode | None = None) -> None:
        """Use `start` or `attach` instead."""
        self.data_dir = data_dir
        self._client = client
        self._own = own
        self._closed = False
        self._lock = threading.Lock()

    # --- coming and going -------------------------------------------------------------------------------------------

    @classmethod
    def start(
        cls,
        name: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        data_dir: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> Node:
        """Start a node of this program's own and connect to it.

        A fresh interpreter is launched: this process is never forked, whatever threads it has.

        Args:
            name: the node's name; default: made of this process's id.
            host: address that everything of the node binds to.
            port: of its door; 0 picks a free one.
            data_dir: its folder; None: a temporary one that goes with the node.
            **options: further fields of NodeConfig (app, app_config, preload, level).

        Raises:
            NodeDown: it did not come up; the message says why and what to do.
            SpecError: an argument that cannot be.
        """
        config = NodeConfig(
            name=name or f"node-{os.getpid()}",
            data_dir=str(Path(data_dir or ".").absolute()),
            host=host,
            port=port,
            temporary=data_dir is None,
            **options,
        )
        own = OwnNode(config)
        try:
            return cls(own.folder, connect(own.folder), own)
        except BaseException:
            own.abandon()
            raise

    @classmethod
    def attach(cls, data_dir: str | os.PathLike[str] | None = None) -> Node:
        """Connect to the node that the host's daemon runs in `data_dir` (default: DSPEX_HOME or ~/.dspex).

        Raises:
            NodeDown: no node runs there.
        """
        folder = default_data_dir() if data_dir is None else Path(data_dir)
        return cls(folder, connect(folder))

    def close(self) -> None:
        """Disconnect; an own node is stopped, children first, and gone when this returns."""
        with self._lock:
            self._closed = True
            own, self._own = self._own, None
        self._client.close()
        if own is not None:
            own.stop()

    def __enter__(self) -> Node:
        """Return the node."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close it."""
        self.close()

    @property
    def info(self) -> dict[str, Any]:
        """Name, address, data folder, pid and version of the node."""
        return self._client.node

    def _request(self, operation: str, *arguments: Any, wait: float | None = None) -> Any:
        client, future = self._submit(operation, *arguments)
        return client.wait(future, operation, wait)

    def _submit(self, operation: str, *arguments: Any) -> tuple[DoorClient, Future[Any]]:
        """Send a request; one that cannot be sent was not carried out, and is sent once more over a new connection."""
        client = self._connected()
        try:
            return client, client.submit(operation, *arguments)
        except NodeDown:
            client = self._connected()
            return client, client.submit(operation, *arguments)

    def _connected(self) -> DoorClient:
        """Return a live connection.

        When the door was restarted, or the daemon brought the node back, it is dialled again.
        """
        client = self._client
        if not client.closed:
            return client
        with self._lock:
            if self._closed:
                raise NodeDown("this Node is closed")
            if self._client.closed:
                self._client = connect(self.data_dir)
            return self._client

    # --- calls ------------------------------------------------------------------------------------------------------

    def call(self, target: Ref | str | Via, request: Any, timeout: float | None = 5.0) -> Any:
        """Ask a server and return its reply.

        Args:
            target: a Ref or a registered name.
            request: what its handle_call gets.
            timeout: seconds; None waits without end.

        Raises:
            CallTimeout, NoProcess, ServerExited, CallFailed, NodeDown: as their names say.
            SpecError: `timeout` is no number of seconds.
        """
        check_timeout(timeout)
        wait = None if timeout is None else timeout + SLACK_SECONDS
        return wire.unpack(
            self._request("call", target, wire.pack_value(request, "request"), timeout, wait=wait), trusted=True
        )

    async def acall(self, target: Ref | str | Via, request: Any, timeout: float | None = 5.0) -> Any:
        """Do what `call` does, from an event loop."""
        client, future = self._submit("call", target, wire.pack_value(request, "request"), timeout)
        try:
            async with asyncio.timeout(None if timeout is None else timeout + SLACK_SECONDS):
                return wire.unpack(await asyncio.wrap_future(future), trusted=True)
        except TimeoutError:
            client.abandon(future)
            raise CallTimeout(f"no answer from the node within {timeout} s") from None
        except asyncio.CancelledError:
            client.abandon(future)
            raise

    def send_request(self, target: Ref | str | Via, request: Any) -> Request:
        """Ask a server and wait for the reply later: by itself, or in a RequestIds with others.

        Raises:
            CallFailed, NodeDown: it could not be sent; all other errors come with the response.
        """
        return Request(*self._submit("call", target, wire.pack_value(request, "request"), None))

    def cast(self, target: Ref | str | Via, message: Any) -> None:
        """Send a message and do not wait; to nobody is fine too."""
        self._submit("cast", target, wire.pack_value(message, "message"))

    def send(self, target: Ref | str | Via, message: Any) -> None:
        """Send a message to a server's handle_info; to nobody is fine too."""
        self._submit("send", target, wire.pack_value(message, "message"))

    def exit(self, target: Ref | str | Via, reason: Any) -> None:
        """Send an exit signal: "kill" ends it at once; others end it without terminate, unless it traps exits.

        "normal" does nothing to a server that does not trap exits, and a supervisor heeds no signal but "kill". To end
        either in order is what `stop` does.

        Raises:
            NoProcess: nobody is registered under that name.
        """
        self._request("exit", target, exit_reason(reason))

    def stop(self, target: Ref | str | Via, reason: Any = "normal", timeout: float | None = None) -> None:
        """End a server, or a supervisor with its children first; return when it is gone.

        Raises:
            NoProcess: nobody there.
            CallTimeout: it takes longer than `timeout` seconds; the stop goes on.
            SpecError: `timeout` is no number of seconds; nothing was stopped.
        """
        check_timeout(timeout)
        self._request("stop", target, ExitReason.of(reason), timeout)

    def whereis(self, name: str | Via) -> Ref | None:
        """Return who is registered under a name; raises NoProcess where a Via's own registry is not there."""
        return self._request("whereis", name)  # type: ignore[no-any-return]

    def tasks(self, supervisor: Ref | str | Via) -> TaskSupervisor:
        """Return a task supervisor as this program sees it: async_, async_nolink, start_child, async_stream."""
        return TaskSupervisor(self, supervisor)

    def partitions(self, supervisor: Ref | str | Via) -> PartitionSupervisor:
        """Return a partition supervisor as this program sees it: which process has a key, and resize."""
        return PartitionSupervisor(self, supervisor)

    def registry(self, name: Ref | str | Via) -> RegistryHandle:
        """Return the methods of a registry: `node.registry("reg").lookup(key)`."""
        return RegistryHandle(self, name)

    def groups(self, name: Ref | str | Via) -> GroupsHandle:
        """Return the methods of process groups: `node.groups("pg").members(group)`."""
        return GroupsHandle(self, name)

    def pool(self, name: Ref | str | Via) -> Pool:
        """Return the methods of a pool: `node.pool("db").transaction(request)`."""
        return Pool(self, name)

    def lease(self, target: Ref | str | Via, request: Any, timeout: float | None, answered: bool = True) -> Any:
        """Make a call of a borrower: the server (a pool's) is told when this program's connection ends."""
        packed = wire.pack_value(request, "request")
        if not answered:
            self._submit("lease", target, packed, timeout)
            return None
        wait = None if timeout is None else timeout + SLACK_SECONDS
        return wire.unpack(self._request("lease", target, packed, timeout, wait=wait), trusted=True)

    def pid(self, target: Ref | str | Via) -> int | None:
        """Return the process id behind a ref or a name; None when there is none."""
        ref = target if isinstance(target, Ref) else self.whereis(target)
        return None if ref is None else ref.pid

    def monitor(self, target: Ref | str | Via) -> Monitor:
        """Watch a process; in force when this returns."""
        monitor = Monitor(self._connected(), target)
        monitor.begin()
        return monitor

    # --- supervisors ------------------------------------------------------------------------------------------------

    def start_supervisor(self, spec: SupervisorSpec | PoolSpec) -> Ref:
        """Start a supervisor under the node's root; return when every child's init has returned.

        It is a temporary child: the node does not restart it when it ends.

        Raises:
            StartError: a child did not start; those before it have been stopped again.
            AlreadyStarted: a name is taken.
        """
        spec = spec.as_supervisor() if isinstance(spec, PoolSpec) else spec
        if not isinstance(spec, SupervisorSpec):
            raise SpecError(f"start_supervisor got {spec!r}: expected a SupervisorSpec")
        return self._request("start_supervisor", _seal(spec))  # type: ignore[no-any-return]

    def start_child(self, supervisor: Ref | str | Via, spec: ChildSpec | tuple[Any, ...] | list[Any]) -> Any:
        """Start a child; under simple_one_for_one give a tuple of arguments, added to the template's.

        Returns:
            Its ref; None where init returned IGNORE; (ref, value) where it returned Extra(value).

        Raises:
            StartError, AlreadyStarted, AlreadyPresent, SpecError: as their names say.
        """
        if isinstance(spec, tuple | list):
            argument: Any = (sealing.seal_args(tuple(spec)),)
        elif isinstance(spec, ChildSpec):
            argument = _seal(spec)
        else:
            raise SpecError(f"start_child got {spec!r}: expected a ChildSpec (or, under simple_one_for_one, a tuple)")
        return _with_extra(self._supervisor(supervisor, "start_child", argument))

    def restart_child(self, supervisor: Ref | str | Via, child: str) -> Any:
        """Start a child that is stopped; that child only, whatever the strategy. Returns what `start_child` does."""
        return _with_extra(self._supervisor(supervisor, "restart_child", child))

    def terminate_child(self, supervisor: Ref | str | Via, child: str | Ref) -> None:
        """Stop a child; its spec is kept (a temporary one's is not)."""
        self._supervisor(supervisor, "terminate_child", child)

    def delete_child(self, supervisor: Ref | str | Via, child: str) -> None:
        """Forget a child that is stopped."""
        self._supervisor(supervisor, "delete_child", child)

    def get_childspec(self, supervisor: Ref | str | Via, child: str | Ref) -> ChildSpec:
        """Return a child's spec with its defaults filled in."""
        return sealing.unseal(self._supervisor(supervisor, "get_childspec", child))

    def which_children(self, supervisor: Ref | str | Via) -> list[ChildInfo]:
        """Return a row per child, newest first."""
        return self._supervisor(supervisor, "which_children", None)  # type: ignore[no-any-return]

    def which_child(self, supervisor: Ref | str | Via, child: str | Ref) -> ChildInfo:
        """Return the row of one child: by its id, under simple_one_for_one by its ref.

        Raises:
            ChildNotFound, NotAllowed: as their names say.
        """
        return self._supervisor(supervisor, "which_child", child)  # type: ignore[no-any-return]

    def count_children(self, supervisor: Ref | str | Via) -> ChildCounts:
        """Return how many specs, live children, supervisors and workers there are."""
        return self._supervisor(supervisor, "count_children", None)  # type: ignore[no-any-return]

    def _supervisor(self, supervisor: Ref | str | Via, name: str, argument: Any) -> Any:
        return self._request("supervisor", supervisor, name, argument)

    # --- applications -----------------------------------------------------------------------------------------------

    def start_application(self, application: Application) -> Ref:
        """Start an application; return its topmost process when every init has returned.

        Raises:
            StartError: a dependency does not run, or a child did not start (passed on whole).
            AlreadyStarted: an application of this name runs.
        """
        return start_application(self, application)

    def ensure_all_started(self, *applications: Application) -> list[str]:
        """Start those of these applications that do not run yet, dependencies first; return their names in that order.

        Raises:
            SpecError: a dependency neither runs nor was given, or they go in a circle; nothing was started.
            StartError: one did not start; those that this call has started are stopped again.
        """
        return ensure_all_started(self, applications)

    def stop_application(self, name: str) -> None:
        """Stop an application: its prep_stop, its tree in reverse, its stop. Return when it is gone.

        Raises:
            NoProcess: no application of this name runs.
        """
        stop_application(self, name)

    def which_applications(self) -> list[ApplicationInfo]:
        """Return the running applications in the order in which they were started."""
        return which_applications(self)

    # --- servers from outside ---------------------------------------------------------------------------------------

    def get_state(self, target: Ref | str | Via, timeout: float | None = 5.0) -> dict[str, Any]:
        """Return a server's attributes as a dict; one that cannot be sent (a lock, a socket) as its repr.

        For debugging: like all questions below it is answered between two messages, in their order.

        Raises:
            CallTimeout, NoProcess, ServerExited: as for `call`.
        """
        return self._system(target, "get_state", None, timeout)  # type: ignore[no-any-return]

    def replace_state(
        self, target: Ref | str | Via, function: Callable[[dict[str, Any]], dict[str, Any]], timeout: float | None = 5.0
    ) -> dict[str, Any]:
        """Put `function(attributes)` in the place of a server's attributes; return them.

        Raises:
            CallFailed: the function raised, or returned no dict of attributes; the state is what it was.
            CallTimeout, NoProcess, ServerExited: as for `call`.
        """
        return self._system(target, "replace_state", function, timeout)  # type: ignore[no-any-return]

    def get_status(self, target: Ref | str | Via, timeout: float | None = 5.0) -> dict[str, Any]:
        """Return name, class, status (running, suspended), mailbox, links; and state, as `format_status` shows it."""
        return self._system(target, "get_status", None, timeout)  # type: ignore[no-any-return]

    def suspend(self, target: Ref | str | Via, timeout: float | None = 5.0) -> None:
        """Have a server leave its messages where they are, until `resume`; it can still be inspected and stopped."""
        self._system(target, "suspend", None, timeout)

    def resume(self, target: Ref | str | Via, timeout: float | None = 5.0) -> None:
        """Have a suspended server go on."""
        self._system(target, "resume", None, timeout)

    def _system(self, target: Ref | str | Via, name: str, argument: Any, timeout: float | None) -> Any:
        check_timeout(timeout)
        wait = None if timeout is None else timeout + SLACK_SECONDS
        packed = wire.pack_value(argument, "argument")
        return wire.unpack(self._request("system", target, name, packed, timeout, wait=wait), trusted=True)

    # --- seeing -----------------------------------------------------------------------------------------------------

    def reports(self, limit: int = 1000) -> list[Report]:
        """Return what supervisors reported, oldest first."""
        return self._request("reports", limit)  # type: ignore[no-any-return]

    def tree(self) -> dict[str, Any]:
        """Return the supervision tree as nested dicts: id, name, type, state, pid, restarts, children."""
        return self._request("tree", wait=10.0)  # type: ignore[no-any-return]

    def status(self) -> dict[str, Any]:
        """Return name, state, address, pid, uptime in seconds, version, processes and restarts."""
        return self._request("status", wait=10.0)  # type: ignore[no-any-return]

    def stats(self) -> dict[int, ProcessStats]:
        """Return pid → what each process has counted of itself; also of one that is stuck in a handler."""
        return {row[0]: ProcessStats(*row) for row in self._request("stats", wait=10.0)}

    def names(self) -> dict[str, Ref]:
        """Return all registered names."""
        return self._request("names", wait=10.0)  # type: ignore[no-any-return]


def _seal(spec: Any) -> Any:
    try:
        return sealing.seal(spec)
    except SupervisorsError:
        raise
    except Exception as error:
        raise SpecError(f"the class or arguments of {getattr(spec, 'id', spec)!r} cannot be sent: {error}") from None


def _with_extra(started: Any) -> Any:
    """Open what a server's init gave for whoever started it."""
    return (started[0], wire.unpack(started[1], trusted=True)) if isinstance(started, tuple) else started
