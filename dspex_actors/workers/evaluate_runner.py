"""What an evaluation does with one example: call the program, score its prediction."""

from __future__ import annotations

import asyncio
from typing import Any

from dspex_actors.errors import ConfigError
from dspex_actors.example import Example
from dspex_actors.foundation.codec import pack
from dspex_actors.lm.backend import LoopBlocked
from dspex_actors.metrics import check_score
from dspex_actors.runs.snapshot import Surroundings
from dspex_actors.runs.spec import Job, load_code
from dspex_actors.settings import record_calls
from dspex_actors.workers.calling import Metric, Program, fields_of
from dspex_actors.workers.runner import Outcome, error_record, failed, finish_reason_of, verdict_of

#: What ends the work on an example from outside, or is told by who calls `attempt`. All else is what user code raises.
NOT_OF_USERS = (LoopBlocked, asyncio.CancelledError, GeneratorExit)


class EvaluateRunner:
    """Calls the program and scores its prediction."""

    def __init__(self, job: Job) -> None:
        """Open program and metric."""
        self._surroundings = Surroundings(job)
        self._program = Program(load_code(job.program))
        self._metric = Metric(load_code(job.metric), tries=_tries(job.options))

    async def attempt(self, example: Example) -> Outcome:
        """Return the prediction and its score; a metric that fails keeps the prediction that was paid for."""
        with self._surroundings.here():
            with record_calls() as calls:
                try:
                    prediction = await self._program({**example.inputs()})
                    made = Outcome(prediction=pack(fields_of(prediction)))
                except NOT_OF_USERS:
                    raise
                except BaseException as error:
                    made = failed(error)
            made.finish_reason = finish_reason_of(calls)
            if made.error is not None:
                return made
            try:
                made.score = check_score(await self._metric(example, prediction))
            except LoopBlocked as error:
                _metric_failed(made, ConfigError(str(error)))
            except NOT_OF_USERS:
                raise
            except BaseException as error:
                _metric_failed(made, error)
        made.success = bool(made.score)
        return made


def _tries(options: dict[str, Any]) -> int:
    """Return how often a metric is tried whose LM gives up: the rule for examples, see `PlanSettings`."""
    return (options.get("max_attempts") or 1) if options.get("failures") == "retry" else 1


def _metric_failed(made: Outcome, error: BaseException) -> None:
    """Enter an error of the metric; not asked again: the same prediction would be paid twice."""
    made.error = error_record(error)
    made.error["message"] = f"the metric failed, the prediction is kept: {made.error['message']}"
    made.failure = verdict_of(error)[0]
