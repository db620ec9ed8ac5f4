"""The node's log: JSON lines, one file for all its processes.

Every process appends whole lines with one write (O_APPEND), so that lines of different processes do not mix and
no process has to live for another one to log.

Public: programs on top of supervisors may import it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from pathlib import Path
from typing import Any

# For its console, which no process of a node has, structlog would bring rich and pygments along: 4 MB in each of them.
_rich = sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
import structlog  # noqa: E402

from supervisors.terms.showing import cut, shown  # noqa: E402

if _rich is None:
    del sys.modules["rich"]

LOG_FILE = "node.jsonl"
#: When a log file has grown to this many bytes it is renamed to `.1` (the one before is dropped).
ROTATE_BYTES = 32 * 1024 * 1024

#: A longer text in a line is cut in its middle, in characters.
MAX_TEXT = 20_000

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}


def _bounded(logger: Any, method: str, event: Any) -> Any:
    """Cut long texts: an exception may carry a payload of any size."""
    for name, value in event.items():
        if isinstance(value, str) and len(value) > MAX_TEXT:
            event[name] = cut(value, MAX_TEXT)
    return event


class LineFile:
    """A file of lines that several processes append to."""

    def __init__(self, path: Path) -> None:
        """Remember the path; the file is opened at the first line."""
        self.path = path
        self._fd = -1
        self._written = 0

    def write(self, line: str) -> None:
        """Append one line; a full disk or a folder that is gone loses the line and nothing else."""
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        try:
            # No link is left to a file that was renamed for a second time: nobody would find the line there.
            if self._fd < 0 or self._written > ROTATE_BYTES // 16 or not os.fstat(self._fd).st_nlink:
                self._reopen()
            self._written += os.write(self._fd, data)
        except OSError:
            with contextlib.suppress(OSError):
                self._close()

    def _reopen(self) -> None:
        self._close()
        self._fd = self._open()
        self._written = 0
        if os.fstat(self._fd).st_size > ROTATE_BYTES:
            self._rotate(self._fd)
            self._close()
            self._fd = self._open()

    def _open(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _rotate(self, fd: int) -> None:
        """Rename the file that is open as `fd`, unless another process has just done so; `fd` is to be closed then."""
        fcntl.flock(fd, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):  # it has, and not made the new one yet
            if os.path.samestat(os.fstat(fd), os.stat(self.path)):
                os.replace(self.path, self.path.with_suffix(self.path.suffix + ".1"))

    # structlog's logger methods
    msg = debug = info = warning = error = critical = exception = write


def last_lines(path: Path, count: int) -> list[str]:
    """Return the last lines of a file, oldest first, without reading more of it than they take."""
    if count <= 0:
        return []
    tail = b""
    try:
        with path.open("rb") as file:
            position = file.seek(0, os.SEEK_END)
            while position and tail.count(b"\n") <= count:
                step = min(position, 1 << 18)
                position = file.seek(position - step)
                tail = file.read(step) + tail
    except FileNotFoundError:
        return []
    # Not splitlines: a text in a line may have a line separator of its own (U+2028).
    return tail.decode("utf-8", "replace").removesuffix("\n").split("\n")[-count:]


def open_log(folder: str | Path, actor: str, level: str = "info") -> Any:
    """Return a structlog logger that appends to the node's log.

    Args:
        folder: the node's `logs` folder.
        actor: who logs.
        level: the least level that is written.
    """
    return structlog.wrap_logger(
        LineFile(Path(folder) / LOG_FILE),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            structlog.processors.format_exc_info,
            _bounded,
            structlog.processors.JSONRenderer(default=shown),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS.get(level, 20)),
        cache_logger_on_first_use=False,
    ).bind(actor=actor, pid=os.getpid())
