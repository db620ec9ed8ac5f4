"""A lock on a path that lies outside of it: it holds whatever becomes of the files there."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import sys
from pathlib import Path


def take(path: Path) -> int | None:
    """Take the lock of a path; it is held as long as any process has this descriptor open. None: another one has it.

    It is a name in Linux's abstract namespace, which the kernel forgets with its last holder; so it is known within
    one network namespace. Containers that share that have folders of their own at one path: the name says whose files
    are meant. On other systems nothing is locked.

    Args:
        path: of a folder, which need not be there.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as lock:
        if sys.platform == "linux":
            whose = f"{os.geteuid()}:{_files()}:{os.path.realpath(path)}".encode("utf-8", "surrogateescape")
            try:
                lock.bind(f"\0supervisors-node-{hashlib.sha256(whose).hexdigest()}")
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    return None
                raise
        return lock.detach()


def _files() -> str:
    try:
        return os.readlink("/proc/self/ns/mnt")
    except OSError:
        return ""
