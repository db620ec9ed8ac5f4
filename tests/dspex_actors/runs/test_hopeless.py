"""When a run is no use: tables."""

import pytest

from dspex_actors.runs.plan.hopeless import IN_A_ROW, HopelessRule, is_final, is_hopeless

AUTH = {"type": "AuthError", "message": "no key"}
QUOTA = {"type": "QuotaExhausted", "message": "no money"}
CONFIG = {"type": "ConfigError", "message": "no such module"}
NO_MODEL = {"type": "InvalidRequest", "status": 404, "message": "no such model"}
BAD = {"type": "InvalidRequest", "status": 400, "message": "temperature"}
DOWN = {"type": "Overloaded", "status": 500, "message": "oops"}
METRIC = {"type": "KeyError", "message": "the metric failed", "final": True}
ROW = f"{IN_A_ROW} examples in a row failed with "
PROGRAM = {"type": "KeyError", "message": "x"}


@pytest.mark.parametrize(
    ("error", "final", "at_first", "later"),
    [
        (AUTH, True, True, True),
        (QUOTA, True, True, True),
        (CONFIG, True, True, False),
        (NO_MODEL, True, True, False),
        (BAD, True, False, False),
        (DOWN, False, False, False),
        (METRIC, True, False, False),
        (PROGRAM, False, False, False),
        ({"type": "ContextWindowExceeded"}, True, False, False),
        ({"type": "RateLimited", "status": 429}, False, False, False),
        ({"type": "WorkerDied"}, False, False, False),
    ],
)
def test_kinds(error, final, at_first, later):
    assert is_final(error) == final
    assert is_hopeless(error, answered=False) == at_first
    assert is_hopeless(error, answered=True) == later


@pytest.mark.parametrize(
    ("errors", "answered", "written", "verdict"),
    [
        ([AUTH] * IN_A_ROW, False, [], ROW + "AuthError: no key"),
        ([AUTH] * (IN_A_ROW + 5), False, [], ROW + "AuthError: no key"),
        ([NO_MODEL] * IN_A_ROW, False, [], ROW + "InvalidRequest: no such model"),
        ([AUTH] * (IN_A_ROW - 1) + [CONFIG], False, [], ROW + "ConfigError: no such module"),
        ([AUTH] * (IN_A_ROW - 1), False, [], None),
        ([AUTH] * (IN_A_ROW - 1) + [None], False, range(IN_A_ROW), None),
        ([AUTH] * (IN_A_ROW - 1) + [DOWN], False, range(IN_A_ROW), None),
        ([DOWN] * 50, False, range(50), None),
        ([None] + [CONFIG] * 50, False, range(51), None),
        ([None] + [QUOTA] * 50, False, [0], ROW + "QuotaExhausted: no money"),
        ([CONFIG] * 50, True, range(50), None),
        ([QUOTA] * 50, True, [], ROW + "QuotaExhausted: no money"),
        ([QUOTA] * IN_A_ROW + [None], True, [IN_A_ROW], ROW + "QuotaExhausted: no money"),
    ],
)
def test_rule(errors, answered, written, verdict):
    rule = HopelessRule(answered=answered)
    out = [result for number, error in enumerate(errors) for result in rule.observe(number, error)]
    assert (out, rule.verdict) == (list(written), verdict)


@pytest.mark.parametrize(
    ("errors", "answered", "complete", "written", "verdict"),
    [
        ([AUTH] * 3, False, True, [], "all 3 examples failed with AuthError: no key"),
        ([NO_MODEL], False, True, [], "InvalidRequest: no such model"),
        ([AUTH] * 3, False, False, [0, 1, 2], None),  # the run was stopped for something else
        ([QUOTA] * 3, True, True, [0, 1, 2], None),
        ([CONFIG, AUTH], False, True, [0, 1], None),
        ([PROGRAM, AUTH], False, True, [1], None),
        ([], False, True, [], None),
    ],
)
def test_few_examples(errors, answered, complete, written, verdict):
    rule = HopelessRule(answered=answered)
    for number, error in enumerate(errors):
        rule.observe(number, error)
    assert (rule.close(complete=complete), rule.verdict) == (written, verdict)
    assert rule.close(complete=complete) == []
