"""Node: start or attach to a host's node, and make calls into its tree from any thread of any program."""
# ruff: noqa: ASYNC109 - `timeout` is the name of the contract

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from supervisors.client import SLACK_SECONDS, DoorClient, KeyRefused
from supervisors.errors import CallTimeout, NodeDown, NoProcess, SpecError, SupervisorsError
from supervisors.reason import NOPROC, Down, ExitReason, Ref
from supervisors.runtime import fate, sealing, wire
from supervisors.runtime.config import NodeConfig
from supervisors.runtime.keys import KEY_FILE, KeyFileError, load_or_create_key
from supervisors.spec import ChildSpec, SupervisorSpec
from supervisors.views import ChildCounts, ChildInfo, ProcessStats, Report

#: How long a node that does not answer is tried again, how often, and how many refusals are no accident.
CONNECT_SECONDS, PAUSE_SECONDS, MAX_REFUSALS = 5.0, 0.1, 4
#: How long a node may take to come up or to go down.
START_SECONDS, STOP_SECONDS = 150.0, 150.0


class Monitor:
    """A watch on one process, from a program outside. `ref`: the process, None where there was none."""

    def __init__(self, client: DoorClient, target: Ref | str) -> None:
        """Make it; `Node.monitor` does."""
        self.ref = target if isinstance(target, Ref) else None
        self._client, self._target = client, target
        self._number = 0
        self._ended = threading.Event()
        self._down: Down | None = None

    def begin(self) -> None:
        """Watch from now on."""
        try:
            self._number, self.ref = self._client.watch(self._target, self._arrived)
        except NoProcess:
            self._arrived(Down(self.ref, NOPROC))

    def _arrived(self, down: Down) -> None:
        self._down = down
        self._ended.set()

    def wait(self, timeout: float | None = None) -> Down | None:
        """Return Down when the process has ended; None when `timeout` seconds are over first."""
        self._ended.wait(timeout)
        if self._down is None:
            return None
        return Down(self._down.ref or self.ref, self._down.reason)

    def cancel(self) -> None:
        """Stop watching."""
        if not self._ended.is_set():
            self._client.forget_monitor(self._number)


class Node:
    """A node, as a program outside sees it. Thread-safe; many calls in flight at once.

    `Node.start()` starts one of its own, in a fresh interpreter, which is gone when this program ends, however it
    ends. `Node.attach()` joins the host's daemon. Both are context managers; `close` ends an own node and only
    disconnects from the daemon's.
    """

    def __init__(
        self,
        data_dir: Path,
        client: DoorClient,
        owned: subprocess.Popen[bytes] | None = None,
        lifeline: int | None = None,
        temporary: bool = False,
    ) -> None:
        """Use `start` or `attach` instead."""
        self.data_dir = data_dir
        self._client = client
        self._owned = owned
        self._lifeline = lifeline
        self._temporary = temporary
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
        temporary = data_dir is None
        config = NodeConfig(
            name=name or f"node-{os.getpid()}",
            data_dir=str(Path(data_dir or ".").absolute()),
            host=host,
            port=port,
            temporary=temporary,
            **options,
        )
        if temporary:
            config.data_dir = tempfile.mkdtemp(prefix="node-")
        folder = Path(config.data_dir)
        lifeline_read, lifeline_write = os.pipe()
        try:
            process, _ = launch(config, lifeline_read)
        except BaseException:
            os.close(lifeline_write)
            if temporary:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            os.close(lifeline_read)
        try:
            return cls(folder, _connect(folder), process, lifeline_write, temporary)
        except BaseException:
            os.close(lifeline_write)
            process.wait()
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
        with self._lock:
            self._closed = True
            process, self._owned = self._owned, None
        self._client.close()
        if process is None:
            return
        stop_process(process.pid)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert self._lifeline is not None
        os.close(self._lifeline)
        if self._temporary:  # the daemon removes it too, unless it was killed
            shutil.rmtree(self.data_dir, ignore_errors=True)

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
        return wire.unpack(
            self._request("call", target, wire.pack_value(request, "request"), timeout, wait=wait), trusted=True
        )

    async def acall(self, target: Ref | str, request: Any, timeout: float | None = 5.0) -> Any:
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

    def cast(self, target: Ref | str, message: Any) -> None:
        """Send a message and do not wait; to nobody is fine too."""
        self._submit("cast", target, wire.pack_value(message, "message"))

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
        monitor = Monitor(self._connected(), target)
        monitor.begin()
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

    def stats(self) -> dict[int, ProcessStats]:
        """Return pid → what each process has counted of itself; also of one that is stuck in a handler."""
        return {row[0]: ProcessStats(*row) for row in self._request("stats", wait=10.0)}

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
            [
                sys.executable,
                "-m",
                "supervisors.runtime.daemon",
                str(file),
                str(ready_write),
                str(-1 if lifeline is None else lifeline),
            ],
            pass_fds=fds,
            stdin=subprocess.DEVNULL,
            start_new_session=not config.foreground,
            stdout=None if config.foreground else subprocess.DEVNULL,
            stderr=None,
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
            raise NodeDown(f"a node runs in {folder} already: Node.attach({str(folder)!r}) joins it")
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
    deadline = time.monotonic() + CONNECT_SECONDS
    refusals = 0
    while True:
        node = read_node_file(folder)
        host, _, port = node["address"].rpartition(":")
        key = _read_key(folder)
        try:
            return DoorClient(host, int(port), key)
        except KeyRefused:
            refusals += 1
            if refusals >= MAX_REFUSALS:
                raise
        except NodeDown as error:
            if time.monotonic() > deadline or not _alive(node["pid"]):
                raise NodeDown(f"{error.message}; data folder {folder}: run `dspex doctor`") from None
        time.sleep(PAUSE_SECONDS)


def _read_key(folder: Path) -> bytes:
    try:
        if not (folder / KEY_FILE).exists():
            raise NodeDown(f"{folder} has no {KEY_FILE}: copy the key of the node that runs there")
        return load_or_create_key(folder)
    except (KeyFileError, OSError) as error:
        raise NodeDown(str(error)) from None


def _alive(pid: int) -> bool:
    # One that waits to be collected (in a container often for ever) is not alive.
    return not fate.has_ended(pid, 0)


def _seal(spec: Any) -> Any:
    try:
        return sealing.seal(spec)
    except SupervisorsError:
        raise
    except Exception as error:
        raise SpecError(f"the class or arguments of {getattr(spec, 'id', spec)!r} cannot be sent: {error}") from None
