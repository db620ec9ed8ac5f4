"""What a worker needs to know of a run: program, metric, LM, kind. Sent once per worker and run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dspex_actors.foundation import moved
from supervisors.wire import pickles

Kind = str

#: A new evaluator waits for the calls that its dead predecessor had in flight at most so long, in seconds; what takes
#: longer is asked again.
INHERIT_SECONDS = 20.0


@dataclass(frozen=True)
class Job:
    """A run's code and settings.

    Args:
        run_id: the run.
        kind: evaluate, or bootstrap (the program's trace comes back with each result).
        program: the program, pickled; user code by value.
        metric: the metric, pickled.
        lm: the LM's settings for programs that have none of their own; None: none.
        options: settings of the kind.
    """

    run_id: str
    kind: Kind
    program: bytes
    metric: bytes
    lm: dict[str, Any] | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def to_list(self) -> list[Any]:
        """Return it as plain data."""
        return [self.run_id, self.kind, self.program, self.metric, self.lm, self.options]


def dump_code(value: Any) -> bytes:
    """Pickle a program or a metric; what is not in an installed package goes by value."""
    return pickles.dumps(value)


def load_code(data: bytes) -> Any:
    """Open `dump_code`'s bytes; only in a worker, where user code runs."""
    return moved.loads(data)
