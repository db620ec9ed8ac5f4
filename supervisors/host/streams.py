"""The standard streams of a process, where some of them may be closed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket


def is_open(fd: int) -> bool:
    """Return whether a descriptor is open."""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def open_missing_streams() -> None:
    """Open the standard streams that are closed on /dev/null: else the next file that is opened becomes one of them."""
    for fd in (0, 1, 2):
        if not is_open(fd):
            null = os.open(os.devnull, os.O_RDWR)
            if null != fd:  # never above: the ones below are open by now
                os.dup2(null, fd)
                os.close(null)


def pipe_above_streams() -> tuple[int, int]:
    """Return a pipe none of whose ends is a standard stream, in a program that has closed its own."""
    read, write = os.pipe()
    return _lifted(read), _lifted(write)


def above_streams(connected: socket.socket) -> socket.socket:
    """Return the socket under a descriptor that is no standard stream: what a program prints must not end up in it."""
    if connected.fileno() > 2:
        return connected
    with contextlib.closing(connected):
        return socket.socket(fileno=fcntl.fcntl(connected.fileno(), fcntl.F_DUPFD_CLOEXEC, 3))


def _lifted(fd: int) -> int:
    if fd > 2:
        return fd
    above = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(fd)
    return above
