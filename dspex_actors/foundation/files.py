"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from dspex_actors.errors import ConfigError


@contextmanager
def replaced(path: Path, mode: int = 0o666) -> Iterator[TextIO]:
    """Open a text file (UTF-8) for writing that takes its place under `path` when the `with` ends well.

    It is written beside that place; after an error or a crash the old file is there as it was. A pipe or device is
    written to as it is: nothing takes its place.

    Args:
        path: its place.
        mode: who may read and write it, less what the umask takes away.

    Raises:
        ConfigError: the folder is not there, or cannot be written to; or the path is a folder's.
    """
    if path.is_dir():
        raise ConfigError(f"cannot write to {path}: it is a folder")
    if path.exists() and not path.is_file():
        with path.open("w", encoding="utf-8") as file:
            yield file
        return
    # Not mkstemp, whose files only the owner reads: this one is an ordinary file, and what the umask leaves of its
    # mode only the kernel can tell without changing the umask for all threads.
    name = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}")
    try:
        handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except OSError as error:
        raise ConfigError(f"cannot write to {path.parent}: {error.strerror or error}") from None
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            yield file
        os.replace(name, path)
    except BaseException:
        name.unlink(missing_ok=True)
        raise


def write_whole(path: Path, data: bytes) -> None:
    """Put a file in the place of another, in one step; after an error or a crash the old one is there as it was.

    Only its owner may read it. It survives the end of this process, but not that of the machine: nobody waits for that.

    Raises:
        OSError: it cannot be written.
    """
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(data)
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
