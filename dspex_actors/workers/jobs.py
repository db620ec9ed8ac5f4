"""What a run's program and metric are, asked once by each worker: of another node's evaluator once by each node.

The first worker of a node that asks keeps a large answer in a file, `jobs/` in the data folder, and the others read it
there. It goes with the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
from pathlib import Path

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.locks import locked
from dspex_actors.runs.spec import Job
from dspex_actors.runs.work import GetJob
from supervisors import GenServer, Ref
from supervisors.errors import CallTimeout
from supervisors.wire import pickles

FOLDER = "jobs"
#: What is smaller is asked by each worker for itself: a file would save nothing.
LARGE_BYTES = 256 << 10
#: Another worker of this node that asks just now is waited for, and looked at this often, at most so long, in seconds.
LOOK_SECONDS, WAIT_SECONDS = 0.02, 30.0


class Jobs:
    """The jobs of one worker.

    Args:
        worker: the worker.
        data_dir: its node's data folder.
    """

    def __init__(self, worker: GenServer, data_dir: Path) -> None:
        """Ask nobody yet."""
        self._worker, self._folder = worker, data_dir / FOLDER

    def clear(self) -> None:
        """Remove what is left of runs that ended while the node was away; it is asked again where it was not."""
        shutil.rmtree(self._folder, ignore_errors=True)

    async def ask(self, asks: Ref) -> Job:
        """Ask whoever gives work what it is.

        Raises:
            SupervisorsError: it is gone.
            ConfigError: it is of another version.
        """
        while True:
            try:
                job = await self._worker.call(asks, GetJob(), timeout=60.0)
                break
            except CallTimeout:
                continue  # it is there and busy: its work is here, and waits for this
        if not isinstance(job, Job):
            raise ConfigError(f"{asks} is of another version: expected a Job, got {job!r}")
        return job

    async def of_run(self, run_id: str, evaluator: Ref) -> Job:
        """Return the job of a run, of another node's from the file of this node if a worker has asked before.

        Raises:
            SupervisorsError, ConfigError: as `ask`.
        """
        own = self._worker.ref
        if (evaluator.host, evaluator.door) == (own.host, own.door):
            return await self.ask(evaluator)
        path = self._path(run_id, evaluator)
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            for _ in range(round(WAIT_SECONDS / LOOK_SECONDS)):
                with locked(path.with_suffix(".lock")) as is_ours:
                    if is_ours:
                        return await self._first(evaluator, path)
                await asyncio.sleep(LOOK_SECONDS)
        except OSError:
            pass  # no space, no folder: without the file, then
        return await self.ask(evaluator)

    async def _first(self, evaluator: Ref, path: Path) -> Job:
        try:
            known = pickles.loads(await asyncio.to_thread(path.read_bytes))
            if isinstance(known, Job):
                return known
        except FileNotFoundError:
            pass
        except Exception as error:  # whatever is wrong with a damaged file
            self._worker.log.warning("what a run is cannot be read from its file", path=str(path), why=repr(error))
        job = await self.ask(evaluator)
        if len(job.program) + len(job.metric) >= LARGE_BYTES:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(_write, path, pickles.dumps(job))
        return job

    def forget(self, run_id: str) -> None:
        """Remove the files of a run that is over."""
        if self._folder.exists():
            for path in self._folder.glob(f"{_name(run_id)}-*"):
                path.unlink(missing_ok=True)

    def _path(self, run_id: str, evaluator: Ref) -> Path:
        # Another evaluator of the run may have another program: its user has resumed it with what is right now.
        told = hashlib.blake2s(str(evaluator.uid).encode(), digest_size=8).hexdigest()
        return self._folder / f"{_name(run_id)}-{told}.job"


def _name(run_id: str) -> str:
    return hashlib.blake2s(run_id.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def _write(path: Path, data: bytes) -> None:
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as out:
            out.write(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
