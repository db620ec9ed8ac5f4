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
def replaced(path: Path) -> Iterator[TextIO]:
    """Open a text file (UTF-8) for writing that takes its place under `path` when the `with` ends well.

    It is written beside that place; after an error or a crash the old file is there as it was.

    Raises:
        ConfigError: the folder is not there, or cannot be written to.
    """
    # Not mkstemp, whose files only the owner reads: this one is an ordinary file, and what the umask leaves of its
    # mode only the kernel can tell without changing the umask for all threads.
    name = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}")
    try:
        handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise ConfigError(f"cannot write to {path.parent}: {error.strerror or error}") from None
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            yield file
        os.replace(name, path)
    except BaseException:
        name.unlink(missing_ok=True)
        raise
