"""Node: start or attach to a host's node, and make calls into its tree from any thread of any program."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from supervisors.client import SLACK_SECONDS, DoorClient
from supervisors.errors import CallFailed, NodeDown, NoProcess, SpecError, SupervisorsError
from supervisors.reason import NOPROC, Down, ExitReason, Ref
from supervisors.runtime import sealing, wire
from supervisors.runtime.config import NodeConfig
from supervisors.runtime.keys import load_or_create_key
from supervisors.spec import ChildSpec, SupervisorSpec
from supervisors.views import ChildCounts, ChildInfo, Report

#: How long a node may take to come up or to go down.
START_SECONDS, STOP_SECONDS = 150.0, 150.0


class Monitor:
    """A watch on one process, from a program outside."""

    def __init__(self, client: DoorClient | None, number: int, ref: Ref | None) -> None:
        """Make it; `Node.monitor` does."""
        self._client = client
        self._number = number
        self.ref = ref
        self._done = threading.Event()
        self._down: Down | None = None

    def _arrived(self, down: Down) -> None:
        self._down = Down(down.ref or self.ref, down.reason)
        self._done.set()

    def wait(self, timeout: float | None = None) -> Down | None:
        """Return Down when the process has ended; None when `timeout` seconds are over first."""
        self._done.wait(timeout)
        return self._down

    def cancel(self) -> None:
        """Stop watching."""
        if self._client is not None and not self._done.is_set():
            self._client.forget_monitor(self._number)


class Node:
    """A node, as a program outside sees it. Thread-safe; many calls in flight at once.

    `Node.start()` starts one of its own, in a fresh interpreter, which is gone when this program ends, however it
    ends. `Node.attach()` joins the host's daemon. Both are context managers; `close` ends an own node and only
    disconnects from the daemon's.
    """

    def __init__(self, data_dir: Path, client: DoorClient, owned: subprocess.Popen[bytes] | None = None,
                 lifeline: int | None = None) -> None:
        """Use `start` or `attach` instead."""
        self.data_dir = data_dir
        self._client = client
        self._owned = owned
        self._lifeline = lifeline
        self._lock = threading.Lock()

    # --- coming and going -------------------------------------------------------------------------------------------

    @classmethod
    def start(cls, name: str | None = None, host: str = "127.0.0.1", port: int = 0,
              data_dir: str | os.PathLike[str] | None = None, **options: Any) -> Node:
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
        """
        temporary = data_dir is None
        folder = Path(tempfile.mkdtemp(prefix="node-") if data_dir is None else data_dir)
        config = NodeConfig(name=name or f"node-{os.getpid()}", data_dir=str(folder.absolute()), host=host, port=port,
                            temporary=temporary, **options)
        lifeline_read, lifeline_write = os.pipe()
        try:
            process, _ = launch(config, lifeline_read)
        except BaseException:
            os.close(lifeline_write)
            if temporary:
                with contextlib.suppress(OSError):
                    folder.rmdir()
            raise
        finally:
            os.close(lifeline_read)
        try:
            return cls(folder, _connect(folder), process, lifeline_write)
        except BaseException:
            os.close(lifeline_write)
            raise

    @classmethod
    def attach(cls, data_dir: str | os.PathLike[str] | None = None) -> Node:
        """Connect to the node that the host's daemon runs in `data_dir` (default: DSPEX_HOME or ~/.dspex).

        Raises:
            NodeDown: no node runs there.
        """
        folder = default_data_dir() if data_dir is None else Path(data_dir)
        return cls(folder, _connect(folder))

    def close(self) -> None:
        """Disconnect; an own node is stopped, children first, and gone when this returns."""
        self._client.close()
        with self._lock:
            process, self._owned = self._owned, None
        if process is not None:
            stop_process(process.pid)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
            assert self._lifeline is not None
            os.close(self._lifeline)

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
        return self._connected().request(operation, *arguments, wait=wait)

    def _connected(self) -> DoorClient:
        """Return a live connection: a door that was restarted, or a node that its daemon brought back, is dialled again."""
        client = self._client
        if not client.closed:
            return client
        with self._lock:
            if self._client.closed:
                self._client = _connect(self.data_dir)
            return self._client

    # --- calls ------------------------------------------------------------------------------------------------------

    def call(self, target: Ref | str, request: Any, timeout: float | None = 5.0) -> Any:
        """Ask a server and return its reply.

        Args:
            target: a Ref or a registered name.
            request: what its handle_call gets.
            timeout: seconds; None waits without end.

        Raises:
            CallTimeout, NoProcess, ServerExited, CallFailed, NodeDown: as their names say.
        """
        wait = None if timeout is None else timeout + SLACK_SECONDS
        return wire.unpack(self._request("call", target, _pack(request), timeout, wait=wait), trusted=True)

    async def acall(self, target: Ref | str, request: Any, timeout: float | None = 5.0) -> Any:
        """Do what `call` does, from an event loop."""
        client = self._connected()
        future = client.submit("call", target, _pack(request), timeout)
        try:
            return wire.unpack(await asyncio.wrap_future(future), trusted=True)
        except asyncio.CancelledError:
            client.abandon(future)
            raise

    def cast(self, target: Ref | str, message: Any) -> None:
        """Send a message and do not wait; to nobody is fine too."""
        self._connected().submit("cast", target, _pack(message))

    def stop(self, target: Ref | str, reason: Any = "normal", timeout: float | None = None) -> None:
        """End a server, or a supervisor with its children first; return when it is gone.

        Raises:
            NoProcess: nobody there.
            CallTimeout: it takes longer than `timeout` seconds; the stop goes on.
        """
        self._request("stop", target, ExitReason.of(reason), timeout)

    def whereis(self, name: str) -> Ref | None:
        """Return who is registered under a name."""
        return self._request("whereis", name)  # type: ignore[no-any-return]

    def pid(self, target: Ref | str) -> int | None:
        """Return the process id behind a ref or a name; None when there is none."""
        ref = self.whereis(target) if isinstance(target, str) else target
        return None if ref is None else ref.pid

    def monitor(self, target: Ref | str) -> Monitor:
        """Watch a process; in force when this returns."""
        client = self._connected()
        try:
            number, ref = client.request("monitor", target)
        except NoProcess:
            monitor = Monitor(None, 0, target if isinstance(target, Ref) else None)
            monitor._arrived(Down(monitor.ref, NOPROC))
            return monitor
        monitor = Monitor(client, number, ref)
        client.on_down(number, monitor._arrived)
        return monitor

    # --- supervisors ------------------------------------------------------------------------------------------------

    def start_supervisor(self, spec: SupervisorSpec) -> Ref:
        """Start a supervisor under the node's root; return when every child's init has returned.

        It is a temporary child: the node does not restart it when it ends.

        Raises:
            StartError: a child did not start; those before it have been stopped again.
            AlreadyStarted: a name is taken.
        """
        if not isinstance(spec, SupervisorSpec):
            raise SpecError(f"start_supervisor got {spec!r}: expected a SupervisorSpec")
        return self._request("start_supervisor", _seal(spec))  # type: ignore[no-any-return]

    def start_child(self, supervisor: Ref | str, spec: ChildSpec | tuple[Any, ...] | list[Any]) -> Ref | None:
        """Start a child; under simple_one_for_one give a tuple of arguments, added to the template's.

        Returns:
            Its ref, or None where init returned IGNORE.

        Raises:
            StartError, AlreadyStarted, AlreadyPresent, SpecError: as their names say.
        """
        if isinstance(spec, tuple | list):
            argument: Any = (sealing.seal_args(tuple(spec)),)
        elif isinstance(spec, ChildSpec):
            argument = _seal(spec)
        else:
            raise SpecError(f"start_child got {spec!r}: expected a ChildSpec (or, under simple_one_for_one, a tuple)")
        return self._supervisor(supervisor, "start_child", argument)  # type: ignore[no-any-return]

    def restart_child(self, supervisor: Ref | str, child: str) -> Ref | None:
        """Start a child that is stopped."""
        return self._supervisor(supervisor, "restart_child", child)  # type: ignore[no-any-return]

    def terminate_child(self, supervisor: Ref | str, child: str | Ref) -> None:
        """Stop a child; its spec is kept (a temporary one's is not)."""
        self._supervisor(supervisor, "terminate_child", child)

    def delete_child(self, supervisor: Ref | str, child: str) -> None:
        """Forget a child that is stopped."""
        self._supervisor(supervisor, "delete_child", child)

    def get_childspec(self, supervisor: Ref | str, child: str | Ref) -> ChildSpec:
        """Return a child's spec with its defaults filled in."""
        return sealing.unseal(self._supervisor(supervisor, "get_childspec", child))

    def which_children(self, supervisor: Ref | str) -> list[ChildInfo]:
        """Return a row per child, newest first."""
        return self._supervisor(supervisor, "which_children", None)  # type: ignore[no-any-return]

    def count_children(self, supervisor: Ref | str) -> ChildCounts:
        """Return how many specs, live children, supervisors and workers there are."""
        return self._supervisor(supervisor, "count_children", None)  # type: ignore[no-any-return]

    def _supervisor(self, supervisor: Ref | str, name: str, argument: Any) -> Any:
        return self._request("supervisor", supervisor, name, argument)

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

    def names(self) -> dict[str, Ref]:
        """Return all registered names."""
        return self._request("names", wait=10.0)  # type: ignore[no-any-return]


# --- helpers --------------------------------------------------------------------------------------------------------


def default_data_dir() -> Path:
    """Return DSPEX_HOME, or ~/.dspex."""
    return Path(os.environ.get("DSPEX_HOME") or Path.home() / ".dspex")


def launch(config: NodeConfig, lifeline: int | None = None) -> tuple[subprocess.Popen[bytes], dict[str, Any]]:
    """Start a daemon in a fresh interpreter and wait until its node is up.

    Args:
        config: what it is started with.
        lifeline: read end of a pipe; the daemon ends its node when the other end is closed. None: it stays.

    Returns:
        The process, and what it said: address and pid.

    Raises:
        NodeDown: it did not come up; `running` is in the message when one runs there already.
    """
    folder = Path(config.data_dir)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / "run").mkdir(mode=0o700, exist_ok=True)
        file = folder / "run" / f"config-{os.getpid()}-{threading.get_ident()}.json"
        file.write_text(config.to_json())
    except OSError as error:
        raise NodeDown(f"cannot write to {folder}: {error.strerror}; choose another data folder (DSPEX_HOME)") from None
    ready_read, ready_write = os.pipe()
    fds = [ready_write, *([lifeline] if lifeline is not None else [])]
    try:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", "supervisors.runtime.daemon", str(file), str(ready_write), str(-1 if lifeline is None else lifeline)],
            pass_fds=fds, stdin=subprocess.DEVNULL, start_new_session=not config.foreground,
            stdout=None if config.foreground else subprocess.DEVNULL, stderr=None,
        )
        os.close(ready_write)
        said = _read_line(ready_read, START_SECONDS)
    finally:
        os.close(ready_read)
        with contextlib.suppress(FileNotFoundError):
            file.unlink()
    if said is None or "error" in said:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        if said is None:
            process.kill()
            raise NodeDown(f"the node in {folder} did not come up; see {folder / 'logs'}")
        if said.get("running"):
            raise NodeDown(f"a node runs in {folder} already")
        raise NodeDown(str(said["error"]))
    return process, said


def _read_line(fd: int, seconds: float) -> dict[str, Any] | None:
    deadline = time.monotonic() + seconds
    data = b""
    while not data.endswith(b"\n"):
        if not select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return None
        piece = os.read(fd, 65536)
        if not piece:
            return None
        data += piece
    return json.loads(data)  # type: ignore[no-any-return]


def stop_process(pid: int, now: bool = False) -> None:
    """Ask a daemon to stop its node, in order or at once."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGUSR1 if now else signal.SIGTERM)


def read_node_file(folder: Path) -> dict[str, Any]:
    """Return what the daemon of a data folder wrote about its node.

    Raises:
        NodeDown: no node runs there.
    """
    try:
        return json.loads((folder / "node.json").read_text())  # type: ignore[no-any-return]
    except FileNotFoundError:
        raise NodeDown(f"no node runs in {folder}: start one with `dspex start`") from None
    except (OSError, ValueError) as error:
        raise NodeDown(f"{folder / 'node.json'} cannot be read ({error}); run `dspex doctor`") from None


def _connect(folder: Path) -> DoorClient:
    """Dial the node of a folder; a node that is being brought back is waited for."""
    deadline = time.monotonic() + 5.0
    while True:
        node = read_node_file(folder)
        host, _, port = node["address"].rpartition(":")
        try:
            return DoorClient(host, int(port), load_or_create_key(folder))
        except NodeDown:
            if time.monotonic() > deadline or not _alive(node["pid"]):
                raise NodeDown(f"the node in {folder} does not answer: run `dspex doctor`") from None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _pack(request: Any) -> bytes:
    try:
        return wire.pack(request)
    except SupervisorsError:
        raise
    except Exception as error:
        raise CallFailed(f"the request cannot be sent: {error}") from None


def _seal(spec: Any) -> Any:
    try:
        return sealing.seal(spec)
    except SupervisorsError:
        raise
    except Exception as error:
        raise SpecError(f"the class or arguments of {getattr(spec, 'id', spec)!r} cannot be sent: {error}") from None
