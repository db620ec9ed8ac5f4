"""What the coordinator of optimisations understands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from supervisors import message


@message(320)
@dataclass(frozen=True, slots=True)
class Begin:
    """Begin with an optimisation that the journal has, or go on with it. A call; answered as soon as it is under way.

    Args:
        run_id: its id.
    """

    VERSION: ClassVar[int] = 1

    run_id: str


@message(321)
@dataclass(frozen=True, slots=True)
class UnderWay:
    """Ask for the ids of the optimisations that the node carries out now. A call."""

    VERSION: ClassVar[int] = 1
