"""What the processes of a node print: their standard streams are files in the folder of the logs."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
from pathlib import Path

from supervisors.host.log import ROTATE_BYTES

#: Standard output and standard error of every process of a node.
OUTPUT_FILE, ERROR_FILE = "output.log", "stderr.log"


def detach(logs: Path) -> None:
    """Let go of the starter's standard streams: a starter whose output is a pipe would wait for us for ever."""
    null = os.open(os.devnull, os.O_RDWR)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    out, err = (os.open(logs / name, flags, 0o600) for name in (OUTPUT_FILE, ERROR_FILE))
    for fd, stream in ((null, 0), (out, 1), (err, 2)):
        os.dup2(fd, stream)
        os.close(fd)


def write_lines() -> None:
    """Have what is printed leave line by line, so that lines of different processes do not mix."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What cannot be encoded must not crash who prints it.
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")


def keep_small(logs: Path, limit: int = ROTATE_BYTES) -> None:
    """Begin the files anew when they have grown to `limit` bytes; what was in them is kept as `.1`.

    Everybody has them open and appends, so they are emptied and not replaced; what comes in between is lost.
    """
    for name in (OUTPUT_FILE, ERROR_FILE):
        path = logs / name
        with contextlib.suppress(OSError):
            if path.stat().st_size > limit:
                shutil.copyfile(path, path.with_name(name + ".1"))
                os.truncate(path, 0)
