"""The end of a process in order: what the interpreter's own end would do, within a given time.

The interpreter's own end waits for threads and children that user code may have left, for ever. So a server's process
ends by `os._exit`, and this comes before: finalizers, functions of `atexit`, and what is still in the buffers of files.
Threads are not waited for.
"""

from __future__ import annotations

import _io
import atexit
import contextlib
import gc
import multiprocessing.util
import signal
import sys
from typing import Any

#: User code that is called at the end of a process has this many seconds; each call of it that is under way then is
#: broken off, and after a few of those the kernel ends the process. (A supervisor that has asked for the end has a
#: limit of its own.)
FAREWELL_SECONDS = 5.0
_AGAIN_SECONDS, _BREAKS = 0.5, 4


class _TooLongError(BaseException):
    """Breaks off what takes too long at the end of a process."""


def farewell() -> None:
    """Run finalizers and what was registered with `atexit`, then write out the buffers of all open files."""
    left = _BREAKS

    def too_long(number: int, frame: Any) -> None:
        nonlocal left
        left -= 1
        if not left:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
        raise _TooLongError

    # Files before the collector: it may close the raw file in a cycle before what is buffered for it is written.
    steps = (atexit._run_exitfuncs, multiprocessing.util._run_finalizers, _write_out, gc.collect)  # type: ignore[attr-defined]
    with contextlib.suppress(BaseException):
        signal.signal(signal.SIGALRM, too_long)
        signal.setitimer(signal.ITIMER_REAL, FAREWELL_SECONDS, _AGAIN_SECONDS)
    for step in steps:
        with contextlib.suppress(BaseException):
            step()
    with contextlib.suppress(BaseException):
        signal.setitimer(signal.ITIMER_REAL, 0.0)


def _write_out() -> None:
    """Flush the files of the interpreter's own kinds, and close the others (a gzip file has a last block)."""
    # What was loaded before the first fork is frozen and not among these: it belongs to the process that loaded it.
    files = [each for each in gc.get_objects() if issubclass(type(each), _io._IOBase)]
    layers: list[Any] = [each for each in files if isinstance(each, _io.TextIOWrapper)]
    layers += [each for each in files if type(each).__module__ not in ("_io", "io", "socket")]
    layers += [each for each in files if isinstance(each, _io.BufferedWriter | _io.BufferedRandom)]
    for file in (sys.stdout, sys.stderr, *layers):
        with contextlib.suppress(Exception):
            if file.writable():
                file.flush() if type(file).__module__ in ("_io", "io") else file.close()
