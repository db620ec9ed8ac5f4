"""What an evaluation does with one example: call the program, score its prediction.

Beside the settings of every run (`runs.snapshot`) those of kind `evaluate`, in `Job.options`:
    traces   keep what the program's predictors were given and gave (`workers.traced`); not there: no
"""

from __future__ import annotations

import asyncio
from typing import Any

from dspex_actors.errors import ConfigError
from dspex_actors.example import Example
from dspex_actors.foundation.codec import pack
from dspex_actors.foundation.scores import METRIC_FAILED, beside, check_score
from dspex_actors.lm.backend import LoopBlocked
from dspex_actors.runs.snapshot import Surroundings
from dspex_actors.runs.spec import Job, load_code
from dspex_actors.runs.work import Result
from dspex_actors.settings import record_calls
from dspex_actors.workers.calling import Metric, Program, fields_of
from dspex_actors.workers.runner import cached_of, failed, finish_reason_of, row_record, verdict_of
from dspex_actors.workers.traced import Traced

#: What ends the work on an example from outside, or is told by who calls `attempt`. All else is what user code raises.
NOT_OF_USERS = (LoopBlocked, asyncio.CancelledError, GeneratorExit)
#: Values of metrics that have nothing beside them.
_PLAIN = (bool, float, int)


class EvaluateRunner:
    """Calls the program and scores its prediction."""

    _traced: Traced | None = None

    def __init__(self, job: Job) -> None:
        """Open program and metric."""
        self._surroundings = Surroundings(job)
        program = load_code(job.program)
        self._program = Program(program)
        self._metric = Metric(load_code(job.metric), tries=_tries(job.options))
        if job.options.get("traces"):
            self._traced = Traced(program)

    async def attempt(self, example: Example) -> Result:
        """Return the prediction and its score; a metric that fails keeps the prediction that was paid for."""
        inputs, unread = dict(example.inputs().items()), None
        with self._surroundings.here():
            with record_calls() as calls:
                try:
                    prediction = await self._program(inputs)
                    made = Result(prediction=pack(fields_of(prediction)))
                except NOT_OF_USERS:
                    raise
                except BaseException as error:
                    made, unread = failed(error), error
            extra = {} if self._traced is None else self._traced.kept(inputs, unread)
            made.finish_reason, made.cached = finish_reason_of(calls), cached_of(calls)
            if made.error is not None:
                made.extra = pack(extra) if extra else None
                return made
            try:
                value = await self._metric(example, prediction)
                made.score = check_score(value)
                if type(value) not in _PLAIN:
                    extra |= beside(value)
            except LoopBlocked as error:
                _metric_failed(made, ConfigError(str(error)))
            except NOT_OF_USERS:
                raise
            except BaseException as error:
                _metric_failed(made, error)
        if extra:
            made.extra = pack(extra)
        made.success = bool(made.score)
        return made


def _tries(options: dict[str, Any]) -> int:
    """Return how often a metric is tried whose LM gives up: the rule for examples, see `PlanSettings`."""
    return (options.get("max_attempts") or 1) if options.get("failures") == "retry" else 1


def _metric_failed(made: Result, error: BaseException) -> None:
    """Enter an error of the metric; not asked again: the same prediction would be paid twice."""
    made.error = row_record(error)
    why = made.error["message"] or made.error["type"]  # a bare `assert` has no text
    made.error["message"] = f"{METRIC_FAILED}{why}"
    made.failure = verdict_of(error)[0]
