"""Processes of a node: which there are, what they use, and which were left behind.

Every process of a node is a fork of its daemon and keeps the daemon's command line, with a file of the data folder
in it: that tells ours from anybody else's, also after the daemon is gone.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from supervisors.client.launch import read_node_file
from supervisors.errors import NodeDown
from supervisors.host import processes

_LINUX = sys.platform.startswith("linux")
_DAEMON = "supervisors.runtime.node"


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process uses.

    Args:
        memory: bytes. Where `proportional`: its share of what it shares with others, too (PSS), so that the figures
            of a node's processes add up; else all that it has mapped (RSS).
        cpu: seconds of CPU since its start.
        uptime: seconds since its start.
        proportional: which of the two `memory` is.
    """

    memory: int
    cpu: float
    uptime: float
    proportional: bool


def usage(pid: int | None) -> Usage | None:
    """Return what a process uses; None where it is gone or that cannot be known."""
    if pid is None or not _LINUX:
        return None
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        fields = stat[stat.rindex(")") + 2 :].split()
        second = os.sysconf("SC_CLK_TCK")
        cpu = (int(fields[11]) + int(fields[12])) / second
        uptime = max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / second)
        share = _share(pid)
        memory = int(fields[21]) * os.sysconf("SC_PAGE_SIZE") if share is None else share
    except (OSError, IndexError, ValueError):
        return None
    return Usage(memory, cpu, uptime, share is not None)


def _share(pid: int) -> int | None:
    """Return a process's PSS in bytes; None where the kernel does not tell."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except (OSError, IndexError, ValueError):
        pass
    return None


def command_lines() -> dict[int, list[str]]:
    """Return pid → command line of all processes that this user can see."""
    found: dict[int, list[str]] = {}
    if _LINUX:
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                    found[int(entry.name)] = [os.fsdecode(word) for word in words]
        return found
    listed = subprocess.run(["/bin/ps", "-axo", "pid=,command="], capture_output=True, text=True, check=False)
    for line in listed.stdout.splitlines():
        pid, _, command = line.strip().partition(" ")
        if pid.isdigit():
            found[int(pid)] = command.split()
    return found


def of_folder(folder: Path) -> list[int]:
    """Return the processes of the node of a data folder, its daemon included, whether or not that lives."""
    start = f"{folder.absolute() / 'run'}{os.sep}config-"
    return [
        pid
        for pid, words in command_lines().items()
        if _DAEMON in words and any(word.startswith(start) for word in words) and not _is_zombie(pid)
    ]


def daemon_of(folder: Path) -> int | None:
    """Return the pid of the daemon that `node.json` names, if it lives and is one; None if not."""
    try:
        pid = int(read_node_file(folder)["pid"])
    except (NodeDown, KeyError, TypeError, ValueError):
        return None
    return pid if pid in of_folder(folder) else None


def _is_zombie(pid: int) -> bool:
    if not _LINUX:
        return False
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return stat[stat.rindex(")") + 2] in "ZX"


def wait_until_gone(folder: Path, pid: int, seconds: float) -> list[int]:
    """Wait until a daemon and everything of its node have ended.

    Args:
        folder: the data folder.
        pid: the daemon.
        seconds: at most so long.

    Returns:
        Processes that are left.
    """
    deadline = time.monotonic() + seconds
    with contextlib.suppress(ProcessLookupError, OSError):
        fd = processes.open_pidfd(pid, 0)
        if fd is not None:
            poller = select.poll()
            poller.register(fd, select.POLLIN)
            poller.poll(seconds * 1000)
            processes.close_pidfd(fd)
    while (left := of_folder(folder)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def end(folder: Path, pids: list[int], seconds: float = 10.0) -> list[int]:
    """Kill processes of a folder's node that have lost their daemon; return those that are left.

    Each is looked at once more, through a descriptor that cannot come to mean another process.
    """
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError, OSError):
            fd = processes.open_pidfd(pid, 0)
            if pid in of_folder(folder):
                processes.kill(pid, fd)
            if fd is not None:
                processes.close_pidfd(fd)
    deadline = time.monotonic() + seconds
    while (left := [pid for pid in pids if pid in of_folder(folder)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left
