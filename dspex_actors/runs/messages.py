"""What an evaluator asks the keeper of runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from dspex_actors.journal.records import RunState
from dspex_actors.journal.rows import packed_rows
from dspex_actors.journal.schema import Values
from supervisors import Ref, message

#: What a batch has as its rows that only asks whether the run is still the evaluator's own.
NO_ROWS = packed_rows([], [])


@message(55)
@dataclass(frozen=True, slots=True)
class Add:
    """Write results and requests down: on every disk they have to be on when the keeper answers.

    The reply is how many results were new. One that comes twice is one batch. With `NO_ROWS` it asks whether the run is
    still its evaluator's own, which may have stood still.

    Args:
        run_id: the run.
        epoch: of the coordinator that the evaluator belongs to; another one's is refused.
        opening: which opening of the run, and
        number: which batch of it, from 1.
        rows: results and requests, as `packed_rows` makes them: packed once, wherever they go.
        after: the batch that has to be written before this one; 0: any.
    """

    VERSION: ClassVar[int] = 3

    run_id: str
    epoch: int
    opening: int
    number: int
    rows: bytes
    after: int = 0


@message(56)
@dataclass(frozen=True, slots=True)
class End:
    """The evaluator's last word on its run.

    Args:
        run_id: the run.
        state: finished or failed.
        reason: why, for people.
        total: how many examples there are; None: not known.
    """

    VERSION: ClassVar[int] = 1

    run_id: str
    state: RunState
    reason: str | None
    total: int | None


@message(150)
@dataclass(frozen=True, slots=True)
class Paid:
    """Sums over what a worker has asked outside of runs: on the disk when the keeper answers.

    Args:
        worker: the worker.
        batch: its number, from 1: one that comes twice counts once.
        rows: as `journal.spend.Sums.take` gives them.
    """

    VERSION: ClassVar[int] = 1

    worker: Ref
    batch: int
    rows: list[Values]


@message(57)
@dataclass(frozen=True, slots=True)
class Note:
    """How the run is doing, as far as the journal does not know it. A cast."""

    VERSION: ClassVar[int] = 1

    run_id: str
    note: dict[str, Any]
