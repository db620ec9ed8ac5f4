"""When refusals are a pattern: tables, and the shares that providers really give."""

import random

import pytest

from dspex_actors.errors import ContentBlocked, ContextWindowExceeded, InvalidRequest, Overloaded, RateLimited
from dspex_actors.lm.worker.refusals import Refusals, Rejections


@pytest.mark.parametrize(
    ("answers", "in_flight", "pauses"),
    [
        ("r", 0, []),
        ("rr", 0, []),
        ("rrr", 0, [2]),
        ("rrrrrr", 0, [2, 5]),
        ("r" * 6, 200, []),  # six of two hundred that were sent at once, and came back first
        ("r" * 30, 20, [6]),
        ("aaaaaaaaararar", 0, []),
        ("aaararar", 0, [7]),
    ],
)
def test_table(answers, in_flight, pauses):
    rule = Refusals()
    found = []
    for place, answer in enumerate(answers):
        if answer == "a":
            rule.answered()
        elif rule.refused(in_flight):
            found.append(place)
    assert found[:1] == pauses[:1]
    assert in_flight or found == pauses


@pytest.mark.parametrize(("share", "most"), [(0.01, 0), (0.05, 2), (0.1, 25)])
def test_a_few_refusals_here_and_there_hold_nobody_up(share, most):
    rng, rule, pauses = random.Random(1), Refusals(), 0
    for _ in range(10_000):
        if rng.random() < share:
            pauses += rule.refused(16)
        else:
            rule.answered()
    assert pauses <= most


def test_where_most_are_refused_every_third_refusal_pauses():
    rng, rule, pauses = random.Random(1), Refusals(), 0
    for _ in range(1_000):
        if rng.random() < 0.8:
            pauses += rule.refused(0)
        else:
            rule.answered()
    assert pauses > 150


def test_a_server_that_rejects_all_is_asked_ever_more_slowly_until_it_has_answered() -> None:
    rejections = Rejections()
    waits = [rejections.rejected(InvalidRequest("no")) for _ in range(Rejections.MOST)]
    assert waits[0] == Rejections.SECONDS
    assert waits[-2] == Rejections.LONGEST
    assert waits[-1] is None  # nobody minds
    assert rejections.rejected(InvalidRequest("no")) is None


def test_only_what_would_be_the_same_for_every_request_is_a_rejection() -> None:
    rejections = Rejections()
    for error in (ContextWindowExceeded("long"), Overloaded("away"), RateLimited("slow"), ContentBlocked("no")):
        assert rejections.rejected(error) is None
    assert rejections.rejected(RateLimited("no", retryable=False)) is not None
    rejections.answered()
    assert rejections.rejected(InvalidRequest("no")) is None
