"""What a server has started and left behind: its process group, and orphans that the daemon has adopted.

A server leads a process group, so that whatever it starts can be found when it is dead. What has left the group (a
session of its own) is found when it loses its parent, since the daemon adopts it.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Container
from pathlib import Path

from supervisors.host import processes


def lead_group() -> None:
    """Make this process the leader of a process group of its own."""
    with contextlib.suppress(OSError):  # it leads a session
        os.setpgid(0, 0)


def end_group(leader: int) -> None:
    """Kill what is left of a process group; nothing happens if there is no such group.

    Args:
        leader: a child of this process that has ended and is not collected yet, so that its pid is still its own.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def end_orphans(spared: Container[int]) -> None:
    """Kill the children of this process that somebody else has started; a living server's group is let be.

    Args:
        spared: pids of the children that are this process's own.
    """
    for pid in _children():
        if pid in spared or _has_server(pid):
            continue
        processes.kill(pid)


def _children() -> list[int]:
    me = os.getpid()
    try:
        return [int(pid) for pid in Path(f"/proc/{me}/task/{me}/children").read_bytes().split()]
    except OSError:  # a kernel without that file
        return [pid for pid, parent in processes.process_table().items() if parent == me]


def _has_server(pid: int) -> bool:
    """Whether the process belongs to the group of a server that lives: then it is ended with that."""
    try:
        leader = os.getpgid(pid)
    except ProcessLookupError:
        return False
    return leader not in (pid, os.getpgrp()) and not processes.has_ended(leader, 0)
