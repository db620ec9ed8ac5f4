"""What a server finds around it is what its author would find in a program of their own.

A server's process is forked from a supervisor, and inherits what was good for that. `settle` puts it in order, and
what the server forks is put in order too: default signals, none of the node's own descriptors, and it dies with the
server.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
import weakref

from supervisors.host import processes
from supervisors.host.strays import lead_group

#: What a program usually has; for a node that was not told what its starter has.
USUAL_UMASK = 0o022
#: Libraries with a random state of their own, and what seeds it anew. (Python seeds its own after a fork.)
_SEEDS = {"numpy.random": "seed", "torch": "seed"}
#: Signals that a process of a node has handlers for.
_OF_THE_NODE = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT, signal.SIGABRT, signal.SIGCHLD)

_is_server = False
#: Descriptors that are closed in what servers fork; and in the servers, too.
_private: set[int] = set()
_of_the_system: set[int] = set()
#: The process that is about to fork, if it does so in its main thread; 0: in another one.
_forking = 0


def in_server() -> bool:
    """Whether this is the process of a server, or one that a server has forked."""
    return _is_server


def keep_private(fd: int, from_servers: bool = False) -> None:
    """Have a descriptor closed in whatever servers fork: a lock or a port would stay taken by their children.

    Args:
        fd: the descriptor.
        from_servers: have it closed in the servers too: one that has changed its user may outlive the daemon.
    """
    (_of_the_system if from_servers else _private).add(fd)


def forget_private(fd: int) -> None:
    """Do so no more; the descriptor is about to be closed, and its number will be another's."""
    _private.discard(fd)
    _of_the_system.discard(fd)


def settle(umask: int = USUAL_UMASK) -> None:
    """Put this process in order before a server's own code runs in it.

    Args:
        umask: for the files that the server makes.
    """
    global _is_server  # noqa: PLW0603 - one per process
    _is_server = True
    lead_group()
    _close_all(_of_the_system)
    os.umask(umask)
    # What preloaded libraries want done at the end of the process that has loaded them is not for each server to do.
    atexit._clear()
    weakref.finalize._registry.clear()  # type: ignore[attr-defined]
    weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]
    for name, function in _SEEDS.items():
        if (module := sys.modules.get(name)) is not None:
            with contextlib.suppress(Exception):
                getattr(module, function)()


def _close_all(descriptors: set[int]) -> None:
    for fd in descriptors:
        with contextlib.suppress(OSError):
            os.close(fd)
    descriptors.clear()


def _before_fork() -> None:
    global _forking  # noqa: PLW0603
    _forking = os.getpid() if threading.current_thread() is threading.main_thread() else 0


def _after_fork() -> None:
    if not _is_server:
        return
    if threading.current_thread() is threading.main_thread():
        signal.set_wakeup_fd(-1)  # the server's loop is not to wake up for signals of this process
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in _OF_THE_NODE:
        signal.signal(number, signal.SIG_DFL)
    _close_all(_private)
    # The kernel means the thread that has forked, so a child of one that ends soon would die with that.
    if _forking:
        processes.die_with(_forking)


os.register_at_fork(before=_before_fork, after_in_child=_after_fork)
