"""How many examples of a bootstrap are in flight: what it takes yet, between two limits."""

import math

from hypothesis import given
from hypothesis import strategies as st

from dspex_actors.runs.plan.plan import RunPlan
from dspex_actors.runs.plan.stop_rule import StopRule
from dspex_actors.runs.plan.types import PlanSettings


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 8), st.integers(1, 12), st.integers(0, 12))
def test_as_many_are_in_flight_as_it_takes_yet_by_what_has_passed(passes, successes, least, more):
    rule = StopRule(successes=successes)
    plan, asked, told = RunPlan(PlanSettings(max_in_flight=least + more, least_in_flight=least), rule=rule), 0, []
    for worker in ("a", "b"):
        plan.worker_joined(worker)
    while not plan.finished:
        while count := plan.wanted():
            for _ in range(count):
                if asked == len(passes):
                    plan.source_ended()
                    break
                plan.feed(asked, b"x")
                asked += 1
        before = plan.outstanding
        told += [item for chunk in plan.take() for item in chunk.items]
        looked_at, passed = rule.prefix, rule.succeeded
        expected = math.ceil((successes - passed) * (looked_at + 1) / (passed + 1))
        assert rule.still_to_try == expected
        may_be = max(least, min(least + more, expected))
        # One that holds more than its part by now begins nothing before it has ended that.
        assert before <= plan.outstanding <= max(before, min(may_be, len(passes) - looked_at))
        if not any(passes[:looked_at]):
            assert plan.outstanding == min(may_be, len(passes) - looked_at)
        if not told:
            assert plan.finished, "nothing is under way, and something is left to do"
            break
        index, send, _ = told.pop(0)
        plan.result(index, send, success=passes[index])
    assert rule.verdict == "successes" or rule.prefix == len(passes)
