"""One JSON line per refused connection, to a file of its own.

Not the `logging` module: Thespian turns log records into messages to another process, and a report of an
attack must neither wait for that nor make traffic of it. Lines are rare whatever the attacker does: one per
source and minute, `BURST` per minute in all, and the table of sources is bounded.
"""

import json
import os
import sys
import time
from collections import OrderedDict
from collections.abc import Callable

__all__ = ["LOG_ENV", "SecurityLog", "note", "refused"]

LOG_ENV = "SUPERVISORS_SECURITY_LOG"
PERIOD = 60.0
SOURCES = 256
BURST = 60


class SecurityLog:
    """Decide which events are written, and write them.

    Args:
        write: takes one line; by default it goes to the file that `LOG_ENV` names, else to stderr.
        clock: seconds, monotonic.
    """

    def __init__(self, write: Callable[[str], None] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing was said yet."""
        self._write = write or _write_line
        self._clock = clock
        # source -> (time of its last line, events since then)
        self._sources: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._minute = clock()
        self._lines = 0

    def note(self, event: str, source: str, detail: str = "") -> None:
        """Report `event` caused by the network address `source`, unless enough was said about it."""
        now = self._clock()
        last, silent = self._sources.get(source, (now - PERIOD, 0))
        if now - self._minute >= PERIOD:
            self._minute, self._lines = now, 0
        if now - last < PERIOD or self._lines >= BURST:
            self._remember(source, last, silent + 1)
            return
        self._lines += 1
        self._remember(source, now, 0)
        line = {
            "time": round(time.time(), 3),
            "pid": os.getpid(),
            "event": event,
            "source": source,
            "detail": detail,
            "suppressed": silent,
        }
        self._write(json.dumps(line))

    def _remember(self, source: str, last: float, silent: int) -> None:
        self._sources[source] = (last, silent)
        self._sources.move_to_end(source)
        if len(self._sources) > SOURCES:
            self._sources.popitem(last=False)


def _write_line(line: str) -> None:
    data = line.encode() + b"\n"
    path = os.environ.get(LOG_ENV)
    try:
        if not path:
            os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, data)
            return
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o600)
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)
    except (OSError, ValueError):
        # A full disk or a closed stderr must not take the node down; the refusal itself has happened.
        return


_log = [SecurityLog()]


def _begin_after_fork() -> None:
    # What the parent has said lately is no reason for its child to keep silent.
    _log[:] = [SecurityLog()]


os.register_at_fork(after_in_child=_begin_after_fork)


def note(event: str, source: str, detail: str = "") -> None:
    """Report a refused connection; see `SecurityLog.note`."""
    _log[0].note(event, source, detail)


def refused(source: str, error: Exception) -> None:
    """Report a frame that was refused because of `error`."""
    note("refused frame", source, f"{type(error).__name__}: {error}")
