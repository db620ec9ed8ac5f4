"""A node's daemon from outside: launch it, find it, ask it to stop. `dial` talks to it.

Public: programs on top of supervisors may import it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from supervisors.client.home import HOME, Home
from supervisors.client.interpreter import command, module_places, working_folder
from supervisors.host.node_config import NodeConfig
from supervisors.host.streams import is_open, pipe_above_streams
from supervisors.terms.errors import NodeDown
from supervisors.wire import origin

#: How long a node may take to come up.
START_SECONDS = 150.0


def launch(
    config: NodeConfig, lifeline: int | None = None, home: Home = HOME
) -> tuple[subprocess.Popen[bytes], dict[str, Any]]:
    """Start a daemon in a fresh interpreter and wait until its node is up.

    Args:
        config: what it is started with.
        lifeline: read end of a pipe; the daemon ends its node when the other end is closed. None: it stays.
        home: names the variable of the data folder, for a message.

    Returns:
        The process, and what it said: address and pid.

    Raises:
        NodeDown: it did not come up; `running` is in the message when one runs there already.
    """
    folder = Path(os.path.abspath(config.data_dir))
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / "run").mkdir(mode=0o700, exist_ok=True)
        file = folder / "run" / f"config-{os.getpid()}-{threading.get_ident()}.json"
        _write_private(file, json.dumps({"config": asdict(config) | {"data_dir": str(folder)}} | module_places()))
    except OSError as error:
        what = f"cannot write to {folder}: {error.strerror}; choose another data folder ({home.variable})"
        raise NodeDown(what) from None
    ready, ready_write = pipe_above_streams()
    try:
        process = _popen(config, file, ready_write, lifeline)
        try:
            origin.look_at_modules()  # what is to be known for the first value that is sent, while the daemon begins
            said = _read_line(ready, START_SECONDS)
        except BaseException:  # Ctrl-C: nobody would know of a node that comes up after all
            stop_process(process.pid, now=True)
            raise
    finally:
        os.close(ready)
        with contextlib.suppress(OSError):
            file.unlink()
    if said is None or "error" in said:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        if said is None:
            process.kill()
            process.wait()
            raise NodeDown(f"the node in {folder} did not come up; see {folder / 'logs'}")
        if said.get("running"):
            raise NodeDown(f"a node runs in {folder} already: Node.attach({str(folder)!r}) joins it")
        raise NodeDown(str(said["error"]))
    return process, said


def _popen(config: NodeConfig, file: Path, ready: int, lifeline: int | None) -> subprocess.Popen[bytes]:
    """Start the daemon; `ready`, a descriptor that it gets, is closed here."""
    here = working_folder()
    try:
        return subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command(str(file), str(ready), str(-1 if lifeline is None else lifeline)),
            pass_fds=[ready, *([lifeline] if lifeline is not None else [])],
            stdin=subprocess.DEVNULL,
            stdout=None if config.foreground and is_open(1) else subprocess.DEVNULL,
            stderr=None if is_open(2) else subprocess.DEVNULL,
            start_new_session=not config.foreground,
            cwd=None if here is not None and os.access(here, os.X_OK) else "/",
        )
    except OSError as error:
        raise NodeDown(f"an interpreter for the node cannot be started: {error}") from None
    finally:
        os.close(ready)


def _write_private(file: Path, text: str) -> None:
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as out:
        out.write(text)


def _read_line(fd: int, seconds: float) -> dict[str, Any] | None:
    deadline = time.monotonic() + seconds
    poller = select.poll()  # select knows only the first 1,024 files of a program
    poller.register(fd, select.POLLIN)
    data = b""
    while not data.endswith(b"\n"):
        if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
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


def read_node_file(folder: Path, home: Home = HOME) -> dict[str, Any]:
    """Return what the daemon of a data folder wrote about its node.

    Raises:
        NodeDown: no node runs there, or the file is not what a daemon writes.
    """
    file = folder / "node.json"
    try:
        node: Any = json.loads(file.read_text())
    except FileNotFoundError:
        if node_runs(folder):
            what = f"a node runs in {folder}, but its node.json is gone; it writes a new one within seconds: try again"
            raise NodeDown(what) from None
        raise NodeDown(f"no node runs in {folder}: {home.start}") from None
    except (OSError, ValueError) as error:
        raise NodeDown(f"{file} cannot be read ({error}); {home.repair}") from None
    match node:
        case {"address": str(address), "pid": int(pid)} if pid > 0 and address.rpartition(":")[2].isdecimal():
            return dict(node)
    raise NodeDown(f"{file} is invalid: got {node!r:.100}, expected what a daemon writes about its node; {home.repair}")


def node_runs(folder: Path) -> bool:
    """Tell whether a node runs over a data folder: its daemon holds the folder's lock as long as it lives."""
    return is_locked(folder / "run" / "lock")


def is_stopping(folder: Path) -> bool:
    """Tell whether the node of a data folder is being stopped."""
    try:
        return bool(node_runs(folder) and read_node_file(folder).get("stopping"))
    except NodeDown:
        return False


def is_locked(file: Path) -> bool:
    """Tell whether a process that lives holds the lock of a file."""
    try:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
