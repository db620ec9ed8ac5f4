"""Node: start or attach to a host's node, and make calls into its tree from any thread of any program."""
# ruff: noqa: ASYNC109 - `timeout` is the name of the contract

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from supervisors.application.application import Application, ApplicationInfo
from supervisors.application.handle import ensure_all_started, start_application, stop_application, which_applications
from supervisors.client.door_client import SLACK_SECONDS, DoorClient
from supervisors.client.home import HOME, Home
from supervisors.client.launch import launch, read_node_file, stop_process
from supervisors.client.link import Link
from supervisors.client.monitor import Monitor
from supervisors.client.own_node import OwnNode
from supervisors.client.requests import Request
from supervisors.host.node_config import NodeConfig
from supervisors.pool.spec import PoolSpec
from supervisors.terms.checks import (
    Target,
    check_address,
    check_child,
    check_count,
    check_keywords,
    check_name,
    check_target,
    check_timeout,
)
from supervisors.terms.errors import CallTimeout, NodeDown, SpecError
from supervisors.terms.reason import ExitReason, exit_reason
from supervisors.terms.ref import Ref
from supervisors.terms.spec import ChildSpec, SupervisorSpec
from supervisors.terms.via import Via
from supervisors.terms.views import ChildCounts, ChildInfo, ProcessStats, Report
from supervisors.wire import door_protocol as protocol
from supervisors.wire import values
from supervisors.wire.envelope import pack_sent
from supervisors.wire.pickles import seal_spec, seal_start, unseal

__all__ = ["Monitor", "Node", "launch", "read_node_file", "stop_process"]


class Node(Link):
    """A node, as a program outside sees it. It is thread-safe; many calls may be in flight at once.

    `Node.start()` starts one of its own, in a fresh interpreter, which is gone when this program ends, however it
    ends. `Node.attach()` joins the host's daemon. Both are context managers; `close` ends an own node and only
    disconnects from the daemon's.
    """

    # --- coming and going -------------------------------------------------------------------------------------------

    @classmethod
    def start(
        cls,
        name: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        data_dir: str | bytes | os.PathLike[str] | None = None,
        home: Home = HOME,
        **options: Any,
    ) -> Node:
        """Start a node of this program's own and connect to it.

        A fresh interpreter is launched: this process is never forked, whatever threads it has.

        Args:
            name: the node's name; default: made of this process's id.
            host: address that everything of the node binds to.
            port: of its door; 0 picks a free one.
            data_dir: its folder; None: a temporary one that goes with the node.
            home: for the words of messages.
            **options: further fields of NodeConfig (app, app_config, preload, level, join, role, labels).

        Raises:
            NodeDown: it did not come up; the message says why and what to do.
            SpecError: an argument is not legal; the message says what is.
        """
        check_keywords("Node.start", options, ("app", "app_config", "preload", "level", "join", "role", "labels"))
        config = NodeConfig(
            name=name or f"node-{os.getpid()}",
            data_dir="" if data_dir is None else _folder(data_dir),
            host=host,
            port=port,
            temporary=data_dir is None,
            **options,
        )
        own = OwnNode(config, home)
        try:
            return cls(own.folder, own, home)
        except BaseException:
            own.abandon()
            raise

    @classmethod
    def attach(
        cls, data_dir: str | bytes | os.PathLike[str] | None = None, home: Home = HOME, at: str | None = None
    ) -> Node:
        """Connect to the node that the host's daemon runs.

        Args:
            data_dir: its folder; None: that of `home`.
            home: the default folder (SUPERVISORS_HOME, or ~/.supervisors), and the words of messages.
            at: "host:port" of another node of its cluster: that one instead, with the folder's key.

        Raises:
            NodeDown: no node runs there.
            SpecError: `at` is no address.
        """
        folder = home.folder() if data_dir is None else Path(_folder(data_dir))
        return cls(folder, home=home, at=None if at is None else check_address("at", at))

    # --- calls ------------------------------------------------------------------------------------------------------

    def call(self, target: Target, request: Any, timeout: float | None = 5.0) -> Any:
        """Ask a server and return its reply.

        Args:
            target: a Ref or a registered name.
            request: what its handle_call gets.
            timeout: seconds; None waits without end.

        Raises:
            CallTimeout, NoProcess, ServerExited, CallFailed, NodeDown: as their names say.
            SpecError: `target` is no process, or `timeout` no number of seconds; nothing was sent.
        """
        check_target(target)
        timeout = check_timeout(timeout)
        wait = None if timeout is None else timeout + SLACK_SECONDS
        return values.open_value(
            self.request(protocol.CALL, target, pack_sent(request, "request"), timeout, wait=wait), "reply"
        )

    async def acall(self, target: Target, request: Any, timeout: float | None = 5.0) -> Any:
        """Do what `call` does, from an event loop."""
        check_target(target)
        timeout = check_timeout(timeout)
        packed = pack_sent(request, "request")
        under_way: tuple[DoorClient, Future[Any]] | None = None
        try:
            async with asyncio.timeout(None if timeout is None else timeout + SLACK_SECONDS):
                under_way = client, future = await self.submit_async(protocol.CALL, target, packed, timeout)
                reply = await asyncio.wrap_future(future)
        except (TimeoutError, asyncio.CancelledError) as error:
            if under_way is not None:
                client.abandon(future)
            if isinstance(error, TimeoutError):
                raise CallTimeout(f"no answer from the node within {timeout} s") from None
            raise
        return values.open_value(reply, "reply")

    def send_request(self, target: Target, request: Any) -> Request:
        """Ask a server and wait for the reply later: by itself, or in a RequestIds with others.

        Raises:
            CallFailed, NodeDown: it could not be sent; all other errors come with the response.
        """
        check_target(target)
        return Request(*self.submit(protocol.CALL, target, pack_sent(request, "request"), None))

    def cast(self, target: Target, message: Any) -> None:
        """Send a message to a server's handle_cast and do not wait. If there is no such process, nothing happens."""
        check_target(target)
        self.tell(protocol.CAST, target, pack_sent(message, "message"))

    def send(self, target: Target, message: Any) -> None:
        """Send a message to a server's handle_info and do not wait. If there is no such process, nothing happens."""
        check_target(target)
        self.tell(protocol.SEND, target, pack_sent(message, "message"))

    def exit(self, target: Target, reason: Any) -> None:
        """Send an exit signal: "kill" ends it at once; others end it without terminate, unless it traps exits.

        "normal" does nothing to a server that does not trap exits, and a supervisor heeds no signal but "kill". To end
        either in order is what `stop` does.

        Raises:
            NoProcess: nobody is registered under that name.
        """
        check_target(target)
        self.request(protocol.EXIT, target, exit_reason(reason))

    def stop(self, target: Target, reason: Any = "normal", timeout: float | None = None) -> None:
        """End a server, or a supervisor with its children first; return when it is gone.

        Raises:
            NoProcess: nobody there.
            CallTimeout: it takes longer than `timeout` seconds; the stop goes on.
            SpecError: `timeout` is no number of seconds; nothing was stopped.
        """
        check_target(target)
        timeout = check_timeout(timeout)
        self.request(protocol.STOP, target, ExitReason.of(reason), timeout)

    def whereis(self, name: str | Via) -> Ref | None:
        """Return the process that is registered under a name, or None.

        Raises:
            NoProcess: the server that resolves a Via does not run.
            SpecError: `name` is neither a non-empty text nor a Via.
        """
        check_name(name, optional=False)
        return self.request(protocol.WHEREIS, name)  # type: ignore[no-any-return]

    def pid(self, target: Target) -> int | None:
        """Return the process id of a process; None when nobody has this name."""
        check_target(target)
        ref = target if isinstance(target, Ref) else self.whereis(target)
        return None if ref is None else ref.pid

    def monitor(self, target: Target) -> Monitor:
        """Watch a process; in force when this returns."""
        check_target(target)
        monitor = Monitor(target)
        self.watch(monitor)
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
            raise SpecError.of("spec", spec, "a SupervisorSpec or a PoolSpec")
        return self.request(protocol.START_SUPERVISOR, seal_spec(spec))  # type: ignore[no-any-return]

    def start_child(self, supervisor: Target, spec: ChildSpec | tuple[Any, ...] | list[Any]) -> Any:
        """Start a child; under simple_one_for_one give a tuple of arguments, added to the template's.

        Returns:
            Its ref; None where init returned IGNORE; (ref, value) where it returned Extra(value).

        Raises:
            StartError, AlreadyStarted, AlreadyPresent, SpecError: as their names say.
        """
        return values.with_extra(self.supervise(supervisor, "start_child", seal_start(spec)))

    def restart_child(self, supervisor: Target, child: str) -> Any:
        """Start a child that is stopped, and no other one, whatever the strategy; return what `start_child` returns."""
        return values.with_extra(self.supervise(supervisor, "restart_child", check_child(child)))

    def terminate_child(self, supervisor: Target, child: str | Ref) -> None:
        """Stop a child; its spec is kept (a temporary one's is not)."""
        self.supervise(supervisor, "terminate_child", check_child(child))

    def delete_child(self, supervisor: Target, child: str) -> None:
        """Forget a child that is stopped."""
        self.supervise(supervisor, "delete_child", check_child(child))

    def get_childspec(self, supervisor: Target, child: str | Ref) -> ChildSpec:
        """Return a child's spec with its defaults filled in."""
        return unseal(self.supervise(supervisor, "get_childspec", check_child(child)))

    def which_children(self, supervisor: Target) -> list[ChildInfo]:
        """Return a row per child, newest first."""
        return self.supervise(supervisor, "which_children", None)  # type: ignore[no-any-return]

    def which_child(self, supervisor: Target, child: str | Ref) -> ChildInfo:
        """Return the row of one child: by its id, under simple_one_for_one by its ref.

        Raises:
            ChildNotFound, NotAllowed: as their names say.
        """
        return self.supervise(supervisor, "which_child", check_child(child))  # type: ignore[no-any-return]

    def count_children(self, supervisor: Target) -> ChildCounts:
        """Return how many specs, live children, supervisors and workers there are."""
        return self.supervise(supervisor, "count_children", None)  # type: ignore[no-any-return]

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

    def get_state(self, target: Target, timeout: float | None = 5.0) -> dict[str, Any]:
        """Return a server's attributes as a dict; an attribute that cannot be sent (a lock, a socket) as its repr.

        This is for debugging. As all questions below, it is answered between two messages, in its turn.

        Raises:
            CallTimeout, NoProcess, ServerExited: as for `call`.
        """
        return self._system(target, "get_state", None, timeout)  # type: ignore[no-any-return]

    def replace_state(
        self, target: Target, function: Callable[[dict[str, Any]], dict[str, Any]], timeout: float | None = 5.0
    ) -> dict[str, Any]:
        """Put `function(attributes)` in the place of a server's attributes; return them.

        Raises:
            CallFailed: the function raised, or returned no dict of attributes; the state is what it was.
            CallTimeout, NoProcess, ServerExited: as for `call`.
        """
        return self._system(target, "replace_state", function, timeout)  # type: ignore[no-any-return]

    def ping(self, target: Target, timeout: float | None = 5.0) -> None:
        """Return when a server has answered that it is there; its handlers are not asked.

        Raises:
            CallTimeout, NoProcess, ServerExited: as for `call`.
        """
        self._system(target, "ping", None, timeout)

    def get_status(self, target: Target, timeout: float | None = 5.0) -> dict[str, Any]:
        """Return name, class, status (running, suspended), mailbox, links; and state, as `format_status` shows it."""
        return self._system(target, "get_status", None, timeout)  # type: ignore[no-any-return]

    def suspend(self, target: Target, timeout: float | None = 5.0) -> None:
        """Have a server leave its messages where they are, until `resume`; it can still be inspected and stopped."""
        self._system(target, "suspend", None, timeout)

    def resume(self, target: Target, timeout: float | None = 5.0) -> None:
        """Have a suspended server go on."""
        self._system(target, "resume", None, timeout)

    def _system(self, target: Target, name: str, argument: Any, timeout: float | None) -> Any:
        check_target(target)
        timeout = check_timeout(timeout)
        wait = None if timeout is None else timeout + SLACK_SECONDS
        packed = values.pack_value(argument, "argument")
        return values.open_value(self.request(protocol.SYSTEM, target, name, packed, timeout, wait=wait), "answer")

    # --- seeing -----------------------------------------------------------------------------------------------------

    def reports(self, limit: int = 1000) -> list[Report]:
        """Return what supervisors reported, oldest first."""
        check_count("limit", limit)
        return self.request(protocol.REPORTS, limit)  # type: ignore[no-any-return]

    def tree(self) -> dict[str, Any]:
        """Return the supervision tree as nested dicts: id, name, type, state, pid, restarts, children."""
        return self.request(protocol.TREE, wait=10.0)  # type: ignore[no-any-return]

    def status(self) -> dict[str, Any]:
        """Return name, state, address, pid, uptime in seconds, version, processes and restarts."""
        return self.request(protocol.STATUS, wait=10.0)  # type: ignore[no-any-return]

    def stats(self) -> dict[int, ProcessStats]:
        """Return what each process has counted of itself, by pid; also of a process that is stuck in a handler."""
        return {row[0]: ProcessStats(*row) for row in self.request(protocol.STATS, wait=10.0)}

    def names(self) -> dict[str, Ref]:
        """Return all registered names."""
        return self.request(protocol.NAMES, wait=10.0)  # type: ignore[no-any-return]


def _folder(data_dir: str | bytes | os.PathLike[str]) -> str:
    """Return a data folder as an absolute path: a program may change its working folder."""
    try:
        return os.path.abspath(os.fsdecode(data_dir))
    except TypeError:
        raise SpecError.of("data_dir", data_dir, "a path") from None
    except FileNotFoundError:
        raise NodeDown(f"the working folder is gone: data_dir={data_dir!r} cannot be relative to it") from None
