"""Processes of this machine: who dies with whom, which are alive, which are below another one.

On Linux a process asks the kernel to be killed when its parent dies (PR_SET_PDEATHSIG), and the daemon adopts what
loses its parent (PR_SET_CHILD_SUBREAPER), so that a `kill -9` of anything leaves nothing behind. Elsewhere a
parent check does it more slowly. Deaths are seen through pidfds, which neither miss one nor mistake a reused pid.

Public: programs on top of supervisors may import it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_LINUX = sys.platform.startswith("linux")
_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 1, 15, 36

#: What a system call fails with when no file descriptor is left to this process, or to the host.
_NONE_LEFT = (errno.EMFILE, errno.ENFILE)

#: What pidfd_open fails with where there are none: an old kernel, and a container whose seccomp does not know the call.
_NO_PIDFDS = (errno.ENOSYS, errno.EPERM)

#: pidfds that this process watches; a child that it forks closes its copies.
_watched: set[int] = set()


def _close_inherited() -> None:
    for fd in _watched:
        with contextlib.suppress(OSError):
            os.close(fd)
    _watched.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited)

_libc: Any = ctypes.CDLL(None, use_errno=True) if _LINUX else None


def _prctl(option: int, value: Any) -> None:
    if _libc is not None and _libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


def adopt_orphans() -> None:
    """Make this process the parent of every descendant that loses its own (Linux)."""
    if _LINUX:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with(parent: int) -> None:
    """Be killed when process `parent`, which must be the parent of this one, dies; die now if it is gone."""
    if _LINUX:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def tie_to(daemon: int) -> Callable[[bool, Any], None]:
    """Return a hook for new processes of a node: the admin dies with the daemon.

    The admin is forked twice; it is tied once the process between is gone and the daemon has adopted it. The others are
    tied to who forked them as soon as they run (`runtime.thespian.forking`).
    """

    def tie(is_admin: bool, transport: Any) -> None:
        if is_admin:
            deadline = time.monotonic() + 5.0
            while os.getppid() != daemon and time.monotonic() < deadline:
                time.sleep(0.001)
            die_with(daemon)

    return tie


def set_process_name(name: str) -> None:
    """Show `name` (15 bytes of it, and no part of a character) in ps, top and /proc/PID/comm."""
    if _LINUX:
        _prctl(_PR_SET_NAME, name.encode(errors="replace")[:15].decode(errors="ignore").encode())


def born(pid: int) -> int:
    """Return the start time of a process in clock ticks since boot (0 where that is not known).

    Raises:
        ProcessLookupError: there is no such process.
        OSError: no file descriptor is left to look.
    """
    if not _LINUX:
        os.kill(pid, 0)
        return 0
    return int(_stat(pid)[19])


def parent_of(pid: int) -> int:
    """Return the parent of a process (0: gone)."""
    try:
        return int(_stat(pid)[1])
    except ProcessLookupError:
        return 0


def _stat(pid: int) -> list[bytes]:
    """Return what the kernel tells of a process, from its state on; bytes, since others choose its name."""
    try:
        data = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        raise ProcessLookupError(f"no process {pid}") from None
    return data[data.rindex(b")") + 2 :].split()


def open_pidfd(pid: int, ticks: int) -> int | None:
    """Return a descriptor that becomes readable when the process ends.

    Args:
        pid: the process.
        ticks: its `born`, so that another process with a reused pid is not taken for it (0: not checked).

    Returns:
        The descriptor; None where there are no pidfds (not Linux, an old kernel or container), and where pidfds take
        half of the descriptors that this process may have, since connections need the others. Such a process has to be
        looked after with `has_ended` now and then.

    Raises:
        ProcessLookupError: it has ended.
    """
    fd = _pidfd(pid)
    if fd is None:
        with contextlib.suppress(PermissionError):  # it is there, and somebody else's
            os.kill(pid, 0)
        return None
    try:
        if ticks and born(pid) != ticks:
            raise ProcessLookupError(f"process {pid} is another one")
    except OSError as error:
        os.close(fd)
        if error.errno in _NONE_LEFT:
            return None
        raise
    _watched.add(fd)
    return fd


def _pidfd(pid: int) -> int | None:
    if not hasattr(os, "pidfd_open") or len(_watched) >= descriptor_limit() // 2:
        return None
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if error.errno in (*_NONE_LEFT, *_NO_PIDFDS):
            return None
        raise


def close_pidfd(fd: int) -> None:
    """Close what `open_pidfd` returned."""
    _watched.discard(fd)
    os.close(fd)


def has_ended(pid: int, ticks: int, pidfd: int | None = None) -> bool:
    """Return whether the process has ended; a zombie has."""
    if pidfd is not None:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        return bool(poller.poll(0))
    try:
        fd = open_pidfd(pid, ticks)
    except ProcessLookupError:
        return True
    if fd is None:
        return _is_another(pid, ticks)
    try:
        return has_ended(pid, ticks, fd)
    finally:
        close_pidfd(fd)


def descriptor_limit() -> int:
    """Return how many descriptors this process may have."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def _is_another(pid: int, ticks: int) -> bool:
    """Whether a pid that is in use belongs to another process by now, or to one that waits to be collected."""
    if not _LINUX:
        return False
    try:
        stat = _stat(pid)
    except ProcessLookupError:
        return True
    except OSError:  # no descriptor is left: the next look tells
        return False
    return stat[0] in (b"Z", b"X") or (ticks != 0 and int(stat[19]) != ticks)


def kill(pid: int, pidfd: int | None = None) -> None:
    """Kill a process; nothing happens if it has ended."""
    with contextlib.suppress(ProcessLookupError):
        if pidfd is not None:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGKILL)


def kill_exactly(pid: int, ticks: int) -> None:
    """Kill the process that was born at `ticks`, and no other one with its pid; nothing happens if it has ended."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        pidfd = open_pidfd(pid, ticks)
        if pidfd is None and _is_another(pid, ticks):
            return
        try:
            kill(pid, pidfd)
        finally:
            if pidfd is not None:
                close_pidfd(pidfd)


def process_table() -> dict[int, int]:
    """Return pid → parent pid of every process that this user can see (Linux; elsewhere empty)."""
    table = {}
    for name in os.listdir("/proc") if _LINUX else ():
        if name.isdigit() and (parent := parent_of(int(name))):
            table[int(name)] = parent
    return table


def descendants(pid: int) -> list[int]:
    """Return all processes below `pid`, parents before children."""
    table = process_table()
    found, edge = [], [pid]
    while edge:
        edge = [child for child, parent in table.items() if parent in edge]
        found.extend(edge)
    return found
