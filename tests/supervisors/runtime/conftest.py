import contextlib
import os
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import transport_actors

from supervisors.runtime.thespian.system import System, start_system

KEY = bytes(range(32))


def until(check, seconds=20.0):
    """Poll until `check()` is truthy; return what it returned."""
    deadline = time.monotonic() + seconds
    while not (value := check()):
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)
    return value


def has_ended(process):
    """Whether a process is gone; one that only waits to be collected is."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def listens_at(process):
    return {c.laddr for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN}


@dataclass
class Running:
    """A system with a parent and its child."""

    host: str
    system: System
    pid_file: Path
    log: Path
    #: Where this process listened before, so every process that it has forked does: plugins of pytest have sockets.
    inherited: frozenset = frozenset()
    parent: Any = None

    def processes(self):
        pids = {int(line) for line in self.pid_file.read_text().split()}
        return [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]

    def listeners(self):
        return {process.pid: sorted(listens_at(process) - self.inherited) for process in self.processes()}

    def ask(self, address, message, seconds=20.0):
        self.system.tell(address, message)
        return self.system.listen(seconds)

    def round_trip(self):
        """Go from here to the parent, its child, and back; return how long it took."""
        start = time.monotonic()
        assert self.ask(self.parent, b"ping") == b"echo:ping"
        return time.monotonic() - start


@pytest.fixture(params=["127.0.0.1"])
def running(request, tmp_path, monkeypatch):
    """Start a system on the given address; end every process of it afterwards, whatever happened."""
    from supervisors.runtime.thespian import transport

    pid_file = tmp_path / "pids"
    pid_file.touch()

    def note_pid(_is_admin, _transport):
        with pid_file.open("a") as file:
            file.write(f"{os.getpid()}\n")

    monkeypatch.setenv("THESPLOG_FILE", str(tmp_path / "thesplog"))
    monkeypatch.setenv("SUPERVISORS_SECURITY_LOG", str(tmp_path / "security"))
    transport.on_transport_start.append(note_pid)
    system = None
    own = socket.create_server(("127.0.0.1", 0))
    inherited = frozenset(listens_at(psutil.Process()))
    try:
        system = start_system(request.param, 0, KEY)
        it = Running(request.param, system, pid_file, tmp_path / "security", inherited)
        it.parent = system.create_root(transport_actors.Parent)
        assert it.ask(it.parent, b"start") == b"echo:ready"
        yield it
    finally:
        own.close()
        transport.on_transport_start.remove(note_pid)
        pids = map(int, pid_file.read_text().split())
        processes = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
        if system is not None:
            with contextlib.suppress(Exception):
                system.shutdown()
        with contextlib.suppress(AssertionError):
            until(lambda: all(map(has_ended, processes)), 3)
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
