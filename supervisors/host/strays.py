"""What a server has started and left behind: its process group, and orphans that the daemon has adopted.

A server leads a process group, so that whatever it starts can be found when it is dead. What has left the group (a
session of its own) is found when it loses its parent, since the daemon adopts it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Container
from pathlib import Path

from supervisors.host import processes

#: What is known of processes is forgotten after so many seconds.
ANEW_SECONDS = 60.0


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


class Orphans:
    """The children of this process that somebody else has started: it has adopted them when they lost their parent.

    Not every kernel lists the children of a process. There all processes of the host are listed, and only those are
    looked at that are new, or whose parent has ended: a hundred nodes on a host would do nothing else.
    """

    def __init__(self) -> None:
        """Know no process yet."""
        self._parents: dict[int, int] = {}
        self._anew_at = 0.0

    def end(self, spared: Container[int]) -> None:
        """Kill them; a living server's group is let be.

        Args:
            spared: pids of the children that are this process's own.
        """
        children = _children()
        for pid in self._found() if children is None else children:
            if pid not in spared and not _has_server(pid):
                processes.kill(pid)

    def _found(self) -> list[int]:
        me, now = os.getpid(), time.monotonic()
        if now > self._anew_at:  # a number may have been given to another process
            self._anew_at = now + ANEW_SECONDS
            self._parents.clear()
        listed = {int(name) for name in os.listdir("/proc") if name.isdigit()}
        for pid in self._parents.keys() - listed:
            del self._parents[pid]
        for pid in listed:
            parent = self._parents.get(pid)
            if parent is None or (parent and parent not in listed):
                self._parents[pid] = processes.parent_of(pid)
        return [pid for pid, parent in self._parents.items() if parent == me]


def _children() -> list[int] | None:
    me = os.getpid()
    try:
        return [int(pid) for pid in Path(f"/proc/{me}/task/{me}/children").read_bytes().split()]
    except OSError:  # a kernel without that file
        return None if sys.platform == "linux" else []


def _has_server(pid: int) -> bool:
    """Whether the process belongs to the group of a server that lives: then it is ended with that."""
    try:
        leader = os.getpgid(pid)
    except ProcessLookupError:
        return False
    return leader not in (pid, os.getpgrp()) and not processes.has_ended(leader, 0)
