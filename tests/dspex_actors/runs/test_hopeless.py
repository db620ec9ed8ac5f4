"""When a run is no use: tables."""

import pytest

from dspex_actors.runs.plan.hopeless import IN_A_ROW, PATIENCE, HopelessRule, is_hopeless, is_own_fault

AUTH = {"type": "AuthError", "message": "no key"}
QUOTA = {"type": "QuotaExhausted", "message": "no money"}
CONFIG = {"type": "ConfigError", "message": "no such module"}
NO_MODEL = {"type": "InvalidRequest", "status": 404, "message": "no such model"}
BAD = {"type": "InvalidRequest", "status": 400, "message": "temperature"}
DOWN = {"type": "Overloaded", "status": 500, "message": "oops"}
GONE = {"type": "Overloaded", "code": "refused", "retryable": True, "message": "nobody listens"}
GATEWAY = {"type": "Overloaded", "status": 502, "message": "bad gateway"}
SILENT = {"type": "Timeout", "retryable": True, "message": "no complete answer"}
LATE = {"type": "DeadlineExceeded", "message": "no answer within the call's 600 s"}
#: An example that took too long says nothing of the others.
LONG = {"type": "DeadlineExceeded", "retryable": False, "message": "the example was not done"}
METRIC = {"type": "KeyError", "message": "the metric failed", "final": True}


def said(message):
    return {"type": "InvalidRequest", "status": 400, "message": message}


ROW = f"{IN_A_ROW} examples in a row failed with "
PROGRAM = {"type": "KeyError", "message": "x"}


#: A user's own class, which shares its name with one of ours.
OWN = {"type": "AuthError", "message": "mine", "own": True}
SLOW = {"type": "RateLimited", "status": 429, "message": "not before tomorrow"}


def failure(error):
    """Return our class of an error, None for one that is none of ours."""
    if error is None or "own" in error or error["type"] == "KeyError":
        return None
    return error["type"]


@pytest.mark.parametrize(
    ("error", "at_first", "later"),
    [
        (AUTH, True, True),
        (QUOTA, True, True),
        (CONFIG, True, False),
        (NO_MODEL, True, False),
        (BAD, True, False),
        (SLOW, True, False),
        (DOWN, False, False),
        (GONE, True, True),
        (GATEWAY, True, True),
        (SILENT, True, True),
        (LATE, True, True),
        (LONG, False, False),
        (METRIC, False, False),
        (PROGRAM, False, False),
        (OWN, False, False),
        ({"type": "ContextWindowExceeded"}, False, False),
        ({"type": "WorkerDied"}, False, False),
    ],
)
def test_kinds(error, at_first, later):
    assert is_hopeless(failure(error), error, answered=False) == at_first
    assert is_hopeless(failure(error), error, answered=True) == later


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
        ([OWN] * 50, False, range(50), None),
        ([LONG] * 50, False, range(50), None),
        ([None] + [GONE] * IN_A_ROW, False, [0], ROW + "Overloaded: nobody listens"),
        ([GONE, SILENT, LATE, GATEWAY] * 5, True, [], ROW + "Overloaded: bad gateway"),
        ([GONE] * (IN_A_ROW - 1) + [None] + [GONE] * (IN_A_ROW - 1), True, range(IN_A_ROW), None),
        ([BAD] * IN_A_ROW, False, [], ROW + "InvalidRequest: temperature"),
        ([said(f"no, request {n}a") for n in range(IN_A_ROW)], False, [], ROW + "InvalidRequest: no, request 19a"),
        ([said("no"), said("never")] * 25, False, range(49), None),  # the last one is held back
        ([BAD] * (IN_A_ROW - 1) + [said("another")], False, range(IN_A_ROW - 1), None),
        ([None] + [CONFIG] * 50, False, range(51), None),
        ([None] + [QUOTA] * 50, False, [0], ROW + "QuotaExhausted: no money"),
        ([CONFIG] * 50, True, range(50), None),
        ([None] + [GONE] * 50, False, [0], ROW + "Overloaded: nobody listens"),
        (([GONE] * (IN_A_ROW - 1) + [None]) * 3, True, range(3 * IN_A_ROW), None),
        ([QUOTA] * 50, True, [], ROW + "QuotaExhausted: no money"),
        ([QUOTA] * IN_A_ROW + [None], True, [IN_A_ROW], ROW + "QuotaExhausted: no money"),
    ],
)
def test_rule(errors, answered, written, verdict):
    rule = HopelessRule(answered=answered)
    out = [result for number, error in enumerate(errors) for result in rule.observe(number, failure(error), error)]
    assert (out, rule.verdict) == (list(written), verdict)


@pytest.mark.parametrize(
    ("errors", "answered", "complete", "written", "verdict"),
    [
        ([AUTH] * 3, False, True, [], "all 3 examples failed with AuthError: no key"),
        ([NO_MODEL], False, True, [], "InvalidRequest: no such model"),
        ([BAD] * 3, False, True, [0, 1, 2], None),  # few: they may be wrong each for itself
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
        rule.observe(number, failure(error), error)
    assert (rule.close(complete=complete), rule.verdict) == (written, verdict)
    assert rule.close(complete=complete) == []


@pytest.mark.parametrize(
    ("errors", "written", "verdict"),
    [
        ([None, QUOTA, None, AUTH, None], [0, 2, 4], "2 examples failed with AuthError: no key"),
        ([None, PROGRAM, QUOTA], [0, 1], "QuotaExhausted: no money"),
        ([None, GONE, PROGRAM], [0, 1, 2], None),
        ([None, *[QUOTA, None] * IN_A_ROW], [0, *range(2, 2 * IN_A_ROW + 1, 2)], "20 examples failed with QuotaExh"),
    ],
)
def test_where_something_hangs_on_all_results_an_account_is_none_of_an_example(errors, written, verdict):
    rule = HopelessRule(decides=True)
    out = [result for number, error in enumerate(errors) for result in rule.observe(number, failure(error), error)]
    assert out + rule.close(complete=True) == written
    assert rule.verdict is None if verdict is None else rule.verdict.startswith(verdict)
    assert rule.close(complete=True) == []
    assert not is_own_fault(rule.verdict)


def test_a_fault_of_its_own_is_told_from_those_of_its_surroundings():
    told = (
        "all 4 examples failed with {}: words",
        "20 examples in a row failed with {}: no",
        "{}: x",
    )
    for words in told:
        assert all(is_own_fault(words.format(kind)) for kind in ("ConfigError", "InvalidRequest"))
        assert not any(is_own_fault(words.format(kind)) for kind in ("AuthError", "Overloaded", "RateLimited"))
    for words in (None, "a limit on speed let nothing through: ConfigError: x", "its evaluator did not start"):
        assert not is_own_fault(words)


def test_limits_on_speed_that_let_nothing_through_end_the_run():
    rule = HopelessRule()
    for _ in range(PATIENCE - 1):
        for index in range(30):
            rule.waited(index, SLOW)
    assert rule.verdict is None
    rule.waited(3, SLOW)
    assert "a limit on speed let nothing through: 3 calls" in rule.verdict
    assert "not before tomorrow" in rule.verdict


def test_an_answer_to_anybody_says_that_it_goes_on():
    rule = HopelessRule()
    for _ in range(5):
        for _ in range(PATIENCE - 1):
            rule.waited(3, SLOW)
        rule.observe(7, None, None)
    assert rule.verdict is None


@pytest.mark.parametrize(
    ("kinds", "decides", "verdict"),
    [
        (["CircuitOpen"] * 3, True, "all 3 examples failed with CircuitOpen"),
        (["Timeout", "Overloaded"], True, "all 2 examples failed with Overloaded"),
        (["CircuitOpen"], True, "CircuitOpen: "),
        (["CircuitOpen"] * 3, False, None),
        (["Timeout"] * 3, True, None),
        (["CircuitOpen", None, "CircuitOpen"], True, None),
        (["CircuitOpen", "AdapterParseError", "CircuitOpen"], True, None),
    ],
)
def test_where_something_hangs_on_all_results_few_examples_that_nobody_answers_have_none(kinds, decides, verdict):
    rule, out = HopelessRule(decides=decides), []
    for number, kind in enumerate(kinds):
        out += rule.observe(number, kind, None if kind is None else {"type": kind, "message": "nobody answers"})
    out += rule.close(complete=True)
    assert out == ([] if verdict else list(range(len(kinds))))
    assert rule.verdict is None if verdict is None else rule.verdict.startswith(verdict)
    assert not is_own_fault(rule.verdict)
