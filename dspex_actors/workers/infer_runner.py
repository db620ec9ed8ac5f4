"""What an inference is in a worker: the program is called, its outputs are checked, nothing is scored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dspex_actors.example import Example
from dspex_actors.foundation.codec import pack
from dspex_actors.runs.snapshot import Surroundings
from dspex_actors.runs.spec import Job, load_code
from dspex_actors.runs.work import Result
from dspex_actors.settings import record_calls
from dspex_actors.workers.calling import Program, fields_of
from dspex_actors.workers.runner import finish_reason_of


class InferRunner:
    """Calls the program."""

    def __init__(self, job: Job) -> None:
        """Open it."""
        self._surroundings = Surroundings(job)
        self._program = Program(load_code(job.program))
        #: Raises where the outputs are not right; None: they go to a processor first, which does that.
        self._check: Callable[[dict[str, Any]], None] | None = load_code(job.metric) if job.metric else None

    async def attempt(self, example: Example) -> Result:
        """Return its prediction."""
        with self._surroundings.here(), record_calls() as calls:
            fields = fields_of(await self._program(dict(example.inputs().items())))
            if self._check is not None:
                self._check(fields)
            prediction = pack(fields)
        return Result(prediction=prediction, success=True, finish_reason=finish_reason_of(calls))
