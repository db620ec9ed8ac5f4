"""What an evaluation does with one example: call the program, score its prediction."""

from __future__ import annotations

from typing import Any

from dspex_actors.errors import LMError
from dspex_actors.example import Example
from dspex_actors.foundation.codec import pack
from dspex_actors.lm.lm import LM
from dspex_actors.metrics import check_score
from dspex_actors.runs.spec import Job, load_code
from dspex_actors.settings import context
from dspex_actors.workers.calling import Metric, call_program, fields_of
from dspex_actors.workers.runner import Outcome, error_record, verdict_of

#: How often a metric is tried whose LM has waited for a limit on speed until its deadline.
FREE_TRIES = 3


class EvaluateRunner:
    """Calls the program and scores its prediction."""

    def __init__(self, job: Job) -> None:
        """Open program and metric."""
        self._program = load_code(job.program)
        self._metric = Metric(load_code(job.metric))
        self._lm = LM.from_dict(job.lm) if job.lm is not None else None
        #: How often a metric is tried whose LM gives up: the rule for examples, see `PlanSettings`.
        self._tries = (job.options.get("max_attempts") or 1) if job.options.get("failures") == "retry" else 1

    async def attempt(self, example: Example) -> Outcome:
        """Return the prediction and its score; a metric that fails keeps the prediction that was paid for."""
        with context(lm=self._lm):
            prediction = await call_program(self._program, example.inputs().toDict())
            packed = pack(fields_of(prediction))
            try:
                score = check_score(await self._score(example, prediction))
            except Exception as error:
                # Not asked again: the same prediction would be paid twice.
                record = error_record(error)
                record["message"] = f"the metric failed: {record['message']}"
                return Outcome(prediction=packed, error=record, failure=verdict_of(error)[0])
        return Outcome(prediction=packed, score=score, success=bool(score))

    async def _score(self, example: Example, prediction: Any) -> Any:
        """Return what the metric says; a judge that could not answer for the moment is asked again, the program not."""
        tries = 0
        while True:
            tries += 1
            try:
                return await self._metric(example, prediction)
            except LMError as error:
                again = verdict_of(error)[1]
                if again == "no" or tries >= (self._tries if again == "yes" else FREE_TRIES):
                    raise
