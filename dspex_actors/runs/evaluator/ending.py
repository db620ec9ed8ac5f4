"""How a run begins and ends: its plan as the journal has the run, and the state that it is left in."""

from __future__ import annotations

from typing import Any, Literal

from dspex_actors.journal.records import RunState
from dspex_actors.runs.budget import BUDGET
from dspex_actors.runs.evaluator.crew import labels_of
from dspex_actors.runs.plan.plan import RunPlan
from dspex_actors.runs.plan.stop_rule import StopRule
from dspex_actors.runs.plan.types import PlanSettings

PLAN_FIELDS = ("max_in_flight", "least_in_flight", "spare", "failures", "max_attempts", "max_failures", "strategy")


def plan_of(settings: dict[str, Any], rule: StopRule | None, failed: int, sends: int) -> RunPlan:
    """Return the plan of a run.

    Args:
        settings: of the run.
        rule: when to stop early.
        failed: examples that failed in an earlier part of the run.
        sends: sendings are numbered on from here.
    """
    given = {name: settings[name] for name in PLAN_FIELDS if settings.get(name) is not None}
    labels, in_batches = labels_of(settings.get("requires")), settings.get("batch") is not None
    return RunPlan(PlanSettings(**given, requires=labels, in_batches=in_batches), rule=rule, failed=failed, sends=sends)


def nodes_of(settings: dict[str, Any], own: str) -> list[str] | None:
    """Return the nodes that may work for a run; None: all.

    Batches are kept by one: others would submit them again.

    Args:
        settings: of the run.
        own: the name of the node that keeps it.
    """
    return [own] if settings.get("batch") is not None else settings.get("nodes")


def inherits(settings: dict[str, Any]) -> Literal["wait", "cancel"]:
    """Return what becomes of calls that were under way for an evaluator that died.

    They are waited for. What waits for a batch would take a day; it is asked again, and found there.
    """
    return "wait" if settings.get("batch") is None else "cancel"


def outcome_of(plan: RunPlan, broken: str | None, verdict: str | None) -> tuple[RunState, str | None]:
    """Return the state that a run is left in, and why.

    Args:
        plan: of the run, which is over.
        broken: why its dataset could not be read on.
        verdict: why it is hopeless.
    """
    match plan.stopped:
        case None if broken is not None:
            return "failed", broken
        case None | "successes" | "errors":
            return "finished", plan.stopped
        case str(why) if why.startswith(BUDGET):
            reached = None if plan.rule is None else plan.rule.verdict  # what was put off is not needed then
            return ("paused", why) if reached is None else ("finished", reached)
        case "hopeless":
            return "failed", f"{verdict} (put that right and resume)"
        case "max_failures":
            return "failed", f"more than {plan.settings.max_failures} examples failed"
    return "failed", "an example failed, and failures='stop'"
