"""The keeper's part in datasets: it gives those of its runs to other nodes, and keeps copies of theirs.

A run that another node may have to go on with has its dataset on two nodes more, while it runs: what is nowhere but on
the node that has died cannot be fetched from there. A node that can read it at its path keeps no copy.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dspex_actors.data.view import file_of
from dspex_actors.errors import DspexError
from dspex_actors.journal.base import JournalBase
from dspex_actors.journal.errors import JournalError
from dspex_actors.journal.records import RunRow
from dspex_actors.journal.sameness import HELD
from dspex_actors.names import RUNS
from dspex_actors.runs.datasets.fetching import fetch
from dspex_actors.runs.datasets.messages import PIECE_BYTES, DropCopy, GetCopy, GetPiece, Held, KeepCopy
from dspex_actors.runs.datasets.store import Copies, digest_of
from supervisors import Caller, GenServer
from supervisors.cluster.membership.messages import MEMBERSHIP, Lookup
from supervisors.errors import SupervisorsError

#: So many nodes have the dataset of a run beside the one that has the run.
NODES = 2
#: Whether all have it is looked at this often, and after copies that nobody needs any more, in seconds.
LOOK_SECONDS, TIDY_SECONDS = 1.0, 60.0
#: A copy for a run that this node does not know is of one that was deleted when it is so old, in seconds.
GONE_SECONDS = 3600.0
#: A copy that could not be made is tried again after so many seconds.
AGAIN_SECONDS = 5.0


class Keeping:
    """Datasets, for the keeper of runs of one node.

    Args:
        keeper: the keeper.
        journal: its journal.
        others: returns the nodes that may go on with a run of this one.
    """

    def __init__(self, keeper: GenServer, journal: JournalBase, others: Callable[[RunRow], list[str]]) -> None:
        """Give nothing, and keep what there is."""
        self._keeper, self._journal, self._others = keeper, journal, others
        self._me = str(keeper.node["name"])
        self._copies = Copies(Path(keeper.node["data_dir"]))
        #: What was said to be held: SHA-256 → its file, and size and time of that when it was read.
        self._held: dict[str, tuple[Path, tuple[int, int]]] = {}
        #: Run → the nodes that were told to keep its dataset.
        self._told: dict[str, set[str]] = {}
        self._getting: set[str] = set()
        self._begun = False

    def begin(self) -> None:
        """Have the datasets of runs where they may be needed; nothing where no other node has this one's runs."""
        if (self._journal.is_far or self._journal.is_leased) and not self._begun:
            self._begun = True
            self._keeper.spawn(self._keep_looking())

    # --- those of this node's runs ----------------------------------------------------------------------------------

    async def _keep_looking(self) -> None:
        looks = 0
        while True:
            with contextlib.suppress(JournalError, OSError):
                if looks % int(TIDY_SECONDS / LOOK_SECONDS) == 0:
                    await asyncio.to_thread(self._tidy)
                rows = await asyncio.to_thread(self._running)
                for row in rows:
                    await self._spread(row)
                self._forget(rows)
            looks += 1
            await asyncio.sleep(LOOK_SECONDS)

    def _running(self) -> list[RunRow]:
        rows = self._journal.list_runs(state="running")
        return [row for row in rows if row.owner == self._journal.owner and row.spec.kind not in HELD]

    async def _spread(self, row: RunRow) -> None:
        """Tell those nodes to keep the dataset of a run that come first for it, and have not been told.

        What runs of an optimisation share goes to the same nodes for all of them, and stays there from one to the next.
        """
        whose = _whose(row)
        others = sorted(self._others(row), key=lambda node: _place(node, whose))[:NODES]
        for run_id in dict.fromkeys((whose, row.run_id)):
            told = self._told.setdefault(run_id, set())
            told &= set(others)  # one that was away is told once more
            for node in [node for node in others if node not in told]:
                with contextlib.suppress(SupervisorsError):
                    keeper = await self._keeper.call(MEMBERSHIP, Lookup(node, RUNS))
                    self._keeper.cast(keeper, KeepCopy(run_id, _whole(row), self._me))
                    told.add(node)

    def _forget(self, running: list[RunRow]) -> None:
        """Forget who was told of runs that have ended without a result, or pause: what goes on is told anew."""
        named = {run_id for row in running for run_id in (_whose(row), row.run_id)}
        self._told = {run_id: nodes for run_id, nodes in self._told.items() if run_id in named}

    def drop(self, row: RunRow) -> None:
        """Have nothing more kept of the dataset of a run, here and elsewhere."""
        self._copies.drop_all_of(row.run_id)
        self._copies.drop_spools(row.run_id)
        self._told.pop(row.run_id, None)
        if self._begun:
            self._keeper.spawn(self._tell_all(DropCopy(row.run_id, _whole(row)), self._others(row)))

    async def _tell_all(self, message: DropCopy, nodes: list[str]) -> None:
        for node in nodes:  # one that is away looks for itself when it is back
            with contextlib.suppress(SupervisorsError):
                self._keeper.cast(await self._keeper.call(MEMBERSHIP, Lookup(node, RUNS)), message)

    # --- those of others --------------------------------------------------------------------------------------------

    def hear(self, message: KeepCopy | DropCopy) -> None:
        """Keep a copy, or drop it."""
        match message:
            case KeepCopy(run_id, descriptor, node):
                if run_id not in self._getting:
                    self._getting.add(run_id)
                    self._keeper.spawn(self._get(run_id, descriptor, node))
            case DropCopy(run_id, _):
                self._getting.discard(run_id)
                self._copies.drop_all_of(run_id)
                self._copies.drop_spools(run_id)  # it was this node's run

    async def _get(self, run_id: str, descriptor: dict[str, Any], node: str) -> None:
        said = None
        try:
            while run_id in self._getting:
                with contextlib.suppress(DspexError, OSError):
                    _, path = await asyncio.to_thread(self._copies.open, descriptor)
                    if path == self._copies.path_of(descriptor):
                        self._copies.use(run_id, descriptor)  # of another run, too
                    return
                failed = await fetch(self._keeper, run_id, descriptor, [node])
                if failed is not None and failed != said:
                    self._keeper.log.warning("a dataset is not copied here", run=run_id, why=failed)
                said = failed
                if failed is not None:
                    await asyncio.sleep(AGAIN_SECONDS)
                    if not await asyncio.to_thread(self._is_needed, run_id):
                        return
        finally:
            self._getting.discard(run_id)

    def _is_needed(self, run_id: str) -> bool:
        try:
            row = self._journal.get_run(run_id)
        except JournalError:
            return True  # nobody knows
        return row is None or row.state != "finished"  # it may be on its way here

    def _tidy(self) -> None:
        """Remove copies, and spools, of runs that ended while this node was away."""
        for run_id, path in self._copies.spools():
            # One of a run that is not there is just being made.
            if (row := self._journal.get_run(run_id)) is not None and row.state == "finished":
                with contextlib.suppress(OSError):
                    path.unlink()
        for run_id in self._copies.runs():
            is_old = self._copies.age_of(run_id, time.time()) > GONE_SECONDS
            if not self._is_needed(run_id) or (is_old and self._journal.get_run(run_id) is None):
                self._copies.drop_all_of(run_id)
        for digest, (path, _) in list(self._held.items()):
            if not path.exists():
                self._held.pop(digest, None)

    # --- giving -----------------------------------------------------------------------------------------------------

    async def give(self, request: GetCopy | GetPiece, caller: Caller) -> None:
        """Answer beside everything else: reading takes its time."""
        answer: Any
        match request:
            case GetCopy(descriptor):
                try:
                    answer = "ok", await asyncio.to_thread(self._hold, descriptor)
                except DspexError as error:
                    answer = "error", error.to_record()
                except OSError as error:
                    answer = "error", DspexError(str(error)).to_record()
            case GetPiece(digest, offset):
                answer = await asyncio.to_thread(self._piece, digest, offset)
        self._keeper.reply(caller, answer)

    def _hold(self, descriptor: dict[str, Any]) -> Held:
        _, path = self._copies.open(descriptor)
        looks = _looks(path)
        for digest, known in list(self._held.items()):  # as it is now: other threads add to it
            if known == (path, looks):
                return Held(digest, looks[0])
        digest = digest_of(path)
        self._held[digest] = path, looks
        return Held(digest, looks[0])

    def _piece(self, digest: str, offset: int) -> bytes | None:
        path, looks = self._held.get(digest, (None, None))
        try:
            if path is None or _looks(path) != looks:
                return None
            with path.open("rb") as file:
                return os.pread(file.fileno(), PIECE_BYTES, offset)
        except OSError:
            return None


def _looks(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _place(node: str, run_id: str) -> bytes:
    """Return where a node stands in the order of a run: in another one for each, the same for all who ask."""
    return hashlib.sha256(f"{run_id}\n{node}".encode()).digest()


def _whose(row: RunRow) -> str:
    """Return whose dataset it is: of a view the optimisation's, else the run's own."""
    descriptor = row.spec.dataset
    return row.spec.parent_id or row.run_id if file_of(descriptor) is not descriptor else row.run_id


def _whole(row: RunRow) -> dict[str, Any]:
    """Return the descriptor of a run's dataset with its digest, which those of older runs lack."""
    return {"digest": row.spec.dataset_digest, **row.spec.dataset}
