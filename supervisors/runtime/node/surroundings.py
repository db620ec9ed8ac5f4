"""What a daemon inherits of its starter, put in order: streams, signals, files, umask, working folder."""

from __future__ import annotations

import contextlib
import os
import resource
import signal

from supervisors.host.streams import open_missing_streams

#: So many open files are enough for everybody; some programs walk through all that could be.
MOST_FILES = 65_536
#: Python itself ignores these, so that a write fails instead of killing the process.
_PYTHON_IGNORES = {getattr(signal, name) for name in ("SIGPIPE", "SIGXFSZ", "SIGXFZ") if hasattr(signal, name)}


def put_in_order() -> int:
    """Put the surroundings of this process in order; return the umask of the starter.

    1. Standard streams that are closed are opened on /dev/null.
    2. No signal is blocked, and none is ignored that Python does not ignore itself.
    3. It may open as many files as the system lets it, at most MOST_FILES.
    4. A working folder that is gone, or cannot be entered, is replaced by /.
    5. What it writes is for its user only.
    """
    open_missing_streams()
    for number in signal.valid_signals() - _PYTHON_IGNORES:
        with contextlib.suppress(OSError, ValueError):  # KILL and STOP, and what the C library keeps for itself
            if signal.getsignal(number) == signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    try:
        os.chdir(os.getcwd())
    except OSError:
        os.chdir("/")
    return os.umask(0o077)
