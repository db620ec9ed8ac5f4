"""A run whose budget is used up while examples are under way: what becomes of these, and how the run ends."""

import pytest

from dspex_actors.runs.evaluator.ending import outcome_of
from dspex_actors.runs.plan.plan import RunPlan
from dspex_actors.runs.plan.stop_rule import StopRule
from dspex_actors.runs.plan.types import PlanSettings

USED_UP = "budget: 8 of 8 calls are made"


def under_way(count, rule=None, **settings):
    """Return a plan whose worker has so many examples, and the number of each one's sending."""
    plan = RunPlan(PlanSettings(max_in_flight=count, **settings), rule=rule)
    plan.worker_joined("a")
    for index in range(count):
        plan.feed(index, b"x")
    plan.source_ended()
    return plan, {index: send for chunk in plan.take() for index, send, _ in chunk.items}


@pytest.mark.parametrize("how", [{"free": True}, {}])
def test_what_would_be_tried_again_has_no_result_and_is_asked_when_the_run_goes_on(how):
    """It was written down as failed for good: a 429, or what was given back and had not even begun."""
    plan, sends = under_way(3)
    plan.put_off(0, sends[0], USED_UP)
    assert plan.result(1, sends[1], error="RateLimited", **how).fate == "again"
    assert not plan.take()
    assert not plan.finished
    assert plan.result(2, sends[2]).fate == "accept"
    assert (plan.finished, plan.failed, plan.finished_examples, plan._bytes) == (True, 0, 1, 0)
    assert outcome_of(plan, None, None) == ("paused", USED_UP)


@pytest.mark.parametrize(
    ("how", "settings"), [({"final": True}, {}), ({}, {"failures": "skip"}), ({}, {"max_attempts": 1})]
)
def test_what_would_not_be_tried_again_has_failed(how, settings):
    plan, sends = under_way(2, **settings)
    plan.put_off(0, sends[0], USED_UP)
    assert plan.result(1, sends[1], error="InvalidRequest", **how).fate == "accept"
    assert (plan.finished, plan.failed) == (True, 1)


def test_a_pass_that_has_what_it_wanted_has_ended_well_though_one_that_it_does_not_need_was_put_off():
    plan, sends = under_way(3, StopRule(successes=2))
    plan.put_off(2, sends[2], USED_UP)
    plan.result(1, sends[1])
    assert outcome_of(plan, None, None) == ("paused", USED_UP)
    plan.result(0, sends[0])
    assert plan.finished
    assert outcome_of(plan, None, None) == ("finished", "successes")
