"""What an evaluation does with one example: call the program, score its prediction."""

from __future__ import annotations

from dspex_actors.example import Example
from dspex_actors.foundation.codec import pack
from dspex_actors.lm.lm import LM
from dspex_actors.metrics import check_score
from dspex_actors.runs.spec import Job, load_code
from dspex_actors.settings import context
from dspex_actors.workers.calling import Metric, call_program, fields_of
from dspex_actors.workers.runner import Outcome, error_record


class EvaluateRunner:
    """Calls the program and scores its prediction."""

    def __init__(self, job: Job) -> None:
        """Open program and metric."""
        self._program = load_code(job.program)
        self._metric = Metric(load_code(job.metric))
        self._lm = LM.from_dict(job.lm) if job.lm is not None else None

    async def attempt(self, example: Example) -> Outcome:
        """Return the prediction and its score; a metric that fails keeps the prediction that was paid for."""
        with context(lm=self._lm):
            prediction = await call_program(self._program, example.inputs().toDict())
            packed = pack(fields_of(prediction))
            try:
                score = check_score(await self._metric(example, prediction))
            except Exception as error:
                record = error_record(error)
                record["message"] = f"the metric failed: {record['message']}"
                record["final"] = True  # asking for the same prediction again would not mend it
                return Outcome(prediction=packed, error=record)
        return Outcome(prediction=packed, score=score, success=bool(score))
