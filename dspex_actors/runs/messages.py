"""What an evaluator asks the keeper of runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from dspex_actors.journal.records import RunState
from dspex_actors.journal.schema import Values
from supervisors import message


@message(55)
@dataclass(frozen=True, slots=True)
class Add:
    """Write results and requests down: on the disk when the keeper answers. The reply is how many results were new.

    Args:
        run_id: the run.
        results: as `result_values` makes them.
        attempts: as `attempt_values` makes them.
    """

    VERSION: ClassVar[int] = 1

    run_id: str
    results: list[Values]
    attempts: list[Values]


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


@message(57)
@dataclass(frozen=True, slots=True)
class Note:
    """How the run is doing, as far as the journal does not know it. A cast."""

    VERSION: ClassVar[int] = 1

    run_id: str
    note: dict[str, Any]
