"""What keepers of runs, and evaluators, say to the keepers of other nodes about datasets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from supervisors import message

#: A piece has at most so many bytes: that is what a copy takes in memory, wherever it comes through.
PIECE_BYTES = 1 << 20


@message(251)
@dataclass(frozen=True, slots=True)
class GetCopy:
    """Can this dataset be had from here? The reply is a `Held`, or an error's record.

    Args:
        descriptor: of the dataset, as its run has it: only what has the digest that stands there is given.
    """

    VERSION: ClassVar[int] = 1

    descriptor: dict[str, Any]


@message(252)
@dataclass(frozen=True, slots=True)
class Held:
    """The file of a dataset.

    Args:
        digest: SHA-256 of its bytes, in hex.
        size: how many bytes it has.
    """

    VERSION: ClassVar[int] = 1

    digest: str
    size: int


@message(253)
@dataclass(frozen=True, slots=True)
class GetPiece:
    """Give a piece of a file that was `Held`. The reply is bytes; None: it is not known, or is another one by now.

    Args:
        digest: of the file.
        offset: where the piece begins; it has at most `PIECE_BYTES`.
    """

    VERSION: ClassVar[int] = 1

    digest: str
    offset: int


@message(254)
@dataclass(frozen=True, slots=True)
class KeepCopy:
    """Have the dataset of a run where you can read it: you may have to go on with the run. A cast.

    Args:
        run_id: the run.
        descriptor: of its dataset.
        node: where it can be had.
    """

    VERSION: ClassVar[int] = 1

    run_id: str
    descriptor: dict[str, Any]
    node: str


@message(255)
@dataclass(frozen=True, slots=True)
class DropCopy:
    """The run needs its dataset no more: it is finished, or deleted. A cast."""

    VERSION: ClassVar[int] = 1

    run_id: str
    descriptor: dict[str, Any]
