"""A node's daemon from outside: launch it, find it, dial it, ask it to stop.

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
import sys
import threading
import time
from pathlib import Path
from typing import Any

from supervisors.client.door_client import DoorClient, KeyRefused
from supervisors.client.home import Home
from supervisors.host import processes as fate
from supervisors.host.node_config import NodeConfig
from supervisors.terms.errors import NodeDown
from supervisors.wire.clock import Clock
from supervisors.wire.keys import KEY_FILE, KeyFileError, load_or_create_key

#: What a daemon is started as: `python -m` this.
DAEMON_MODULE = "supervisors.runtime.node"
#: How long a node that does not answer is tried again, how often, and how many refusals are no accident.
CONNECT_SECONDS, PAUSE_SECONDS, MAX_REFUSALS = 5.0, 0.1, 4
#: How long a node may take to come up.
START_SECONDS = 150.0
#: For programs that bring no commands of their own.
HOME = Home()


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
    folder = Path(config.data_dir)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / "run").mkdir(mode=0o700, exist_ok=True)
        file = folder / "run" / f"config-{os.getpid()}-{threading.get_ident()}.json"
        file.write_text(config.to_json())
    except OSError as error:
        what = f"cannot write to {folder}: {error.strerror}; choose another data folder ({home.variable})"
        raise NodeDown(what) from None
    ready_read, ready_write = os.pipe()
    fds = [ready_write, *([lifeline] if lifeline is not None else [])]
    try:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [
                sys.executable,
                "-m",
                DAEMON_MODULE,
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


def read_node_file(folder: Path, home: Home = HOME) -> dict[str, Any]:
    """Return what the daemon of a data folder wrote about its node.

    Raises:
        NodeDown: no node runs there.
    """
    try:
        return json.loads((folder / "node.json").read_text())  # type: ignore[no-any-return]
    except FileNotFoundError:
        raise NodeDown(f"no node runs in {folder}: {home.start}") from None
    except (OSError, ValueError) as error:
        raise NodeDown(f"{folder / 'node.json'} cannot be read ({error}); {home.repair}") from None


def node_runs(folder: Path) -> bool:
    """Tell whether a node runs over a data folder: its daemon holds the folder's lock as long as it lives."""
    try:
        fd = os.open(folder / "run" / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def connect(folder: Path, home: Home = HOME) -> DoorClient:
    """Dial the node of a folder; a node that is being brought back is waited for."""
    deadline = time.monotonic() + CONNECT_SECONDS
    refusals = 0
    while True:
        node = read_node_file(folder, home)
        host, _, port = node["address"].rpartition(":")
        key = _read_key(folder)
        try:
            return DoorClient(host, int(port), key, Clock(node.get("clock")))
        except KeyRefused:
            refusals += 1
            if refusals >= MAX_REFUSALS:
                raise
        except NodeDown as error:
            if time.monotonic() > deadline or not _alive(node["pid"]):
                raise NodeDown(f"{error.message}; data folder {folder}: {home.repair}") from None
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
