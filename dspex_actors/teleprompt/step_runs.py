"""The run that a step of an optimiser is: started, or gone on with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dspex_actors.client.shared import PartOf, Shared
from dspex_actors.client.system import System
from dspex_actors.example import Example
from dspex_actors.runs.budget import WHOLE_BUDGET, WHOLE_CALLS
from dspex_actors.runs.plan.types import PlanSettings
from dspex_actors.runs.snapshot import pack_settings
from dspex_actors.runs.spec import EXAMPLE_SECONDS
from dspex_actors.teleprompt.steps import Ask, Bootstrap, Candidate, Evaluate, Observe, Run

#: Examples of a bootstrap in flight: at least so many, and so many per demo that is wanted.
IN_FLIGHT, IN_FLIGHT_PER_DEMO = 64, 4
#: An example whose teacher died is asked again once, by a pool of teachers.
POOL_ATTEMPTS = 2
#: Runs that are under way at a time: each has an evaluator, and all share the workers.
AT_ONCE = 8


@dataclass(slots=True)
class How:
    """How an optimisation is carried out.

    Args:
        system: the connection.
        run_id: of the optimisation; its steps' runs are `RUN_ID.0`, `RUN_ID.1` and so on.
        lm: for predictors that have none; None: as for `evaluate`.
        max_in_flight: examples at once, of each run; None: as for `evaluate`.
        force_resume: go on with runs of these ids that were others.
        forced_at: the same for those that were made before then, wall-clock seconds; None: for none.
        budget: US dollars that all runs may cost; None: no limit.
        calls: LM calls that all runs may make; None: no limit.
        unknown_price: with a budget: refuse or warn.
        spent: what they have cost so far, USD.
        tags: of every run.
        parent_id: of the optimisation's own run; None: it has none.
        watch: is told how far all is.
        tell: is told of each candidate, with a name that is the same whenever it is repeated.
        check: raises when it is to go on no more; `now`: also where it has just been asked.
        at_once: gives how many runs are under way at a time.
        shared: examples that its runs have in common; None: each has its own.
    """

    system: System
    run_id: str | None
    lm: Any = None
    max_in_flight: int | None = None
    force_resume: bool = False
    forced_at: float | None = None
    budget: float | None = None
    calls: int | None = None
    unknown_price: str = "refuse"
    spent: float = 0.0
    tags: Mapping[str, str] = field(default_factory=dict)
    watch: Callable[[dict[str, Any]], None] | None = None
    tell: Callable[[str, Candidate], None] | None = None
    parent_id: str | None = None
    check: Callable[..., None] = lambda *, now=False: None
    at_once: Callable[[], int] = lambda: AT_ONCE
    shared: Shared | None = None


def start(how: How, step: Run, run_id: str | None, money: Mapping[str, Any], *, force: bool = False) -> str:
    """Start the run of a step, or go on with it; return its id.

    Args:
        how: the optimisation.
        step: what is to do.
        run_id: the run's id; None makes one.
        money: settings for what it may cost.
        force: go on with it also where it was cancelled.

    Raises:
        ConfigError: there is another run of this id, or something of the step cannot be used.
    """
    lm, packed = how.lm, {}
    window: dict[str, Any] = {} if how.max_in_flight is None else {"max_in_flight": how.max_in_flight}
    if how.budget is not None and how.parent_id is not None:
        money = {**money, WHOLE_BUDGET: how.budget}
    if how.calls is not None and how.parent_id is not None:
        money = {**money, WHOLE_CALLS: how.calls}
    plain: dict[str, Any] = {"batch": None, "deadline": EXAMPLE_SECONDS, **money}
    match step:
        case Evaluate():
            kind, program, rows, metric = "evaluate", step.program, list(step.examples), step.metric
            plain |= {"failure_score": 0.0}
            lm = step.lm or lm
        case Observe():
            kind, program, rows, metric = "evaluate", step.program, list(step.examples), step.metric
            plain |= {"failure_score": step.failure_score} | ({"traces": True} if step.traces else {})
        case Ask():
            kind, program, metric = "evaluate", step.program, every_prediction
            rows = [Example(dict(row)).with_inputs(*row) for row in step.rows]
            plain |= {"failure_score": None}
            lm = step.lm or lm
        case Bootstrap():
            kind, program, rows = "bootstrap", step.teacher, list(step.examples)
            metric = step.metric or every_prediction
            own = {name: value for name, value in step.teacher_settings.items() if name != "lm"}
            lm, packed = step.teacher_settings.get("lm") or lm, {"teacher_settings": own}
            window = _window(step, how.max_in_flight)
            plain = {
                **money,
                # An exception of the program or the metric is final: trying again is what rounds are for.
                "failures": "skip",
                "rule": {"successes": step.max_bootstrapped_demos, "max_errors": step.max_errors},
                "max_rounds": step.max_rounds,
                "metric_threshold": step.metric_threshold,
                "teacher_settings": pack_settings(own),
            }
    PlanSettings(**window)  # refuses what makes no sense, before anything starts
    return how.system.start_run(
        kind,
        program,
        rows if how.shared is None or not rows else PartOf(how.shared, rows),
        metric,
        lm=lm,
        settings={**window, **plain},
        run_id=run_id,
        force_resume=how.force_resume or force,
        labels=how.tags,
        packed=packed,
        parent_id=how.parent_id,
    )


def _window(step: Bootstrap, most: int | None) -> dict[str, Any]:
    """Return the settings that say how many examples of a bootstrap are in flight.

    Args:
        step: the bootstrap.
        most: so many at most, in any run of the optimisation; None: it says nothing.
    """
    most = most if step.max_in_flight is None else step.max_in_flight
    if step.teacher_pool is not None:
        least, largest = (one if most is None else min(one, most) for one in step.teacher_pool)
        return {"max_in_flight": largest, "least_in_flight": least, "max_attempts": POOL_ATTEMPTS}
    wanted = max(IN_FLIGHT, IN_FLIGHT_PER_DEMO * step.max_bootstrapped_demos)
    window = {"max_in_flight": wanted if most is None else most}
    return window | {"spare": step.spare} if step.max_in_flight is None else window


def every_prediction(example: Any, prediction: Any, trace: Any = None) -> bool:
    """Let every prediction pass: the metric where there is none."""
    return True
