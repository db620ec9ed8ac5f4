"""`dspex.evaluate`: a program on a dataset, on all workers of the node."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from dspex_actors.client.inputs import check_called, plain_numbers
from dspex_actors.client.labels import check_labels
from dspex_actors.client.result import EvaluationResult
from dspex_actors.client.system import System, current_system
from dspex_actors.data.dataset import OnBadLine
from dspex_actors.lm import settings as check
from dspex_actors.lm.base import BaseLM
from dspex_actors.metrics import check_score
from dspex_actors.names import check_run_id, run_command
from dspex_actors.runs.plan.types import PlanSettings
from dspex_actors.runs.spec import EXAMPLE_SECONDS
from dspex_actors.settings import settings

#: The seed project's words for `failures`.
_FAILURES = {"skip_failed": "skip", "none": "stop"}


def evaluate(
    program: Any,
    devset: Any,
    metric: Any,
    *,
    lm: BaseLM | None = None,
    max_in_flight: int = 256,
    failures: str = "retry",
    max_attempts: int = 3,
    max_failures: int | None = None,
    failure_score: float | None = None,
    strategy: str = "load_balanced",
    deadline: float = EXAMPLE_SECONDS,
    run_id: str | None = None,
    display_progress: bool = True,
    on_progress: Callable[[dict[str, Any]], None] | None = None,
    limit: int | None = None,
    on_bad_line: OnBadLine = "stop",
    system: System | None = None,
    force_resume: bool = False,
) -> EvaluationResult:
    """Evaluate a program on a dataset and wait for the result.

    Every result is in the node's journal 250 ms after it arrived at the latest. A worker that dies costs only what
    it had in flight; if this program dies the run goes on (on the daemon's node), and `run_id` continues it.

    Args:
        program: a Module, or any callable program.
        devset: list, iterator, or path to JSONL or CSV (gzip too); never loaded whole.
        metric: `metric(example, prediction, trace=None)` → bool or number; sync or async.
        lm: for predictors that have none of their own. None: the one in the settings (`context`, `configure`), else the
            connection's; where `system` is given, that connection's before what `configure` has set.
        max_in_flight: examples at once, all workers together.
        failures: retry (elsewhere, up to `max_attempts` times), skip, stop.
        max_attempts: attempts per example; a 429 is none.
        max_failures: end the run when more than so many examples have failed; None: never.
        failure_score: what a failed example counts as; None: it has no score.
        strategy: round_robin, capability_aware, load_balanced.
        deadline: seconds that one example may take, all its LM calls and its metric included. Then it has failed, also
            when its program blocks a thread, which cannot be ended and is left alone.
        run_id: continue this run; a finished one answers from the journal. Only the same run goes on: program, metric,
            dataset, the LM's model and parameters, settings that change an answer.
        display_progress: a bar on standard error, if that is a terminal.
        on_progress: called with the run's summary as it goes.
        limit: only the first so many examples.
        on_bad_line: of a file: stop or skip.
        system: the connection; None: the one made last.
        force_resume: continue `run_id` also where it was another run, or was cancelled: "I know".

    Raises:
        ConfigError: something is not usable as given, or `run_id` is another run; it names what differs.
        RunFailed: the run ended without a result.
        RunInterrupted: the node went away; `run_id` continues it.
    """
    check_called(program, metric)
    if run_id is not None:
        check_run_id(run_id)
    failures = _FAILURES.get(failures, failures)
    plan = plain_numbers(
        {
            "max_in_flight": max_in_flight,
            "failures": failures,
            "max_attempts": max_attempts,
            "max_failures": max_failures,
            "strategy": strategy,
        }
    )
    PlanSettings(**plan)  # refuses what makes no sense, before anything starts
    if failure_score is not None:
        failure_score = check_score(failure_score, "failure_score")
    check_labels(program, devset, metric)
    with (system or current_system()).holding(run_id) as at:
        run_id = at.start_run(
            "evaluate",
            program,
            devset,
            metric,
            lm=lm if system is not None else lm or settings.lm,
            settings=plan | {"failure_score": failure_score, "deadline": check.seconds("deadline", deadline)},
            run_id=run_id,
            limit=limit,
            on_bad_line=on_bad_line,
            force_resume=force_resume,
        )
        try:
            return at.wait_run(run_id, on_progress, display_progress)
        except KeyboardInterrupt:
            at.pause(run_id, "interrupted by Ctrl-C")
            print(f"run {run_id} is paused; resume with `{run_command('resume', run_id)}`", file=sys.stderr)
            raise
