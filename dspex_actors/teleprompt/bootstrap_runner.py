"""What a worker does with one example of a bootstrap: the teacher tries, the metric decides.

The settings of a run of kind `bootstrap`, plain data in `Job.options`:
    max_rounds         how often an example may be tried
    metric_threshold   what the metric's value has to reach; None or 0: any true value passes
    rule.max_errors    the bootstrap ends with the so-many-th error
    teacher_settings   settings (not the LM) for the teacher's calls, pickled, in base64; None: none
"""

from __future__ import annotations

import numbers
from itertools import compress
from typing import Any

from dspex_actors.example import Example
from dspex_actors.foundation.codec import CodecError, pack
from dspex_actors.lm.lm import LM
from dspex_actors.lm.reply import LMReply
from dspex_actors.metrics import judged
from dspex_actors.programs.module import Module
from dspex_actors.runs.snapshot import Surroundings, open_settings
from dspex_actors.runs.spec import Job, load_code
from dspex_actors.runs.work import Result
from dspex_actors.teleprompt.bootstrap_select import Attempt, Step, passes, steps_of
from dspex_actors.workers.calling import Metric, Program
from dspex_actors.workers.runner import row_record, verdict_of

#: Providers that take a seed.
_SEEDED = frozenset({"openai", "gemini", "cohere", "embedded"})


class Rollout:
    """An LM that is asked for another answer than before: temperature 1, and another seed where it takes one.

    It asks through the LM itself and changes the calls' parameters only, so that connections, limits and
    budgets stay those of the LM. A predictor's own parameters win, as they do over any LM's.

    Args:
        lm: the LM.
        number: the round, from 1.
    """

    def __init__(self, lm: LM, number: int) -> None:
        """Prepare the parameters."""
        self._lm = lm
        self._params: dict[str, Any] = {"temperature": 1.0}
        others = [*lm.fallbacks, *(lm.context_fallbacks or ()), *(lm.content_fallbacks or ())]
        models = [lm.model, *(other if isinstance(other, str) else other.model for other in others)]
        if all(model.partition("/")[0] in _SEEDED for model in models):
            self._params["seed"] = (lm.kwargs.get("seed") or 0) + number

    def __getattr__(self, name: str) -> Any:
        """Return what the LM has."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._lm, name)

    def __call__(self, prompt: Any = None, **params: Any) -> LMReply:
        """Ask and wait."""
        return self._lm(prompt, **{**self._params, **params})

    async def acall(self, prompt: Any = None, **params: Any) -> LMReply:
        """Ask."""
        return await self._lm.acall(prompt, **{**self._params, **params})


class BootstrapRunner:
    """Tries examples with the teacher, several of them at the same time."""

    def __init__(self, job: Job) -> None:
        """Open teacher and metric."""
        options = job.options
        self._program = job.program
        self._teacher: Module = load_code(job.program)
        self._metric = Metric(load_code(job.metric))
        self._surroundings = Surroundings(job)
        self._rounds: int = options["max_rounds"]
        self._threshold: float | None = options["metric_threshold"]
        self._max_errors: int = options["rule"]["max_errors"]
        self._settings = open_settings(options["teacher_settings"])
        self._keys = [[_key(demo) for demo in predictor.demos] for predictor in self._teacher.predictors()]

    async def attempt(self, example: Example) -> Result:
        """Try the example, round after round, until it passes.

        A round that raises is an error of this example: it is noted and the next round goes on. Only a limit on speed
        is raised: the example goes back and is tried again as if nothing had been. The result's prediction is
        `Attempt.to_fields`.
        """
        teacher = self._teacher_for(example)
        call = Program(teacher)
        errors: list[dict[str, Any]] = []
        failure: str | None = None
        for number in range(self._rounds):
            try:
                made = await self._round(teacher, call, example, number)
                if made is not None:
                    attempt = Attempt(True, made[0], errors, made[1])
                    return Result(prediction=pack(attempt.to_fields()), score=1.0, success=True)
            except Exception as error:
                failure, again = verdict_of(error)
                if again == "free":
                    raise
                errors.append(row_record(error))
                if len(errors) >= self._max_errors:
                    break  # the bootstrap ends here, so there is no next round
        packed = pack(Attempt(errors=errors).to_fields())
        if errors:
            return Result(prediction=packed, error=errors[-1], failure=failure)
        return Result(prediction=packed, score=0.0)

    async def _round(
        self, teacher: Module, call: Program, example: Example, number: int
    ) -> tuple[list[Step], float] | None:
        """Return the teacher's steps if the metric lets them pass, and what it said of them."""
        trace: list[Any] = []
        lm = self._surroundings.lm
        if number and isinstance(lm, LM):
            lm = Rollout(lm, number)
        with self._surroundings.here(**{**self._settings, "lm": lm, "trace": trace}):
            prediction = await call({**example.inputs()})
            value = judged(await self._metric(example, prediction, trace))
        if not passes(value, self._threshold):
            return None
        return steps_of(teacher, trace), float(value) if isinstance(value, numbers.Real) else 1.0

    def _teacher_for(self, example: Example) -> Module:
        """Return a teacher that has no demo equal to the example; all others share one meanwhile."""
        key = _key(example)
        keep = [
            [not _same(*pair, example, key) for pair in zip(predictor.demos, keys, strict=True)]
            for predictor, keys in zip(self._teacher.predictors(), self._keys, strict=True)
        ]
        if all(all(row) for row in keep):
            return self._teacher
        # Opened anew rather than deep-copied: a copy may share what cannot be copied, a predictor included.
        teacher: Module = load_code(self._program)
        for predictor, row in zip(teacher.predictors(), keep, strict=True):
            predictor.demos = list(compress(predictor.demos, row))
        return teacher


def _same(demo: Any, demo_key: bytes | None, example: Example, key: bytes | None) -> bool:
    """Tell whether a demo is the example: equal, or packed alike.

    DSPy's bookkeeping fields do not count, they do not travel with an example. The packed form tells for
    values that refuse to be compared (arrays) or do not equal themselves (NaN).
    """
    if not isinstance(demo, Example):
        return False  # the dict of a loaded program: no example is equal to it
    if key is not None and key == demo_key:
        return True
    try:
        return dict(demo.items()) == dict(example.items())
    except Exception:
        return False


def _key(demo: Any) -> bytes | None:
    try:
        return pack(sorted(demo.items(), key=lambda item: item[0]))
    except CodecError:
        return None
