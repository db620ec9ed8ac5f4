"""The copies of datasets in a node's data folder: one for each digest, kept while a run has use for it.

::

    copies/DIGEST/data.jsonl        whole, and checked; the ending is that of the original
    copies/DIGEST/SHA256.part       on its way; it is gone on with
    copies/DIGEST/run-NAME          a run that has use for it
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from dspex_actors.data.dataset import Dataset
from dspex_actors.data.opening import from_descriptor
from dspex_actors.data.view import file_of
from dspex_actors.errors import DspexError
from dspex_actors.journal.index import SPOOL_FOLDER

FOLDER = "copies"
_RUN = "run-"


class Copies:
    """The copies of one node.

    Args:
        data_dir: its data folder.
    """

    def __init__(self, data_dir: Path) -> None:
        """Make nothing yet."""
        self._data_dir, self._folder = data_dir, data_dir / FOLDER

    def folder_of(self, descriptor: Mapping[str, Any]) -> Path:
        """Return where the copy of a dataset is, and what belongs to it."""
        descriptor = file_of(descriptor)
        told = f"{descriptor.get('kind')} {str(descriptor.get('digest')).partition('-first-')[0]}"
        return self._folder / hashlib.sha256(told.encode()).hexdigest()[:32]

    def path_of(self, descriptor: Mapping[str, Any]) -> Path:
        """Return where the whole copy is, or would be."""
        suffixes = Path(str(descriptor.get("path"))).suffixes
        ending = suffixes[-2:] if suffixes[-1:] == [".gz"] else suffixes[-1:]
        return self.folder_of(descriptor) / f"data{''.join(ending)}"

    def open(self, descriptor: Mapping[str, Any]) -> tuple[Dataset, Path]:
        """Open a dataset where it is, or its copy; return it and its file.

        It is checked by its digest; that reads the file, unless it is the one that was there when the run began.

        Raises:
            DspexError, OSError: it cannot be read here; why not at its own path.
        """
        try:
            return from_descriptor(descriptor), Path(str(descriptor.get("path")))
        except (DspexError, OSError):
            path = self.path_of(descriptor)
            if not path.exists():
                raise
            copied = {name: value for name, value in descriptor.items() if name != "stamp"} | {"path": str(path)}
            return from_descriptor(copied), path

    def use(self, run_id: str, descriptor: Mapping[str, Any]) -> None:
        """Take note that a run has use for the copy of its dataset."""
        folder = self.folder_of(descriptor)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / f"{_RUN}{quote(run_id, safe='')}").touch(mode=0o600)

    def drop(self, run_id: str, descriptor: Mapping[str, Any]) -> None:
        """Remove the copy of a run's dataset if no other run has use for it; what cannot be removed stays."""
        _leave(self.folder_of(descriptor) / f"{_RUN}{quote(run_id, safe='')}")

    def drop_spools(self, run_id: str) -> None:
        """Remove the spools that were made on this node for a run: its own, or one that runs of its steps share."""
        with contextlib.suppress(OSError):
            for path in (self._data_dir / SPOOL_FOLDER).glob(f"{glob.escape(run_id)}-????????.spool"):
                with contextlib.suppress(OSError):  # the others go all the same
                    path.unlink()

    def drop_if_empty(self, run_id: str, descriptor: Mapping[str, Any]) -> None:
        """Remove the copy for a run of which nothing is here yet."""
        if not any(path for path in self.folder_of(descriptor).glob("*") if not path.name.startswith(_RUN)):
            self.drop(run_id, descriptor)

    def runs(self) -> list[str]:
        """Return the runs that copies are kept for."""
        return sorted({unquote(path.name.removeprefix(_RUN)) for path in self._folder.glob(f"*/{_RUN}*")})

    def age_of(self, run_id: str, now: float) -> float:
        """Return for how many seconds a run has had use for copies; by the clock of the disk."""
        times = []
        with contextlib.suppress(OSError):  # one has just been removed: it is looked at again
            for path in self._folder.glob(f"*/{_RUN}{quote(run_id, safe='')}"):
                times += [path.stat().st_mtime]
        return now - min(times, default=now)

    def spools(self) -> list[tuple[str, Path]]:
        """Return the spools that were made on this node, each with its run."""
        found = (self._data_dir / SPOOL_FOLDER).glob("*-????????.spool")
        return [(path.name[: -len("-????????.spool")], path) for path in found]

    def drop_all_of(self, run_id: str) -> None:
        """Remove the copies that were kept for a run, whatever its dataset is; what cannot be removed stays."""
        with contextlib.suppress(OSError):
            for path in self._folder.glob(f"*/{_RUN}{quote(run_id, safe='')}"):
                _leave(path)


def _leave(mark: Path) -> None:
    """Remove the mark of a run, and the copy where it was the last one.

    Whoever removes something has done with a run what matters: a disk that refuses is no reason to fail.
    """
    with contextlib.suppress(OSError):
        mark.unlink(missing_ok=True)
        if mark.parent.exists() and not any(mark.parent.glob(f"{_RUN}*")):
            shutil.rmtree(mark.parent, ignore_errors=True)


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
