"""`dspex.evaluate`: a program on a dataset, on all workers of the cluster."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dspex_actors.client.in_batches import batch_settings, refuse_nodes, refuse_without_batches
from dspex_actors.client.inputs import check_called, plain_numbers
from dspex_actors.client.labels import check_given, check_labels
from dspex_actors.client.money import money_settings
from dspex_actors.client.result import EvaluationResult
from dspex_actors.client.system import System, current_system
from dspex_actors.client.where import check_where
from dspex_actors.data.dataset import OnBadLine
from dspex_actors.dspy.program import as_program
from dspex_actors.lm import settings as check
from dspex_actors.lm.base import BaseLM
from dspex_actors.metrics import check_score
from dspex_actors.names import check_run_id, run_command
from dspex_actors.programs.told import told
from dspex_actors.runs.budget import check_budget
from dspex_actors.runs.hedge import hedging
from dspex_actors.runs.plan.types import PlanSettings
from dspex_actors.runs.sample import recording
from dspex_actors.settings import check_tags, context, settings

#: The seed project's words for `failures`.
_FAILURES = {"skip_failed": "skip", "none": "stop"}


@told("evaluate")
def evaluate(
    program: Any,
    devset: Any,
    metric: Any,
    *,
    lm: BaseLM | None = None,
    max_in_flight: int | None = None,
    failures: str = "retry",
    max_attempts: int = 3,
    max_failures: int | None = None,
    failure_score: float | None = None,
    strategy: str = "load_balanced",
    requires: Mapping[str, str] | None = None,
    nodes: Sequence[str] | None = None,
    deadline: float | None = None,
    hedge: bool = True,
    batch: bool | Mapping[str, float] = False,
    trace: bool = False,
    sample: float = 0.0,
    tags: Mapping[str, str] | None = None,
    budget: float | None = None,
    unknown_price: str = "refuse",
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
        max_in_flight: examples at once, all workers together; None: 256, and 10,000 with `batch`, where it is the
            number of those that may wait (some 30 KB of memory each).
        failures: retry (elsewhere, up to `max_attempts` times), skip, stop.
        max_attempts: attempts per example; a 429 is none.
        max_failures: end the run when more than so many examples have failed; None: never.
        failure_score: what a failed example counts as; None: it has no score.
        strategy: which worker gets the next examples. load_balanced: the one with most room; round_robin: one after the
            other; capability_aware: as load_balanced, but nodes that can do more are kept free for what needs it.
        requires: labels that a node must have to work for the run, as `{"gpu": "1"}` (`dspex start --label gpu=1`).
        nodes: names of nodes; only these work for the run. None: all of the cluster that are not drained or cordoned;
            those that join meanwhile too, and of those that die the others do what they had.
        deadline: seconds that one example may take, all its LM calls and its metric included. Then it has failed, also
            when its program blocks a thread, which cannot be ended and is left alone. None: an hour, and a week with
            `batch`.
        hedge: start the last examples a second time, on another worker, where one takes far longer than the others did
            (three times as long as 95 % of them, and 2 s); the first answer counts, the other start is cancelled, and
            what both have cost is the run's (`result.hedged`). At most 5 % of the examples; never with a `budget` or
            `batch`. False: for programs and metrics that must not run twice for one example.
        batch: ask the LMs through the batch API of OpenAI or Anthropic: for half the price, and each answer may take a
            day. Examples run until they wait for an answer; what they ask together is a batch, and its answers make the
            next round. Whatever dies meanwhile, no request is submitted twice. Other LMs are refused. True, or seconds
            that are other than usual: `{"poll": 30, "gather": 5}` looks at a batch every 30 s, and submits it when no
            further request has come for 5 s. Limits on speed and the LM's own deadline do not apply.
        trace: record what happens with every example as events (`system.events`, `dspex trace`): one example's have
            the correlation id `RUN_ID/INDEX`. It costs time; else only LM limits, failures and the like are events.
        sample: record this part of the examples, 0 to 1.
        tags: what the run is for, name → text, as `{"team": "search"}`: with those of a `context(tags=...)` around it
            they are in the books of every request of the run (`dspex cost --by tag`).
        budget: US dollars that the run may cost, judges in the metric included; it is not passed. Before a request is
            made the most that it may cost is held back: the prompt, and `max_tokens` of reply (give it, else a long
            reply is assumed). Used up, the run is paused, reason "budget", and what is under way is finished. None: no
            limit, or that of the run that is continued; `math.inf` lifts it.
        unknown_price: with a budget, "refuse" LMs whose price is not known, or "warn" and let them pass uncounted.
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
        BudgetExceeded: the budget is used up (a RunInterrupted); `run_id` and a larger budget continue it.
    """
    program = as_program(program)
    check_called(program, metric)
    if run_id is not None:
        check_run_id(run_id)
    failures = _FAILURES.get(failures, failures)
    batched = batch_settings(batch, max_in_flight, deadline)
    plan = plain_numbers(
        {
            "max_in_flight": batched["max_in_flight"],
            "failures": failures,
            "max_attempts": max_attempts,
            "max_failures": max_failures,
            "strategy": strategy,
        }
    )
    PlanSettings(**plan)  # refuses what makes no sense, before anything starts
    if failure_score is not None:
        failure_score = check_score(failure_score, "failure_score")
    check_given(program, devset)
    check_labels(program, devset, metric)
    money, twice = check_budget(budget, unknown_price), hedging(hedge)
    tags = {**settings.tags, **check_tags(tags or {})}
    with (system or current_system()).holding(run_id) as at, context(**{"tags": tags} if tags else {}):
        if batched["batch"] is not None:
            refuse_nodes(requires, nodes)
            refuse_without_batches(program, metric, lm or settings.around("lm") or at.lm or settings.lm)
        money = money_settings(at.journal, run_id, money, budget)
        where = check_where(at.node, requires, nodes)
        run_id = at.start_run(
            "evaluate",
            program,
            devset,
            metric,
            lm=lm if system is not None else lm or settings.lm,
            settings=plan
            | money
            | where
            | {
                "batch": batched["batch"],
                "failure_score": failure_score,
                **twice,
                "deadline": check.seconds("deadline", batched["deadline"]),
            }
            | recording(trace, sample),
            run_id=run_id,
            limit=limit,
            on_bad_line=on_bad_line,
            force_resume=force_resume,
            labels=tags,
        )
        try:
            return at.wait_run(run_id, on_progress, display_progress)
        except KeyboardInterrupt:
            at.pause(run_id, "interrupted by Ctrl-C")
            print(f"run {run_id} is paused; resume with `{run_command('resume', run_id)}`", file=sys.stderr)
            raise
