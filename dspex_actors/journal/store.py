"""What the coordinator of a run needs of what keeps runs: a file, a server, or several nodes.

A run belongs to one coordinator at a time, who has claimed it with an epoch. Epochs come from the leases of a cluster
(`supervisors.cluster.leases`) and rise with each holder; a node alone never claims, its runs have epoch 0. Whatever
comes with another epoch than the claimed one is refused in the transaction that would have written it (`Fenced`): a
coordinator that was stopped, cut off or forgotten writes nothing any more.

Rows come in batches. An evaluator numbers them from 1, and says which opening of the run they belong to: one that is
sent twice, because its acknowledgement was lost, is one batch. Each change of a run has a number, `seq`, without gaps
where rows were written; a copy that has everything up to one number asks for what is behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from dspex_actors.journal.records import RunRow
from dspex_actors.journal.schema import Values


class Batch(NamedTuple):
    """Which batch it is.

    Args:
        opening: which opening of the run it belongs to (`RunRow.epoch`); 0: not numbered.
        number: from 1, in the order in which they are written.
    """

    opening: int
    number: int


#: Rows that nobody sends twice.
UNNUMBERED = Batch(0, 0)


class Appended(NamedTuple):
    """What became of a batch.

    Args:
        seq: the run's number when it was in.
        new: how many of its results were new; 0 for a batch that was there already.
    """

    seq: int
    new: int


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A batch that is in: by its examples, whose rows are where all rows are.

    Args:
        seq: its number.
        epoch: of the coordinator that wrote it.
        batch: which one it was.
        results: the indices whose results were new, ascending.
        attempts: the indices whose requests came with it, ascending.
        is_claim: nothing was written: from here on the run belongs to the coordinator of `epoch`.
    """

    seq: int
    epoch: int
    batch: Batch
    results: Sequence[int] = ()
    attempts: Sequence[int] = ()
    is_claim: bool = False


class RunStore(Protocol):
    """Keeps runs. Every method has happened, on the disk of all who have to have it, when it returns.

    Each may raise JournalError (it cannot be done just now: nothing of it has happened, try again), and each that names
    a run ConfigError where there is none.
    """

    def claim(self, run_id: str, epoch: int, owner: str) -> RunRow:
        """Take a run over; from now on nobody writes it with another epoch.

        Args:
            run_id: the run.
            epoch: of the lease that its coordinator holds.
            owner: the coordinator's node, as the lease names its holder.

        Raises:
            Fenced: somebody has claimed it with a greater epoch, or another owner with the same one.
        """
        ...

    def append(
        self, run_id: str, epoch: int, batch: Batch, results: Sequence[Values], attempts: Sequence[Values]
    ) -> Appended:
        """Write a batch, its run's counters and its log entry, all or nothing.

        A result whose index is there is left out, so is a request that is there already, and a batch that came before.
        One without rows changes nothing, and asks whether the run is still claimed with this epoch: whoever stood still
        does, and gives out nothing before the answer. No store may answer it from memory.

        Raises:
            Fenced: the run was claimed with another epoch.
        """
        ...

    def log_since(self, run_id: str, seq: int, limit: int = 100) -> list[LogEntry]:
        """Return at most `limit` entries with a number above `seq`, by number."""
        ...

    def list_runs(self, *, limit: int = 1000) -> list[RunRow]:
        """Return the runs, newest first."""
        ...

    def get_run(self, run_id: str) -> RunRow | None:
        """Load a run, None where there is none."""
        ...
