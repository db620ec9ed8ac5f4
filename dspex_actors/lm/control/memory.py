"""What outlives the owner of a deployment's limits: what was used lately, and what was learnt; files in one folder.

What was used is written before a turn is given away, so that an owner that follows gives nothing twice. Each owner has
a file of its own; it takes over those of owners that have ended, of earlier nodes and programs too.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dspex_actors.foundation.files import write_whole
from dspex_actors.lm.identity import digest
from supervisors import Ref
from supervisors.host import processes

FOLDER, EMBEDDED = "limits", "embedded"
#: What nobody has written for so long is forgotten; and of what was learnt, so many files are kept.
KEPT_SECONDS, MOST_LEARNT = 30 * 86_400.0, 256
_USED, _LEARNT = ".used.json", ".learnt.json"

_log = logging.getLogger(__name__)


def limits_folder(data_dir: str | Path) -> Path:
    """Return where limits are remembered: nodes of programs share the folder of this host's node."""
    folder = Path(data_dir)
    return (folder.parent.parent if folder.parent.name == EMBEDDED else folder) / FOLDER


def clock() -> float:
    """Return seconds that only grow, also while the host sleeps where it can tell."""
    kind = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if kind is None else time.clock_gettime(kind)


def _boot() -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


class Memory:
    """The files of one deployment, for its owner.

    Args:
        data_dir: the node's folder.
        deployment: digest of the deployment.
        me: the owner.
    """

    def __init__(self, data_dir: str | Path, deployment: str, me: Ref) -> None:
        """Touch nothing yet."""
        self.folder = limits_folder(data_dir)
        self._name = deployment[:32]
        self._me = me
        self._boot = _boot()
        self._file = self.folder / f"{self._name}.{digest({'folder': str(data_dir)}, 'node')[:8]}{_USED}"
        self._taken: list[Path] = []
        self._has_failed = False

    def used(self, now: float, wall: float) -> Iterator[tuple[dict[str, Any], float]]:
        """Give what owners that have ended have used, and by how much their clock was behind.

        Args:
            now: seconds of `clock`.
            wall: seconds since the epoch.
        """
        for file in sorted(self.folder.glob(f"{self._name}.*{_USED}")):
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
                found = json.loads(file.read_bytes())
                if file != self._file and not processes.has_ended(found["pid"], found["born"]):
                    continue
                shift = 0.0
                if found["boot"] != self._boot or found["now"] > now:
                    shift = now - found["now"] - max(0.0, wall - found["wall"])
                yield dict(found["kept"]), shift
                if file != self._file:
                    self._taken.append(file)

    def keep_used(self, kept: dict[str, Any], now: float, wall: float) -> None:
        """Write what is used; what was taken over is in it."""
        me = self._me
        data = {"pid": me.pid, "born": me.born, "boot": self._boot, "now": now, "wall": wall, "kept": kept}
        if self._write(self._file, data):
            for file in self._taken:
                file.unlink(missing_ok=True)
            self._taken = []

    def learnt(self, wall: float) -> dict[str, Any] | None:
        """Return what was learnt; None: nothing, or too long ago."""
        return read_learnt(self.folder / f"{self._name}{_LEARNT}", wall)

    def keep_learnt(self, data: dict[str, Any] | None) -> None:
        """Write what was learnt; None: forget it."""
        file = self.folder / f"{self._name}{_LEARNT}"
        if data is None:
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)
        else:
            self._write(file, data)

    def tidy(self, wall: float) -> None:
        """Remove what is old, and what is too much."""
        with contextlib.suppress(OSError):
            files = [(file.stat().st_mtime, file) for file in self.folder.glob("*.json")]
            learnt = sorted((found for found in files if found[1].name.endswith(_LEARNT)), reverse=True)
            old = [file for at, file in files if wall - at > KEPT_SECONDS]
            for file in {*old, *(file for _, file in learnt[MOST_LEARNT:])}:
                file.unlink(missing_ok=True)

    def _write(self, file: Path, data: dict[str, Any]) -> bool:
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)
            write_whole(file, json.dumps(data).encode())
        except OSError as error:  # a full disk: calls go on
            if not self._has_failed:
                self._has_failed = True
                _log.warning("limits are not remembered over restarts: %s cannot be written (%s)", self.folder, error)
            return False
        self._has_failed = False
        return True


def read_learnt(file: Path, wall: float) -> dict[str, Any] | None:
    """Return what a file says was learnt; None: it says nothing that holds."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        found = json.loads(file.read_bytes())
        if isinstance(found["model"], str) and float(found["rate"]) > 0 and wall - float(found["at"]) < KEPT_SECONDS:
            return dict(found)
    return None


def all_learnt(data_dir: str | Path, wall: float) -> list[tuple[Path, dict[str, Any]]]:
    """Return all that was learnt, and where it stands."""
    files = sorted(limits_folder(data_dir).glob(f"*{_LEARNT}"))
    return [(file, found) for file in files if (found := read_learnt(file, wall)) is not None]
