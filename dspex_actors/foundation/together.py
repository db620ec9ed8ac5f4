"""Whether this node belongs to a cluster, for those who ask often: one look at a file, which a node alone has not."""

from __future__ import annotations

import os
from pathlib import Path

from supervisors.cluster.handle import others_of

_FILE = "cluster.json"


class Together:
    """Answers for one node.

    Args:
        data_dir: its folder.
    """

    def __init__(self, data_dir: str | Path) -> None:
        """Look at nothing yet."""
        self._folder = Path(data_dir)
        self._path = str(self._folder / _FILE)
        self._seen: tuple[int, int] | None = None
        self._is_member = False

    def __bool__(self) -> bool:
        """Whether it is in a cluster now."""
        try:
            found = os.stat(self._path)
        except OSError:
            return False
        seen = found.st_mtime_ns, found.st_ino
        if seen != self._seen:
            self._seen, self._is_member = seen, bool(others_of(self._folder))
        return self._is_member
