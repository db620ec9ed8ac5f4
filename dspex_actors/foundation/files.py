"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import tempfile
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
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise ConfigError(f"cannot write to {path.parent}: {error.strerror or error}") from None
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            yield file
        # mkstemp makes files that only the owner reads; this one is an ordinary file.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
