"""Whether a file still holds what it held when a run began: a stamp for the quick look, a digest to be certain."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dspex_actors.errors import ConfigError

#: A file that was written less than so many seconds ago may be written again without another time: it gets no stamp.
SETTLED_SECONDS = 2.0


def stamp_of(path: Path) -> list[int] | None:
    """Return size, time of the last change (ns), time of the last change of its entry (ns) and inode of a file.

    While they stay the same, so does the file. None: it was written just now, and only its digest can tell.

    Raises:
        OSError: it cannot be looked at.
    """
    found = path.stat()
    if time.time() - max(found.st_mtime, found.st_ctime) < SETTLED_SECONDS:
        return None
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def check_content(path: Path, descriptor: Mapping[str, Any], digest: Callable[[], str]) -> None:
    """Refuse a file that was edited since its descriptor was made.

    Args:
        path: the file.
        descriptor: with `digest` and, where they are known, `stamp` and `bytes`.
        digest: reads the file and returns its digest as it is now; only asked where the stamp is another one.

    Raises:
        ConfigError: its content is another one; says what is known about that.
    """
    known = descriptor.get("digest")
    if known is None:
        return
    try:
        if descriptor.get("stamp") is not None and stamp_of(path) == descriptor["stamp"]:
            return
        size = path.stat().st_size
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error
    if digest() == known:
        return
    before = descriptor.get("bytes")
    what = "" if before is None else f"it had {before:,} bytes and has {size:,}; "
    if before == size:
        what = f"it has {size:,} bytes as before, but others; "
    raise ConfigError(
        f"the dataset {path} was changed since the run began: {what}"
        "put it back as it was, or go on with it as it is: --force-resume, or force_resume=True"
    )
