"""What the keeper of a run's coordinator asks the keepers of its standbys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from supervisors import message


@message(210)
@dataclass(frozen=True, slots=True)
class GetStand:
    """How far the copy of a run is there → the fields of a `Stand`."""

    VERSION: ClassVar[int] = 1

    run_id: str


@message(211)
@dataclass(frozen=True, slots=True)
class CopyBatch:
    """Write a batch into a copy, as its evaluator has packed it → the fields of the `Stand` after it; Fenced.

    Args:
        run_id: the run.
        epoch: of its coordinator.
        seen: how far the copy is thought to be, as fields of a `Stand`; nothing is done where it is not.
        opening: which opening of the run, and
        number: which batch of it.
        rows: results and requests, as `packed_rows` makes them.
    """

    VERSION: ClassVar[int] = 1

    run_id: str
    epoch: int
    seen: list[Any]
    opening: int
    number: int
    rows: bytes


@message(212)
@dataclass(frozen=True, slots=True)
class CopyPortion:
    """Write what a copy lacks into it, by the log → the fields of the `Stand` after it; Fenced.

    Args:
        run_id: the run.
        epoch: of its coordinator.
        seen: how far the copy is thought to be, as fields of a `Stand`; nothing is done where it is not.
        anew: whether what it has is dropped first.
        portion: the fields of a `Portion`.
    """

    VERSION: ClassVar[int] = 2

    run_id: str
    epoch: int
    seen: list[Any]
    anew: bool
    portion: list[Any]


@message(280)
@dataclass(frozen=True, slots=True)
class GetPortion:
    """What of a run is behind a number, for a program that reads it from another host → the fields of a `Portion`.

    Args:
        run_id: the run.
        seq: the number; 0: all from the beginning.
    """

    VERSION: ClassVar[int] = 2

    run_id: str
    seq: int


@message(300)
@dataclass(frozen=True, slots=True)
class GetEnd:
    """How a run is on a node that may have all of it → its state, the fields of its `Stand`, its epoch at a number.

    Args:
        run_id: the run.
        seq: the number, that the copy of who asks has.
    """

    VERSION: ClassVar[int] = 1

    run_id: str
    seq: int


@message(301)
@dataclass(frozen=True, slots=True)
class GetDeleted:
    """Which runs were deleted, behind an event of a number → number, run_id, created_at of each."""

    VERSION: ClassVar[int] = 1

    number: int


@message(303)
@dataclass(frozen=True, slots=True)
class GetParts:
    """Which runs an optimisation has made → their ids.

    Args:
        run_id: the optimisation.
    """

    VERSION: ClassVar[int] = 1

    run_id: str


@message(302)
@dataclass(frozen=True, slots=True)
class DropRun:
    """A run was deleted: have no copy of it any more → whether there was one.

    Args:
        run_id: the run.
        created_at: when it was created: another run of that name stays.
    """

    VERSION: ClassVar[int] = 1

    run_id: str
    created_at: float


#: What a run's coordinator asks.
OfCoordinator = GetStand | CopyBatch | CopyPortion
#: What a program on another host, or another keeper, wants to know.
OfReader = GetPortion | GetEnd | GetParts | GetDeleted
